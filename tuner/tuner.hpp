// Candidates in, choice out. Knows no convolution: it can be tested with invented costs.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace replk::tuner {

/// One ordered name and value of a problem or of the machine. Numeric ones give a distance to neighbouring keys; exact
/// ones must match for a transfer.
struct KeyField {
  std::string name, value;
  bool numeric = false;
};
using Key = std::vector<KeyField>;

struct Candidate {
  std::string text;              // the tiling's line: stored as it is
  double predicted_seconds = 0;  // orders the candidates
  int rank = 0;                  // among times within 1 %, the lower rank wins
};

enum class Mode { off, cached, now };

struct Choice {
  std::size_t index = 0;  // into the candidates
  std::string source;     // analytic, cache, measured, near(SHAPE)
  double seconds = 0;     // measured median of the pick; 0 if never measured
  double confidence = 0;  // 0..1, how sure the race is that no candidate is more than 1 % faster
  bool tainted = false;   // the machine was disturbed while it measured
};

}  // namespace replk::tuner
