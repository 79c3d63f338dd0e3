// Shapes, tilings, dense layers and names of networks, as a user types them or a cache holds them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.hpp"
#include "dense/choice.hpp"
#include "depthwise/problem/problem.hpp"
#include "depthwise/tiling.hpp"
#include "model/architecture.hpp"
#include "tests/fuzz/limits.hpp"

using namespace replk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Limits limits;
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
  if (const auto linear = dense::parse_linear(text); linear && dense::to_string(*linear) != text)
    std::abort();
  if (const auto c = dense::parse_convolution(text); c && dense::to_string(*c) != text) std::abort();
  try {
    if (model::find_architecture(std::string(text)).name.empty()) std::abort();
  } catch (const core::Error&) {
  }
  return 0;
}
