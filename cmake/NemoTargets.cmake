# Helpers shared by every CMakeLists.txt of the project.

# Warnings are errors in spirit: every preset builds without one on gcc 12 and clang 14, and CI sets
# CMAKE_COMPILE_WARNING_AS_ERROR.
set(NEMO_WARNINGS -Wall -Wextra -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # gcc 12 sees overlaps in std::string::insert and operator+ that cannot happen (gcc bug 105329).
  list(APPEND NEMO_WARNINGS -Wno-restrict)
endif()

# One object library per floor, all gathered in the static library `nemo`; tests of a floor link that
# floor's objects through `nemo`.
function(nemo_floor name)
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp")
  if(NOT sources)
    return()
  endif()
  add_library(nemo_${name} OBJECT ${sources})
  nemo_configure(nemo_${name})
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    # The same numbers as on x86-64, whose baseline has no fused multiply-add.
    target_compile_options(nemo_${name} PRIVATE -ffp-contract=off)
  endif()
  set_property(GLOBAL APPEND PROPERTY NEMO_FLOORS nemo_${name})
endfunction()

# Include paths, language level and warnings common to every target.
function(nemo_configure target)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE ${NEMO_WARNINGS})
  target_link_libraries(${target} PRIVATE OpenMP::OpenMP_CXX nlohmann_json::nlohmann_json nemo::pcre2)
endfunction()

# For code whose own speed does not matter: half the compile time. At -O1 gcc 12 believes in overruns
# of strings that cannot happen; the warnings that need optimisation are for -O3 and clang to find.
function(nemo_compile_fast target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1> $<$<CONFIG:RelWithDebInfo>:-O0>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE
      $<$<CONFIG:Release>:-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread;-Wno-maybe-uninitialized>)
  endif()
endfunction()
