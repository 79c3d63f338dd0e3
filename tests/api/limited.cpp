// What limits_test runs under limits: limited cpus | depthwise THREADS | model THREADS. Prints one line and
// exits with 0 where all results are those of one thread; a limit that ends the process shows as another end.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "replk/replk.hpp"

namespace {

std::atomic<int> warnings{0};
void count_warnings(replk_log_level level, const char* message, void*) {
  if (level != REPLK_LOG_WARNING) return;
  warnings++;
  std::fprintf(stderr, "%s\n", message);
}

std::vector<float> numbers(std::size_t count, std::uint32_t seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(seed >> 8) * 0x1p-23f - 1;
  }
  return values;
}

/// tiling: where it is empty, what one thread would pick is left there; else that is used, as another one has
/// other bits.
std::vector<float> depthwise(const char* algorithm, int threads, std::string& tiling) {
  constexpr int batch = 4, channels = 64, size = 20, kernel = 13;
  const std::vector<float> weights = numbers(std::size_t{channels} * kernel * kernel, 1),
                           bias = numbers(channels, 2),
                           src = numbers(std::size_t{batch} * channels * size * size, 3);
  replk::DepthwiseOptions options;
  options.threads = threads;
  (tiling.empty() ? options.algorithm : options.tiling) = tiling.empty() ? algorithm : tiling;
  const replk::Depthwise plan("n4c64h20w20k13", {weights.data()}, bias.data(), options);
  if (tiling.empty()) tiling = plan.tiling();
  std::vector<float> dst(src.size());
  for (int round = 0; round < 3; round++) plan.run(src.data(), dst.data());
  return dst;
}

std::vector<float> model(int threads) {
  replk::ModelOptions options;
  options.threads = threads;
  replk::Model network("replknet-test", "", options);
  const std::vector<float> pixels = numbers(std::size_t{2} * 64 * 64 * 3, 4);
  std::vector<float> logits;
  for (int round = 0; round < 3; round++) logits = network.classify(pixels, 2, 64, 64);
  return logits;
}

/// Of the largest value. Products may be cut up otherwise for more threads; that is all that may differ.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); i++) {
    const double d = std::abs(double(a[i]) - double(b[i]));
    most = d <= most ? most : d;  // keeps a NaN
    largest = std::max(largest, std::abs(double(a[i])));
  }
  return a.size() == b.size() && largest > 0 ? most / largest : 1;
}

int verdict(bool right) {
  std::printf("right=%d warnings=%d\n", right, warnings.load());
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string what = argc > 1 ? argv[1] : "";
  const int threads = argc > 2 ? std::atoi(argv[2]) : 0;
  replk_set_log_callback(count_warnings, nullptr);
  if (what == "cpus") {
    replk_cpu_info info{};
    info.struct_size = sizeof info;
    replk_get_cpu_info(&info);
    std::printf("default=%d cpus=%d\n", replk_default_threads(), info.cores);
    return 0;
  }
  if (what == "depthwise") {
    bool right = true;
    for (const char* algorithm : {"portable", "direct", "row-spectral"}) {
      std::string tiling;
      const std::vector<float> one = depthwise(algorithm, 1, tiling);
      right = right && difference(one, depthwise(algorithm, threads, tiling)) == 0;
    }
    return verdict(right);
  }
  if (what == "model") return verdict(difference(model(1), model(threads)) < 1e-5);
  return 2;
} catch (const std::exception& error) {
  std::printf("%s\n", error.what());
  return 3;
}
