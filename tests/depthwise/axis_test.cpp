// What an axis says, against its definition: output q sums taps t of input q * stride + t * dilation +
// offset.
#include "depthwise/problem/axis.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace replk::depthwise {
namespace {

bool meets(const Axis& a, int q, int tap) {
  const int at = q * a.stride + tap * a.dilation + a.offset;
  return at >= 0 && at < a.input;
}

void check(const Axis& a) {
  SCOPED_TRACE(testing::Message() << a.input << " inputs, " << a.output << " outputs, stride " << a.stride
                                  << ", dilation " << a.dilation << ", offset " << a.offset << ", " << a.taps
                                  << " taps");
  std::int64_t pairs = 0;
  int first = a.taps, end = 0;
  for (int q = 0; q < a.output; q++) {
    const Range taps = a.taps_of(q);
    for (int t = 0; t < a.taps; t++) {
      ASSERT_EQ(t >= taps.first && t < taps.end, meets(a, q, t)) << "output " << q << " tap " << t;
      const Range outputs = a.outputs_of(t);
      ASSERT_EQ(q >= outputs.first && q < outputs.end, meets(a, q, t)) << "output " << q << " tap " << t;
      if (!meets(a, q, t)) continue;
      pairs++;
      first = std::min(first, t);
      end = std::max(end, t + 1);
    }
  }
  EXPECT_EQ(a.meeting(), pairs);
  const Range reach = a.reach();
  EXPECT_EQ(reach.empty(), pairs == 0);
  if (pairs == 0) return;
  EXPECT_EQ(reach, (Range{first, end}));
  // What was cropped meets nothing, so that nothing is lost.
  EXPECT_EQ(a.cropped(reach).meeting(), pairs);
  for (int q = 0; q < a.output; q++) EXPECT_EQ(a.cropped(reach).origin(q), a.origin(q) + first * a.dilation);
}

TEST(Axis, IsItsDefinition) {
  for (int input : {1, 2, 7, 20})
    for (int output : {1, 3, 25})
      for (int stride : {1, 2, 5, 16})
        for (int dilation : {1, 2, 7})
          for (int taps : {1, 2, 5, 30})
            for (int offset : {-200, -31, -7, -1, 0, 1, 6, 40})
              check({input, output, stride, dilation, offset, taps});
}

}  // namespace
}  // namespace replk::depthwise
