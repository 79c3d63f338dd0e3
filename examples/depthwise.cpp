// SLaK's cross of stripes, 51x5 + 5x51 + 5x5, as one problem of three summed branches, with ReLU.
//
//   c++ -std=c++20 depthwise.cpp $(pkg-config --cflags --libs replk_cpu) -o depthwise
#include <iostream>
#include <replk/replk.hpp>
#include <vector>

int main() {
  constexpr int channels = 96, size = 56;
  const replk_branch branches[] = {{51, 5, 1, 1}, {5, 51, 1, 1}, {5, 5, 1, 1}};
  std::vector<std::vector<float>> weights;
  for (const replk_branch& b : branches)
    weights.emplace_back(static_cast<std::size_t>(channels) * b.kernel_h * b.kernel_w, 0.01f);

  replk_depthwise_problem problem = replk_depthwise_problem_default();
  problem.channels = channels;
  problem.height = problem.width = size;
  problem.branches = branches;
  problem.branch_count = 3;
  problem.activation = REPLK_RELU;

  try {
    const std::vector<std::span<const float>> spans(weights.begin(), weights.end());
    const std::vector<float> bias(channels, -1.0f);
    const replk::Depthwise convolution(problem, spans, bias);
    const std::vector<float> src(static_cast<std::size_t>(size) * size * channels, 1.0f);
    std::vector<float> dst(src.size());
    convolution.run(src.data(), dst.data());
    std::cout << convolution.shape() << " by " << convolution.tiling() << " (" << convolution.source()
              << ")\n"
              << "corner " << dst[0] << ", centre " << dst[(28 * size + 28) * channels] << '\n';
  } catch (const replk::Error& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
