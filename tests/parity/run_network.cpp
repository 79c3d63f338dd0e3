// replk_parity MODEL WEIGHTS INPUT OUT [gradient]: runs `pixels` (N x 3 x H x W) of INPUT and writes `logits`
// and `stage1`..`stage4`, or the `gradient` of the last map's centre. The program behind full_size.py.
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "model/gradient.hpp"
#include "model/network.hpp"
#include "model/safetensors.hpp"

using namespace replk::model;

namespace {

/// Pixels in one of two layouts.
struct Images {
  Shape shape;  // N x 3 x H x W
  std::vector<float> planes, pixels;
  std::int64_t area() const { return shape[2] * shape[3]; }
};

/// Body(index in planes, index in pixels) of every number.
template <class Body>
void for_numbers(const Images& images, Body body) {
  for (std::int64_t n = 0; n < images.shape[0]; ++n)
    for (std::int64_t c = 0; c < 3; ++c)
      for (std::int64_t p = 0; p < images.area(); ++p)
        body((n * 3 + c) * images.area() + p, (n * images.area() + p) * 3 + c);
}

Images read_images(const char* path) {
  const SafetensorsFile file(path);
  Images images{file.tensors().at("pixels").shape, {}, {}};
  images.planes.resize(static_cast<std::size_t>(elements(images.shape)));
  images.pixels.resize(images.planes.size());
  file.read("pixels", images.planes);
  for_numbers(images, [&](auto plane, auto pixel) { images.pixels[pixel] = images.planes[plane]; });
  return images;
}

void write_outputs(Network& network, const Images& images, const char* path) {
  const std::int64_t batch = images.shape[0];
  const int height = static_cast<int>(images.shape[2]), width = static_cast<int>(images.shape[3]);
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
  network.run({images.pixels.data(), batch, height, width}, output);
  write_safetensors(path, results);
}

void write_gradient(const Network& network, Images images, const char* path) {
  Gradient gradient(network, static_cast<int>(images.shape[2]), static_cast<int>(images.shape[3]));
  std::printf("gradient's memory: %.0f MB\n", static_cast<double>(gradient.bytes()) / 1e6);
  std::vector<float> slopes(images.pixels.size());
  for (std::int64_t n = 0; n < images.shape[0]; ++n)
    gradient.of_centre(&images.pixels[n * 3 * images.area()], &slopes[n * 3 * images.area()]);
  for_numbers(images, [&](auto plane, auto pixel) { images.planes[plane] = slopes[pixel]; });
  const TensorToWrite result{"gradient", images.shape, images.planes.data()};
  write_safetensors(path, {&result, 1});
}

}  // namespace

int main(int argc, char** argv) {
  const bool gradient = argc == 6 && std::string_view(argv[5]) == "gradient";
  if (argc != 5 && !gradient) {
    std::fprintf(stderr, "usage: replk_parity MODEL WEIGHTS INPUT OUT [gradient]\n");
    return 2;
  }
  try {
    Network network(find_architecture(argv[1]), *open_safetensors(argv[2]));
    const Images images = read_images(argv[3]);
    gradient ? write_gradient(network, images, argv[4]) : write_outputs(network, images, argv[4]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "replk_parity: %s\n", error.what());
    return 2;
  }
}
