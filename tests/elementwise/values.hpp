// What the tests of elementwise compute on, and how near to double they ask it to be.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace replk::elementwise {

using Values = std::vector<float>;
using Doubles = std::vector<double>;

inline Values random_values(std::size_t count, unsigned seed, float scale = 1, float offset = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(offset, scale);
  Values values(count);
  for (float& v : values) v = normal(random);
  return values;
}

inline double gelu(double x) {
  return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
}

/// Of the largest that is wanted.
inline void expect_near(const Doubles& wanted, const Values& got, double tolerance) {
  double largest = 0;
  for (double w : wanted) largest = std::max(largest, std::abs(w));
  ASSERT_EQ(wanted.size(), got.size());
  for (std::size_t i = 0; i < got.size(); i++)
    ASSERT_NEAR(wanted[i], got[i], tolerance * largest) << "element " << i;
}

}  // namespace replk::elementwise
