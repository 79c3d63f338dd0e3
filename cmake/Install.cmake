# Installs the library, its headers, the program and what lets others find them: find_package(replk CONFIG) gives
# replk::replk_cpu, pkg-config knows replk_cpu. The libdnnl that the library was built against goes beside it.
include(CMakePackageConfigHelpers)

install(TARGETS replk_cpu EXPORT replk-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/lib/include/replk DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES $<TARGET_FILE:DNNL::dnnl> RENAME $<TARGET_SONAME_FILE_NAME:DNNL::dnnl>
  DESTINATION ${CMAKE_INSTALL_LIBDIR}
  PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(dnnl_DIR MATCHES "^${PROJECT_BINARY_DIR}/onednn/")  # the wheels' licence goes where their library goes
  install(DIRECTORY ${PROJECT_BINARY_DIR}/onednn/share/doc/onednn DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()
if(TARGET replk)
  file(RELATIVE_PATH library_from_program /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
  set_target_properties(replk PROPERTIES INSTALL_RPATH $ORIGIN/${library_from_program})
  install(TARGETS replk RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/models DESTINATION ${CMAKE_INSTALL_DATADIR}/replk)
endif()

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/replk)
install(EXPORT replk-targets NAMESPACE replk:: DESTINATION ${package})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/replk-config.cmake.in ${PROJECT_BINARY_DIR}/replk-config.cmake
  INSTALL_DESTINATION ${package} PATH_VARS CMAKE_INSTALL_LIBDIR NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/replk-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/replk-config.cmake ${PROJECT_BINARY_DIR}/replk-config-version.cmake
  DESTINATION ${package})

# The prefix is given relative to the .pc file itself, so that an installed tree can be moved.
file(RELATIVE_PATH prefix_from_pkgconfig /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" prefix_from_pkgconfig "${prefix_from_pkgconfig}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/replk_cpu.pc.in ${PROJECT_BINARY_DIR}/replk_cpu.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/replk_cpu.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
