// Shapes and tilings as a user types them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.hpp"
#include "depthwise/problem.hpp"
#include "depthwise/tiling.hpp"

using namespace replk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const depthwise::Problem problem = depthwise::parse(text);
    if (depthwise::parse(depthwise::to_string(problem)) != problem) std::abort();
    if (problem.useful_macs() < 0 || problem.out_height() < 1 || problem.out_width() < 1) std::abort();
  } catch (const core::Error&) {
  }
  try {
    const depthwise::Tiling tiling = depthwise::Tiling::parse(text);
    if (depthwise::Tiling::parse(tiling.to_string()).to_string() != tiling.to_string()) std::abort();
  } catch (const core::Error&) {
  }
  return 0;
}
