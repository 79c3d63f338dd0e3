# Installs the library, its headers, the program and what lets others find them: find_package(replk CONFIG) gives
# replk::replk_cpu, pkg-config knows replk_cpu. The libdnnl that the library was built against goes beside it, or, in a
# system's package, where no other program looks for one. Components: runtime, dev, program, and the licences (Debian's
# packages have a file of their own for these).
include(CMakePackageConfigHelpers)
if(REPLK_BUILD_DEB)
  include(Debian)  # says where libdnnl goes, and whether it does
else()
  set(REPLK_ONEDNN_DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

file(RELATIVE_PATH onednn_from_library /${CMAKE_INSTALL_LIBDIR} /${REPLK_ONEDNN_DESTINATION})
string(REGEX REPLACE "/$" "" onednn_from_origin "$ORIGIN/${onednn_from_library}")
set_target_properties(replk_cpu PROPERTIES INSTALL_RPATH ${onednn_from_origin})
install(TARGETS replk_cpu EXPORT replk-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/lib/include/replk DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev)
if(NOT REPLK_SYSTEM_ONEDNN)
  install(FILES $<TARGET_FILE:DNNL::dnnl> RENAME $<TARGET_SONAME_FILE_NAME:DNNL::dnnl>
    DESTINATION ${REPLK_ONEDNN_DESTINATION} COMPONENT runtime)
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT licences)
if(dnnl_DIR MATCHES "^${PROJECT_BINARY_DIR}/onednn/")  # the wheels' licence goes where their library goes
  install(DIRECTORY ${PROJECT_BINARY_DIR}/onednn/share/doc/onednn DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT licences)
endif()
if(TARGET replk)
  file(RELATIVE_PATH onednn_from_program /${CMAKE_INSTALL_BINDIR} /${REPLK_ONEDNN_DESTINATION})
  string(REGEX REPLACE "/$" "" onednn_from_program "${onednn_from_program}")
  set_target_properties(replk PROPERTIES INSTALL_RPATH $ORIGIN/${onednn_from_program})
  install(TARGETS replk RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/models DESTINATION ${CMAKE_INSTALL_DATADIR}/replk COMPONENT program)
endif()

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/replk)
install(EXPORT replk-targets NAMESPACE replk:: DESTINATION ${package} COMPONENT dev)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/replk-config.cmake.in ${PROJECT_BINARY_DIR}/replk-config.cmake
  INSTALL_DESTINATION ${package} PATH_VARS CMAKE_INSTALL_LIBDIR NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/replk-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/replk-config.cmake ${PROJECT_BINARY_DIR}/replk-config-version.cmake
  DESTINATION ${package} COMPONENT dev)

# The prefix is given relative to the .pc file itself, so that an installed tree can be moved.
file(RELATIVE_PATH prefix_from_pkgconfig /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" prefix_from_pkgconfig "${prefix_from_pkgconfig}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/replk_cpu.pc.in ${PROJECT_BINARY_DIR}/replk_cpu.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/replk_cpu.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
