# Debian packages of what Install.cmake installs, a component each: libreplk-cpu0, libreplk-cpu-dev and replk.
# cmake/debian.py makes what is in none of the sources: manuals, completions, copyright and changelog.
set(papers ${PROJECT_BINARY_DIR}/papers)
if(dnnl_DIR MATCHES "^${PROJECT_BINARY_DIR}/onednn/")
  set(REPLK_SYSTEM_ONEDNN OFF)
  set(REPLK_ONEDNN_DESTINATION ${CMAKE_INSTALL_LIBDIR}/replk)  # a private directory: it is nobody else's libdnnl
else()
  set(REPLK_SYSTEM_ONEDNN ON)
  set(REPLK_ONEDNN_DESTINATION ${CMAKE_INSTALL_LIBDIR})
  # It is opened when it is first needed, so that dpkg-shlibdeps does not see it.
  execute_process(COMMAND dpkg-query -S ${dnnl_library} OUTPUT_VARIABLE owner COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE ":.*" "" CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS "${owner}")
endif()
set(name_runtime libreplk-cpu${REPLK_SOVERSION})
set(name_dev libreplk-cpu-dev)
set(name_program replk)
foreach(component runtime dev program)
  install(DIRECTORY ${papers}/doc/ DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name_${component}} COMPONENT ${component})
endforeach()
install(DIRECTORY ${papers}/program/ DESTINATION ${CMAKE_INSTALL_DATADIR} COMPONENT program)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME replk)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")  # each has its own
set(CPACK_PACKAGE_VENDOR "libreplk_cpu")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_OUTPUT_FILE_PREFIX ${PROJECT_BINARY_DIR}/packages)
set(CPACK_COMPONENTS_ALL runtime dev program)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/debian.py maintainer REGEX "^MAINTAINER = ")  # the changelog's
string(REGEX REPLACE "^MAINTAINER = \"(.*)\"$" "\\1" CPACK_DEBIAN_PACKAGE_MAINTAINER "${maintainer}")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR})

set(exactly "${name_runtime} (= ${PROJECT_VERSION})")
set(about "\nIt convolves channel by channel with kernels from 7x7 to 63x63, as\nRepLKNet, SLaK, ConvNeXt and UniRepLKNet do, in code that it\ngenerates for the CPU at hand.")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${name_runtime})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
# CPack's own list would have the private libdnnl in it.
file(WRITE ${PROJECT_BINARY_DIR}/shlibs "libreplk_cpu ${REPLK_SOVERSION} ${name_runtime} (>= ${PROJECT_VERSION})\n")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/shlibs)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "large-kernel depthwise convolution on x86-64 CPUs${about}")
set(CPACK_DEBIAN_DEV_PACKAGE_NAME ${name_dev})
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "${exactly}")
set(CPACK_DEBIAN_DEV_DESCRIPTION "large-kernel depthwise convolution on CPUs (headers)${about}\n\nThis package has the headers of C and C++, and what CMake and\npkg-config find them by.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME ${name_program})
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_DEPENDS "${exactly}")  # which has the oneDNN that both open
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION "program for networks with large depthwise kernels on CPUs\nreplk classifies images with RepLKNet, SLaK, ConvNeXt and UniRepLKNet,\nmeasures their speed and tunes libreplk_cpu for a machine. A small\ntrained network comes with it.")
include(CPack)

# The wheels' libdnnl has its symbols: install() strips what was built here alone.
if(NOT REPLK_SYSTEM_ONEDNN)
  cmake_language(DEFER CALL install CODE
    "execute_process(COMMAND ${CMAKE_STRIP} --strip-unneeded $<TARGET_SONAME_FILE_NAME:DNNL::dnnl>
       WORKING_DIRECTORY \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${REPLK_ONEDNN_DESTINATION} COMMAND_ERROR_IS_FATAL ANY)"
    COMPONENT runtime)
endif()
