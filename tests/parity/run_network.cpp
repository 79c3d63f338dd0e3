// replk_parity MODEL WEIGHTS INPUT OUT: runs `pixels` (N x 3 x H x W) of INPUT and writes `logits` and
// `stage1`..`stage4`. The program behind full_size.py.
#include <cstdio>
#include <exception>
#include <string>

#include "model/network.hpp"
#include "model/safetensors.hpp"

using namespace replk::model;

namespace {

void run(const char* model, const char* weights, const char* input_path, const char* output_path) {
  const SafetensorsFile file(input_path);
  const Shape shape = file.tensors().at("pixels").shape;
  std::vector<float> planes(static_cast<std::size_t>(elements(shape))), pixels(planes.size());
  file.read("pixels", planes);
  const std::int64_t batch = shape.at(0), area = shape.at(2) * shape.at(3);
  for (std::int64_t n = 0; n < batch; ++n)
    for (std::int64_t c = 0; c < 3; ++c)
      for (std::int64_t p = 0; p < area; ++p) pixels[(n * area + p) * 3 + c] = planes[(n * 3 + c) * area + p];

  const int height = static_cast<int>(shape[2]), width = static_cast<int>(shape[3]);
  Network network(find_architecture(model), *open_safetensors(weights));
  std::vector<float> logits(static_cast<std::size_t>(batch) * network.classes());
  std::array<std::vector<float>, 4> features;
  Output output{logits.data(), {}};
  std::vector<TensorToWrite> results{{"logits", {batch, network.classes()}, logits.data()}};
  for (int s = 0; s < 4; ++s) {
    const FeatureShape size = network.feature_shape(s, height, width);
    const Shape stage{batch, size.channels, size.height, size.width};
    features[s].resize(static_cast<std::size_t>(elements(stage)));
    output.features[s] = features[s].data();
    results.push_back({"stage" + std::to_string(s + 1), stage, features[s].data()});
  }
  network.run({pixels.data(), batch, height, width}, output);
  write_safetensors(output_path, results);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: replk_parity MODEL WEIGHTS INPUT OUT\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argv[3], argv[4]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "replk_parity: %s\n", error.what());
    return 2;
  }
}
