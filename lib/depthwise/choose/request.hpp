// What a plan asks for: made once, and taken by everything below it.
#pragma once
#include "core/features.hpp"
#include "depthwise/problem/kernel.hpp"
#include "depthwise/problem/pass.hpp"
#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

struct Request {
  /// Throws invalid_argument as validate() does.
  Request(const Problem& problem, Pass pass, Features features, int threads)
      : problem(problem),
        pass(pass),
        features(features),
        threads(threads),
        kernel(merged_geometry(problem)) {}

  Problem problem;
  Pass pass;
  Features features;  // that code may use
  int threads;        // of a run
  bool cold = false;  // its pick is raced as a network meets it (Trial::cool), not warm
  Kernel kernel;      // the problem's; of a stripe its part

  Isa isa() const { return isa_of(features); }
  Axis vertical() const { return depthwise::vertical(problem, kernel); }
  Axis horizontal() const { return depthwise::horizontal(problem, kernel); }
};

}  // namespace replk::depthwise
