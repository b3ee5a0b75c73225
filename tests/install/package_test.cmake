# One way of using libnemo from another project, run by ctest. CHECK names the way; WORK is a folder
# of this test's own; nothing outside it is written.

# run(WHAT COMMAND...): fails the test with the command's output when it fails.
function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${what} failed (${status}):\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# Installs the library into WORK/prefix, by way of another folder: packages get moved.
function(install_library)
  run("install" "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/staged")
  file(RENAME "${WORK}/staged" "${WORK}/prefix")
  foreach(file include/nemo/version.hpp "${LIBDIR}/libnemo.a" "${LIBDIR}/pkgconfig/nemo.pc"
               bin/nemo share/nemo/nemo-tiny.gguf)
    if(NOT EXISTS "${WORK}/prefix/${file}")
      message(FATAL_ERROR "the install has no ${file}")
    endif()
  endforeach()
endfunction()

# The program, given the installed model, must end by naming the version that was built.
function(expect_version program)
  run("the consumer" "${program}" "${WORK}/prefix/share/nemo/nemo-tiny.gguf")
  if(NOT output MATCHES "libnemo ${VERSION}, kernels [a-z0-9]+")
    message(FATAL_ERROR "the consumer printed:\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
set(consumer "${SOURCE}/tests/install/consumer")
set(toolchain -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_FLAGS=${FLAGS}"
              -DCMAKE_BUILD_TYPE=Release)
# Whoever uses the library never needs what its program and its tests are built with.
set(forbidden -DCMAKE_DISABLE_FIND_PACKAGE_CLI11=ON -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON
              -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)

if(CHECK STREQUAL "find_package")
  install_library()
  run("configuring" "${CMAKE_COMMAND}" -S "${consumer}" -B "${WORK}/build" ${toolchain} ${forbidden}
      -DCMAKE_DISABLE_FIND_PACKAGE_xsimd=ON "-DCMAKE_PREFIX_PATH=${WORK}/prefix")
  run("building" "${CMAKE_COMMAND}" --build "${WORK}/build")
  expect_version("${WORK}/build/consumer")

elseif(CHECK STREQUAL "pkg_config")
  find_program(pkg_config NAMES pkg-config pkgconf REQUIRED)
  install_library()
  set(ENV{PKG_CONFIG_PATH} "${WORK}/prefix/${LIBDIR}/pkgconfig:$ENV{PKG_CONFIG_PATH}")
  run("pkg-config" "${pkg_config}" --cflags --libs nemo)
  separate_arguments(options UNIX_COMMAND "${FLAGS} ${consumer}/main.cpp ${output}")
  run("building" "${COMPILER}" -o "${WORK}/consumer" ${options})
  expect_version("${WORK}/consumer")

elseif(CHECK STREQUAL "subdirectory")
  # Configuring is what can go wrong here; compiling the library once more would only take time.
  run("configuring" "${CMAKE_COMMAND}" -S "${consumer}" -B "${WORK}/build" ${toolchain} ${forbidden}
      "-DNEMO_SUBDIRECTORY=${SOURCE}")
  run("listing targets" "${CMAKE_COMMAND}" --build "${WORK}/build" --target help)
  if(output MATCHES "test_|nemo_program")
    message(FATAL_ERROR "a consumer would build our tests or program:\n${output}")
  endif()

else()
  message(FATAL_ERROR "no check named '${CHECK}'")
endif()
