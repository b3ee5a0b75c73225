# Installs the library, its headers and CMake/pkg-config files, and, when built, the program.
include(CMakePackageConfigHelpers)

set(nemo_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/nemo")
install(TARGETS nemo EXPORT nemoTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT library)
install(EXPORT nemoTargets NAMESPACE nemo:: DESTINATION "${nemo_cmake_dir}" COMPONENT library)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/nemo" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        COMPONENT library FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/nemoConfig.cmake.in"
                              "${PROJECT_BINARY_DIR}/package/nemoConfig.cmake"
                              INSTALL_DESTINATION "${nemo_cmake_dir}" PATH_VARS CMAKE_INSTALL_DATADIR)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/nemoConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/package/nemoConfig.cmake"
              "${PROJECT_BINARY_DIR}/package/nemoConfigVersion.cmake"
              "${CMAKE_CURRENT_LIST_DIR}/NemoPcre2.cmake"
        DESTINATION "${nemo_cmake_dir}" COMPONENT library)

# The .pc file names its folders relative to itself, so that an installed tree may be moved.
file(RELATIVE_PATH nemo_pc_prefix "/p/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/p")
configure_file("${CMAKE_CURRENT_LIST_DIR}/nemo.pc.in" "${PROJECT_BINARY_DIR}/package/nemo.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/package/nemo.pc"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT library)

install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/NOTICE"
        DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT library)
if(TARGET nemo_program)
  install(TARGETS nemo_program RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT program)
  install(FILES "${PROJECT_SOURCE_DIR}/models/nemo-tiny.gguf"
          DESTINATION "${CMAKE_INSTALL_DATADIR}/nemo" COMPONENT program OPTIONAL)
endif()
