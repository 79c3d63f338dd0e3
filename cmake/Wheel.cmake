# What a Python wheel carries beside the package (pyproject.toml): libreplk_cpu, what it needs, the program and the
# networks that ship, in replk/. Libraries lie in one directory and look for each other there ($ORIGIN).
set(wheel replk)

# The wheel's libstdc++ is inside: an older system's would be too old. Safe because nothing but replk_* is exported.
# What of it is not used stays out.
set(static_runtime -static-libstdc++ -Wl,--gc-sections)
target_link_options(replk_cpu PRIVATE ${static_runtime})
target_link_options(replk PRIVATE ${static_runtime})

# Under its own name: a process has one OpenMP pool if all who want libgomp.so.1 get the same, and glibc shares by name.
# A renamed copy, as auditwheel would make, is a second pool that spins beside PyTorch's.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libgomp.so.1
  OUTPUT_VARIABLE libgomp OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
file(REAL_PATH ${libgomp} libgomp)

# A wheel holds no links: one name, or the file is in it twice.
set_target_properties(replk_cpu PROPERTIES VERSION ${REPLK_SOVERSION} INSTALL_RPATH $ORIGIN)
install(TARGETS replk_cpu LIBRARY DESTINATION ${wheel}/lib COMPONENT wheel NAMELINK_SKIP)
install(FILES ${libgomp} RENAME libgomp.so.1 DESTINATION ${wheel}/lib COMPONENT wheel)
install(FILES $<TARGET_FILE:DNNL::dnnl> RENAME $<TARGET_SONAME_FILE_NAME:DNNL::dnnl>
  DESTINATION ${wheel}/lib COMPONENT wheel)
# Of Intel's build: its table of local symbols is a tenth of the wheel; and so that auditwheel finds the libgomp above.
find_program(PATCHELF patchelf REQUIRED)
set(dnnl \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${wheel}/lib/$<TARGET_SONAME_FILE_NAME:DNNL::dnnl>)
install(CODE "
  execute_process(COMMAND ${CMAKE_STRIP} --strip-unneeded ${dnnl} COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${PATCHELF} --set-rpath $ORIGIN ${dnnl} COMMAND_ERROR_IS_FATAL ANY)"
  COMPONENT wheel)

set_target_properties(replk PROPERTIES INSTALL_RPATH $ORIGIN/../lib)
install(TARGETS replk RUNTIME DESTINATION ${wheel}/bin COMPONENT wheel)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/ DESTINATION ${wheel}/share/replk/models COMPONENT wheel)

if(TARGET replk_torch)
  add_dependencies(replk replk_torch)  # so that what pyproject.toml builds is the same with and without torch
  target_link_options(replk_torch PRIVATE ${static_runtime})
  install(TARGETS replk_torch LIBRARY DESTINATION ${wheel}/torch COMPONENT wheel)
endif()

if(TARGET replk_onnxruntime)
  add_dependencies(replk replk_onnxruntime)
  target_link_options(replk_onnxruntime PRIVATE ${static_runtime})
  install(TARGETS replk_onnxruntime LIBRARY DESTINATION ${wheel}/onnx COMPONENT wheel)
endif()

# What replk.openvino compiles against the OpenVINO that it finds.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/integrations/openvino ${PROJECT_SOURCE_DIR}/integrations/layer
  ${PROJECT_SOURCE_DIR}/lib/include/replk DESTINATION ${wheel}/openvino/source COMPONENT wheel
  FILES_MATCHING PATTERN *.cpp PATTERN *.hpp PATTERN *.h)

# What is carried or compiled in, and its licences.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
execute_process(COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/bill.py wheel ${PROJECT_VERSION}
  OUTPUT_FILE ${PROJECT_BINARY_DIR}/bill.cdx.json COMMAND_ERROR_IS_FATAL ANY)
install(FILES ${PROJECT_BINARY_DIR}/bill.cdx.json DESTINATION ${wheel}/licences COMPONENT wheel)
if(EXISTS ${PROJECT_BINARY_DIR}/onednn/share/doc/onednn)
  install(DIRECTORY ${PROJECT_BINARY_DIR}/onednn/share/doc/onednn/ DESTINATION ${wheel}/licences/onednn COMPONENT wheel)
endif()
foreach(package libgomp1 libfmt-dev libjpeg62-turbo libpng16-16 libpng16-16t64 libxbyak-dev nlohmann-json3-dev libcli11-dev)
  if(EXISTS /usr/share/doc/${package}/copyright)
    install(FILES /usr/share/doc/${package}/copyright DESTINATION ${wheel}/licences RENAME ${package} COMPONENT wheel)
  endif()
endforeach()
if(TARGET replk_onnxruntime AND EXISTS ${REPLK_ONNXRUNTIME_HEADERS}/../share/doc/libonnxruntime-dev/copyright)
  install(FILES ${REPLK_ONNXRUNTIME_HEADERS}/../share/doc/libonnxruntime-dev/copyright DESTINATION ${wheel}/licences
    RENAME libonnxruntime-dev COMPONENT wheel)
endif()
if(EXISTS /usr/share/common-licenses/GPL-3)  # libgomp's, with the GCC runtime library exception
  install(FILES /usr/share/common-licenses/GPL-3 DESTINATION ${wheel}/licences COMPONENT wheel)
endif()
