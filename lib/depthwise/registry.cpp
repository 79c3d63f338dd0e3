#include "depthwise/algorithm.hpp"
#include "depthwise/direct/direct.hpp"
#include "depthwise/portable/portable.hpp"
#include "depthwise/row_spectral/row_spectral.hpp"
#include "depthwise/spectral/spectral.hpp"
#include "depthwise/stripes/stripes.hpp"

namespace replk::depthwise {

const std::vector<const Algorithm*>& algorithms() {
  // clang-format off
  static const std::vector<const Algorithm*> all{
      &portable_algorithm(),
      &direct_algorithm(),
      &row_spectral_algorithm(),
      &spectral_algorithm(),
      &stripes_algorithm(),
  };
  // clang-format on
  return all;
}

const Algorithm* find_algorithm(std::string_view name) {
  for (const Algorithm* algorithm : algorithms())
    if (algorithm->name() == name) return algorithm;
  return nullptr;
}

}  // namespace replk::depthwise
