# cmake --install: headers, libraries, CMake package and pkg-config files.
include(CMakePackageConfigHelpers)

install(TARGETS manyhands EXPORT manyhands_targets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/manyhands DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp"
  PATTERN cli EXCLUDE)  # headers only
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/manyhands)
install(EXPORT manyhands_targets NAMESPACE manyhands:: FILE manyhands-targets.cmake DESTINATION ${package_dir})
# Each MPI's library is a part of its own, for it can be used only where that MPI is installed.
foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
  if(flavour STREQUAL default)
    install(TARGETS manyhands_native_default EXPORT manyhands_mpi_default)
  endif()
  install(TARGETS manyhands_mpi_${flavour} EXPORT manyhands_mpi_${flavour})
  install(EXPORT manyhands_mpi_${flavour} NAMESPACE manyhands:: FILE manyhands-mpi-${flavour}.cmake
    DESTINATION ${package_dir})
endforeach()
configure_package_config_file(cmake/manyhands-config.cmake.in ${PROJECT_BINARY_DIR}/manyhands-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/manyhands-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/manyhands-config.cmake ${PROJECT_BINARY_DIR}/manyhands-config-version.cmake
  DESTINATION ${package_dir})
# The prefix as seen from the .pc files, so that the installed tree can be moved. They list libraries and no pkg-config
# packages: theirs may add definitions to the compilation of programs, which include none of them.
file(RELATIVE_PATH pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/manyhands.pc.in ${PROJECT_BINARY_DIR}/manyhands.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/manyhands.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
  if(flavour STREQUAL default)  # has no package of its own to refer to
    continue()
  endif()
  set(native ${MANYHANDS_MPI_PACKAGE_${flavour}})
  configure_file(cmake/manyhands-mpi.pc.in ${PROJECT_BINARY_DIR}/manyhands-mpi-${flavour}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/manyhands-mpi-${flavour}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
