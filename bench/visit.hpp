// A visit of a row in a process of its own. In one long process, heap and pages are in another state each
// time that a row comes round, and times moved by up to a factor of two; a process that times one shape alone
// repeats.
#pragma once
#include <string>
#include <vector>

#include "measure/depthwise.hpp"

namespace replk::bench {

struct VisitOptions {
  int threads = 1;
  bool spoil = false;  // the last output of ours, which the check must see
  std::vector<std::string> skipped_peers = {};
  int cold_rounds = 0;
};

/// Measures the shape in a child process, which is this program again. Throws core::Error with the child's
/// message where it refuses.
DepthwiseRow visit_in_child(const std::string& shape, const VisitOptions& options);

/// The child's part: measures and writes the row, or the error, to standard output. Returns the exit code.
int visit_as_child(const std::string& shape, const VisitOptions& options);

}  // namespace replk::bench
