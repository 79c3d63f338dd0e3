# GCC 12 sees overlaps in the standard library's strings that are none (GCC bug 105651).
set(REPLK_WARNINGS -Wall -Wextra $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)

# replk_box(NAME SOURCES ... LINK ...): one box of the house as an object library replk_NAME. What it may include follows
# from what it links; tests/house/arrows.py checks the arrows as well.
function(replk_box name)
  cmake_parse_arguments(BOX "" "" "SOURCES;LINK" ${ARGN})
  add_library(replk_${name} OBJECT ${BOX_SOURCES})
  # Includes are spelt from the root of the house: "core/error.hpp", "jit/x64/code.hpp", "tuner/tuner.hpp".
  target_include_directories(replk_${name} PUBLIC ${PROJECT_SOURCE_DIR}/lib ${PROJECT_SOURCE_DIR})
  # Contraction would let the compiler change the bits that class exact defines; fused operations are written out.
  target_compile_options(replk_${name} PRIVATE ${REPLK_WARNINGS} -ffp-contract=off)
  target_link_libraries(replk_${name} PUBLIC ${BOX_LINK})
  set_property(GLOBAL APPEND PROPERTY REPLK_BOXES replk_${name})
endfunction()

# replk_aggregate(NAME): all boxes as one static library, for tests and programs that look inside. A target gets the
# objects of the object libraries it names and not those of theirs in turn, so a test that linked one box would miss what
# lies under it. Of a static library the linker takes what is needed. Never installed.
function(replk_aggregate name)
  get_property(boxes GLOBAL PROPERTY REPLK_BOXES)
  add_library(${name} STATIC EXCLUDE_FROM_ALL)
  target_link_libraries(${name} PUBLIC ${boxes})
endfunction()
