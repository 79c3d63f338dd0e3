// Seeded values for the tests of the C API, which see nothing of the library's inside.
#pragma once
#include <cstddef>
#include <random>
#include <vector>

inline std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}
