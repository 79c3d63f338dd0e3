// Time, and whether the machine is steady while it is taken. Tests bring invented clocks.
#pragma once
#include <functional>

namespace replk::tuner {

struct Clock {
  /// Seconds from some fixed point.
  std::function<double()> now;
  /// Seconds that a fixed piece of work takes just now; compared with itself only.
  std::function<double()> calibrate;
  /// Seconds that threads of this process were ready to run while somebody else had the core, all threads
  /// together.
  std::function<double()> lost;
};

/// The steady clock, and a calibration kernel of about 20 us that keeps the floating-point ports busy: a
/// lower clock, a throttled core, a busy sibling thread and a stolen time slice all make it slower. It is the
/// best of three, so that one interrupt does not count.
Clock system_clock();

}  // namespace replk::tuner
