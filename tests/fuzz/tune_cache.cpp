// A line of the tune cache.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tests/fuzz/limits.hpp"
#include "tuner/record.hpp"

using namespace replk::tuner;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const replk::fuzz::Limits limits;
  const Line line = read_line({reinterpret_cast<const char*>(data), size});
  if (line.kind == LineKind::record) {
    if (read_line(to_line(line.record)).kind != LineKind::record) std::abort();
    (void)distance({}, line.record.key);
  }
  return 0;
}
