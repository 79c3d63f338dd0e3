# What the library and its programs need, each found by find_package; docs/dependencies.md says what for. oneDNN alone is
# fetched where the system has none that will do.

# replk_find(NAME DEBIAN_PACKAGE [arguments of find_package]...)
macro(replk_find name package)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR "${name} was not found. On Debian: apt-get install ${package} (./run installs all that is missing)")
  endif()
endmacro()

# One OpenMP runtime: libgomp, which oneDNN's wheels run on. Clang's pragmas would bring its own, so nothing is compiled
# with them there and core/openmp.hpp calls libgomp itself.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang|IntelLLVM")
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libgomp.so
    OUTPUT_VARIABLE libgomp OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT IS_ABSOLUTE "${libgomp}")
    message(FATAL_ERROR "libgomp, GCC's OpenMP runtime, was not found; oneDNN runs on it, and Clang's own would be a second "
      "one in the process. On Debian: apt-get install g++")
  endif()
  set(REPLK_OPENMP gomp)
  set(REPLK_OPENMP_FLAG -lgomp)
else()
  replk_find(OpenMP g++ COMPONENTS CXX)
  set(REPLK_OPENMP OpenMP::OpenMP_CXX)
  set(REPLK_OPENMP_FLAG -fopenmp)
endif()
replk_find(Threads libc6-dev)
replk_find(fmt libfmt-dev)
replk_find(xbyak libxbyak-dev)
replk_find(nlohmann_json nlohmann-json3-dev)
replk_find(JPEG libjpeg-dev)
replk_find(PNG libpng-dev)
if(REPLK_BUILD_CLI)
  replk_find(CLI11 libcli11-dev)
  replk_find(ZLIB zlib1g-dev)
endif()
if(REPLK_BUILD_BENCH)
  replk_find(benchmark libbenchmark-dev)
endif()
if(REPLK_BUILD_TESTS)
  replk_find(GTest libgtest-dev)
  replk_find(Python3 python3 COMPONENTS Interpreter)
endif()

find_package(dnnl 3 CONFIG QUIET)
if(NOT dnnl_FOUND)
  foreach(version config IN ZIP_LISTS dnnl_CONSIDERED_VERSIONS dnnl_CONSIDERED_CONFIGS)
    message(STATUS "oneDNN ${version} in ${config} is refused: version 3 is needed")
  endforeach()
  include(OneDnnWheels)
  find_package(dnnl 3 CONFIG REQUIRED PATHS ${REPLK_ONEDNN_ROOT} NO_DEFAULT_PATH)
endif()
message(STATUS "oneDNN ${dnnl_VERSION} from ${dnnl_DIR}")
# What is built looks there for the libdnnl that it opens; what is installed looks beside itself.
list(APPEND CMAKE_BUILD_RPATH $<TARGET_FILE_DIR:DNNL::dnnl>)

# Somebody's own oneDNN may run on something else.
get_target_property(dnnl_library DNNL::dnnl LOCATION)
execute_process(COMMAND ${CMAKE_READELF} -d ${dnnl_library} OUTPUT_VARIABLE needed ERROR_QUIET)
if(needed MATCHES "lib(omp|iomp5|tbb)\\.so[^]]*")
  message(WARNING "${dnnl_library} runs on ${CMAKE_MATCH_0}, this library on libgomp: two pools of threads in one process, "
    "which wait for each other. Better: a oneDNN that was built with GCC's OpenMP.")
endif()
