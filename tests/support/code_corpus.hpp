// What generators are asked for in earnest: the code of real plans and of all kinds of dense layers, for
// tests that look at code without running it.
#pragma once
#include <functional>
#include <vector>

namespace replk::test {

/// Each makes some kernels, for AVX2 or AVX-512, through the code cache.
std::vector<std::function<void()>> code_corpus();

}  // namespace replk::test
