# Helpers shared by every CMakeLists.txt of the project.

# Warnings are errors in spirit: every preset builds without one on gcc 12 and clang 14.
set(NEMO_WARNINGS -Wall -Wextra -Wconversion -Wshadow)

# Finds PCRE2 (8-bit) through its own CMake package (vcpkg, conan, brew) or pkg-config (Debian).
macro(nemo_find_pcre2)
  find_package(PCRE2 CONFIG QUIET COMPONENTS 8BIT)
  if(TARGET PCRE2::8BIT)
    add_library(nemo_pcre2 INTERFACE)
    target_link_libraries(nemo_pcre2 INTERFACE PCRE2::8BIT)
  else()
    find_package(PkgConfig REQUIRED)
    pkg_check_modules(NEMO_PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
    add_library(nemo_pcre2 INTERFACE)
    target_link_libraries(nemo_pcre2 INTERFACE PkgConfig::NEMO_PCRE2)
  endif()
endmacro()

# One object library per floor, all gathered in the static library `nemo`; tests of a floor link that
# floor's objects through `nemo`.
function(nemo_floor name)
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp")
  if(NOT sources)
    return()
  endif()
  add_library(nemo_${name} OBJECT ${sources})
  nemo_configure(nemo_${name})
  set_property(GLOBAL APPEND PROPERTY NEMO_FLOORS nemo_${name})
endfunction()

# Include paths, language level and warnings common to every target.
function(nemo_configure target)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE ${NEMO_WARNINGS})
  target_link_libraries(${target} PRIVATE OpenMP::OpenMP_CXX nlohmann_json::nlohmann_json nemo_pcre2)
endfunction()
