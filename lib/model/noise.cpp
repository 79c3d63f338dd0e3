#include "model/noise.hpp"

#include <random>

#include "model/calibrate.hpp"

namespace replk::model {
namespace {

/// Every value of every pixel as likely as any other, normalised.
std::vector<float> noise(const Preprocessing& preprocessing, int side) {
  std::mt19937 random(1);  // the standard fixes what it gives
  std::vector<float> pixels(std::size_t{3} * side * side);
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] =
        (static_cast<float>(random() % 256) / 255 - preprocessing.mean[i % 3]) / preprocessing.std[i % 3];
  return pixels;
}

}  // namespace

std::map<int, InputKnowledge> calibrate_with_noise(const Architecture& architecture,
                                                   const WeightSource& source, int threads) {
  constexpr int step = 64;
  const int side = (architecture.preprocessing.size * 3 / 2 + step - 1) / step * step;
  NetworkOptions options;
  options.threads = threads;
  options.numerics = depthwise::Numerics::exact;
  options.precision = Precision::fp32;
  options.fixed_order = true;
  Network network(architecture, source, options);
  Calibration calibration(network, source, 1);
  const std::vector<float> pixels = noise(architecture.preprocessing, side);
  calibration.add({pixels.data(), 1, side, side});
  return calibration.result();
}

}  // namespace replk::model
