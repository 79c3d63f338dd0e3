// Which of a layer's three convolutions is asked for.
#pragma once
#include <string_view>

namespace replk::depthwise {

enum class Pass { forward, input_gradient, weight_gradient };

/// As keys of the tune cache and the command line have it.
constexpr std::string_view name(Pass pass) {
  constexpr std::string_view names[] = {"forward", "input-gradient", "weight-gradient"};
  return names[static_cast<int>(pass)];
}

}  // namespace replk::depthwise
