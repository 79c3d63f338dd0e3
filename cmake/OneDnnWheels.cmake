# Puts oneDNN's OpenMP build, as Intel publishes it on PyPI, into the build tree and sets REPLK_ONEDNN_ROOT. What is
# unpacked stays: another configure downloads nothing. To build without a network, put the two wheels into a directory
# and name it in REPLK_ONEDNN_WHEELS.
set(REPLK_ONEDNN_ROOT ${CMAKE_BINARY_DIR}/onednn)
set(downloads ${CMAKE_BINARY_DIR}/onednn-wheels)
if(PROJECT_IS_TOP_LEVEL)
  set(downloads ${PROJECT_SOURCE_DIR}/build/onednn-wheels)  # one download for the trees of all presets
endif()
set(REPLK_ONEDNN_WHEELS ${downloads} CACHE PATH "Where oneDNN's wheels lie, or are downloaded to")

set(version 2023.2.0)
set(platform py2.py3-none-manylinux1_x86_64)
set(onednn_devel_cpu_gomp_sha256 9763c69e8c907e119056bd52ad918ca84ac9ba939d130a99dfa95ccca3e5e284)
set(onednn_cpu_gomp_sha256 2f22a54d6a890ed14bfa185d42a4be65d8b5b1df85dc1f0f3a9abe31620416fb)

function(replk_download_wheel distribution wheel)
  string(REPLACE _ - package ${distribution})
  find_package(Python3 QUIET COMPONENTS Interpreter)
  execute_process(COMMAND ${Python3_EXECUTABLE} -m pip --version RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
  if(NOT Python3_FOUND OR NOT result EQUAL 0)
    message(FATAL_ERROR "oneDNN 3 was not found, and Python's pip, which would download it, is missing. Either install "
      "oneDNN 3, or pip (on Debian: apt-get install python3-pip), or put ${wheel} into a directory and name that "
      "directory with -DREPLK_ONEDNN_WHEELS=")
  endif()
  message(STATUS "Downloading ${package} ${version} from PyPI")
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all:
            --dest ${REPLK_ONEDNN_WHEELS} ${package}==${version}
    RESULT_VARIABLE result ERROR_VARIABLE errors)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "pip could not download ${package} ${version}:\n${errors}")
  endif()
endfunction()

function(replk_unpack_wheel distribution)
  set(wheel ${distribution}-${version}-${platform}.whl)
  if(NOT EXISTS ${REPLK_ONEDNN_WHEELS}/${wheel})
    replk_download_wheel(${distribution} ${wheel})
  endif()
  file(SHA256 ${REPLK_ONEDNN_WHEELS}/${wheel} sum)
  if(NOT sum STREQUAL ${distribution}_sha256)
    message(FATAL_ERROR "${REPLK_ONEDNN_WHEELS}/${wheel}: the SHA-256 is ${sum}, not ${${distribution}_sha256}. "
      "Remove the file to download it again.")
  endif()
  file(ARCHIVE_EXTRACT INPUT ${REPLK_ONEDNN_WHEELS}/${wheel} DESTINATION ${REPLK_ONEDNN_ROOT}.part
    PATTERNS ${ARGN})
  file(COPY ${REPLK_ONEDNN_ROOT}.part/${distribution}-${version}.data/data/ DESTINATION ${REPLK_ONEDNN_ROOT}.tree)
endfunction()

if(NOT EXISTS ${REPLK_ONEDNN_ROOT}/wheels-${version})
  file(REMOVE_RECURSE ${REPLK_ONEDNN_ROOT} ${REPLK_ONEDNN_ROOT}.part ${REPLK_ONEDNN_ROOT}.tree)
  replk_unpack_wheel(onednn_devel_cpu_gomp */include/* */lib/cmake/*)
  replk_unpack_wheel(onednn_cpu_gomp */libdnnl.so.3.2 */share/doc/*)  # the wheel holds it three times, once a name
  file(CREATE_LINK libdnnl.so.3.2 ${REPLK_ONEDNN_ROOT}.tree/lib/libdnnl.so.3 SYMBOLIC)
  file(CREATE_LINK libdnnl.so.3 ${REPLK_ONEDNN_ROOT}.tree/lib/libdnnl.so SYMBOLIC)
  file(TOUCH ${REPLK_ONEDNN_ROOT}.tree/wheels-${version})
  # Last and at once: a configure that was interrupted leaves no half-filled directory that looks complete.
  file(RENAME ${REPLK_ONEDNN_ROOT}.tree ${REPLK_ONEDNN_ROOT})
  file(REMOVE_RECURSE ${REPLK_ONEDNN_ROOT}.part)
endif()
