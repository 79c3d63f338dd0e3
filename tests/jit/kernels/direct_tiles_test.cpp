#include <gtest/gtest.h>

#include "jit/kernels/direct.hpp"

namespace replk::jit {
namespace {

/// Every tile by itself, whether all its taps meet the map found tap by tap, against the stretches.
void check(const DirectSpec& spec) {
  const int count = (spec.out_width + spec.columns - 1) / spec.columns;
  int i = 0, first = 0;
  for (const DirectTile& stretch : direct_tiles(spec))
    for (int k = 0; k < stretch.repeat; k++, i++) {
      const int width = spec.out_width / count + (i < spec.out_width % count);
      bool interior = true;
      for (int column = first; column < first + width; column++)
        for (int tap : spec.taps) {
          const int at = column * spec.stride_w + tap;
          interior &= at >= 0 && at < spec.width;
        }
      ASSERT_EQ(stretch.first + k * width, first) << spec.text();
      ASSERT_EQ(stretch.width, width) << spec.text();
      ASSERT_EQ(stretch.interior, interior) << spec.text();
      first += width;
    }
  ASSERT_EQ(i, count) << spec.text();
}

TEST(DirectTiles, AreEveryTileOfARow) {
  for (int width : {1, 5, 14, 57, 100})
    for (int taps : {1, 3, 4, 31})
      for (int stride : {1, 2, 3})
        for (int padding : {0, taps / 2, taps - 1})
          for (int columns : {1, 2, 5, 28}) {
            if (width + 2 * padding < taps) continue;
            DirectSpec spec;
            spec.width = width;
            spec.out_width = (width + 2 * padding - taps) / stride + 1;
            spec.stride_w = stride;
            spec.columns = columns;
            for (int t = 0; t < taps; t++) spec.taps.push_back(t - padding);
            spec.support.assign(taps, std::vector<bool>(taps, true));
            check(spec);
          }
}

TEST(DirectTiles, OfALongRowAreFewStretches) {
  DirectSpec spec;
  spec.width = spec.out_width = 65536;
  spec.columns = 7;
  for (int t = -15; t <= 15; t++) spec.taps.push_back(t);
  spec.support.assign(31, std::vector<bool>(31, true));
  check(spec);
  EXPECT_LE(direct_tiles(spec).size(), 10u);
}

}  // namespace
}  // namespace replk::jit
