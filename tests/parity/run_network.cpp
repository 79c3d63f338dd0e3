// replk_parity MODEL WEIGHTS INPUT OUT [gradient | PRECISION]: runs `pixels` (N x 3 x H x W) of INPUT and
// writes `logits` and `stage1`..`stage4`, or the `gradient` of the last map's centre. In int8, what INPUT
// holds as `calibration` (the same layout) is calibrated with. The program behind full_size.py and
// precisions.py.
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "model/calibrate.hpp"
#include "model/gradient.hpp"
#include "model/network.hpp"
#include "model/precision.hpp"
#include "model/quantise_network.hpp"
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

Images read_images(const SafetensorsFile& file, const char* name) {
  Images images{file.tensors().at(name).shape, {}, {}};
  images.planes.resize(static_cast<std::size_t>(elements(images.shape)));
  images.pixels.resize(images.planes.size());
  file.read(name, images.planes);
  for_numbers(images, [&](auto plane, auto pixel) { images.pixels[pixel] = images.planes[plane]; });
  return images;
}

/// In int8 by what these images show.
QuantisedNetwork calibrated(const Architecture& architecture, const WeightSource& weights,
                            const Images& images) {
  Network network(architecture, weights);
  const std::int64_t count = images.shape[0];
  Calibration calibration(network, weights, static_cast<int>(count));
  for (std::int64_t n = 0; n < count; ++n)
    calibration.add({&images.pixels[n * 3 * images.area()], 1, static_cast<int>(images.shape[2]),
                     static_cast<int>(images.shape[3])});
  QuantiseOptions options;
  options.seen = calibration.result();
  Architecture own = architecture;
  own.classes = network.classes();
  return quantise_network(own, weights, options);
}

Network open_network(const Architecture& architecture, const WeightSource& weights,
                     const SafetensorsFile& input, const char* precision) {
  NetworkOptions options;
  if (precision) options.precision = parse_precision(precision).value();
  if (options.precision == replk::Precision::int8 && input.tensors().contains("calibration"))
    return {architecture, calibrated(architecture, weights, read_images(input, "calibration")).tensors,
            options};
  return {architecture, weights, options};
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
  if (argc != 5 && argc != 6) {
    std::fprintf(stderr, "usage: replk_parity MODEL WEIGHTS INPUT OUT [gradient | PRECISION]\n");
    return 2;
  }
  const bool gradient = argc == 6 && std::string_view(argv[5]) == "gradient";
  try {
    const SafetensorsFile input(argv[3]);
    Network network = open_network(find_architecture(argv[1]), *open_safetensors(argv[2]), input,
                                   argc == 6 && !gradient ? argv[5] : nullptr);
    const Images images = read_images(input, "pixels");
    gradient ? write_gradient(network, images, argv[4]) : write_outputs(network, images, argv[4]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "replk_parity: %s\n", error.what());
    return 2;
  }
}
