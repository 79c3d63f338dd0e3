// Where a branch's taps lie, for the double references.
#pragma once
#include <utility>

#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

/// Where tap (0, 0) of a branch meets the input for output (0, 0), from the padding of the branch alone:
/// written without Axis, which it stands against.
inline std::pair<int, int> corner(const Problem& p, const Branch& branch) {
  Problem bounding = p, alone = p;
  alone.branches = {branch};
  set_default_padding(bounding);
  set_default_padding(alone);
  return {bounding.pad_h.before - alone.pad_h.before - p.pad_h.before,
          bounding.pad_w.before - alone.pad_w.before - p.pad_w.before};
}

}  // namespace replk::depthwise
