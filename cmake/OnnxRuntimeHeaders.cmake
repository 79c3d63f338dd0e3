# Puts the headers of ONNX Runtime's C API (MIT) into the build tree and sets REPLK_ONNXRUNTIME_HEADERS, the directory that
# holds onnxruntime/: PyPI's package has none, Debian 13's has. What is unpacked stays. To build without a network, name such
# a directory with -DREPLK_ONNXRUNTIME_HEADERS=.
set(downloads ${CMAKE_BINARY_DIR})
if(PROJECT_IS_TOP_LEVEL)
  set(downloads ${PROJECT_SOURCE_DIR}/build)  # one download for the trees of all presets
endif()
set(REPLK_ONNXRUNTIME_HEADERS ${downloads}/onnxruntime-headers/usr/include CACHE PATH "Where ONNX Runtime's headers lie")
set(package libonnxruntime-dev_1.21.0+dfsg-1_amd64.deb)
set(sha256 14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08)

if(NOT EXISTS ${REPLK_ONNXRUNTIME_HEADERS}/onnxruntime/onnxruntime_c_api.h)
  set(tree ${downloads}/onnxruntime-headers)
  # The mirror that apt uses here, where there is one.
  execute_process(COMMAND apt-get indextargets --format "\$(REPO_URI)" OUTPUT_VARIABLE mirrors ERROR_QUIET)
  if(NOT mirrors MATCHES "(http[^\n]*/debian)/?\n")
    set(CMAKE_MATCH_1 http://deb.debian.org/debian)
  endif()
  set(url ${CMAKE_MATCH_1}/pool/main/o/onnxruntime/${package})
  message(STATUS "Downloading ONNX Runtime's headers: ${url}")
  file(REMOVE_RECURSE ${tree} ${tree}.part)
  file(DOWNLOAD ${url} ${tree}.part/${package} STATUS status TIMEOUT 120)
  if(EXISTS ${tree}.part/${package})
    file(SHA256 ${tree}.part/${package} sum)
  endif()
  if(NOT sum STREQUAL sha256)
    message(FATAL_ERROR "${url}: not the file of SHA-256 ${sha256} (${status}). Put the headers of ONNX Runtime 1.17 or "
      "later into DIRECTORY/onnxruntime and give -DREPLK_ONNXRUNTIME_HEADERS=DIRECTORY")
  endif()
  file(ARCHIVE_EXTRACT INPUT ${tree}.part/${package} DESTINATION ${tree}.part)
  file(ARCHIVE_EXTRACT INPUT ${tree}.part/data.tar.xz DESTINATION ${tree}.part PATTERNS */include/* */copyright)
  file(RENAME ${tree}.part ${tree})
endif()
