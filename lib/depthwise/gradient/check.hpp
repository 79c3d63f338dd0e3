// Which problems have gradients.
#pragma once
#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

/// Throws invalid_argument, naming what is too much, where the problem has an activation, a scale or a
/// residual: a gradient is that of the convolution and its bias alone.
void check_gradient(const Problem& problem);

}  // namespace replk::depthwise
