#include "depthwise/problem/segments.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace replk::depthwise {
namespace {

/// The segment that begins with output `out`, from the definition.
Segment defined(const Axis& a, int out, int size) {
  Segment s{out, std::min(size, a.output - out), 0, 0, 0};
  const std::int64_t base = std::int64_t{out} * a.stride + a.offset;
  const std::int64_t end = base + std::int64_t{s.outs - 1} * a.stride + a.taps;
  s.in = static_cast<int>(std::clamp<std::int64_t>(base, 0, a.input));
  s.ins = static_cast<int>(std::clamp<std::int64_t>(end, s.in, a.input)) - s.in;
  s.first = static_cast<int>(s.in - base);
  return s;
}

void check(const Axis& a, int size) {
  SCOPED_TRACE(testing::Message() << a.input << " inputs, " << a.output << " outputs, stride " << a.stride
                                  << ", offset " << a.offset << ", " << a.taps << " taps, by " << size);
  const Segments segments(a, size);
  int index = 0;
  for (int out = 0; out < a.output; index++) {
    ASSERT_LT(index, segments.size());
    const Segment is = segments[index], should = defined(a, out, size > 0 ? size : a.output);
    const Segment like = segments.runs()[segments.run_of(index)].segment;
    EXPECT_EQ(is.out, should.out);
    EXPECT_EQ(is.outs, should.outs);
    EXPECT_EQ(is.ins, should.ins);
    EXPECT_TRUE(like.outs == is.outs && like.ins == is.ins);
    if (should.ins > 0) {
      EXPECT_EQ(is.in, should.in);
      EXPECT_EQ(is.first, should.first);
      EXPECT_EQ(like.first, is.first);
    }
    if (testing::Test::HasFailure()) return;
    out += should.outs;
  }
  EXPECT_EQ(index, segments.size());
}

TEST(Segments, AreThoseOfTheDefinition) {
  for (int inputs : {1, 7, 48, 96, 97, 200, 1000})
    for (int taps : {1, 4, 7, 31, 63, 150})
      for (int stride : {1, 2, 5})
        for (int padding : {0, taps / 2, taps - 1, taps + 70, -3}) {
          const int outputs = (inputs + 2 * padding - taps) / stride + 1;
          if (inputs + 2 * padding < taps) continue;
          for (int size : {0, 1, 10, 48, 96, 5000}) check({inputs, outputs, stride, 1, -padding, taps}, size);
        }
}

TEST(Segments, OfALargeMapAreFewRuns) {
  for (int taps : {7, 63}) {
    const Segments segments({65536, 65536, 1, 1, -(taps / 2), taps}, 48);
    EXPECT_EQ(segments.size(), 1366);
    EXPECT_LE(segments.runs().size(), 4u);
  }
  // In the padding they are all alike.
  const Segments padded({100, 65536, 1, 1, -30000, 7}, 48);
  EXPECT_LE(padded.runs().size(), 8u);
  EXPECT_EQ(padded.most_ins(), 54);
  EXPECT_EQ(Segments().size(), 0);
}

}  // namespace
}  // namespace replk::depthwise
