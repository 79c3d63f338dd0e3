// The committed networks of tests/parity/goldens.py: small widths, real kernels.
#pragma once
#include <string>
#include <vector>

#include "model/architecture.hpp"
#include "model/safetensors.hpp"

namespace replk::model {

inline std::string golden(const std::string& name) {
  return std::string(REPLK_GOLDENS) + "/" + name + ".safetensors";
}

inline std::vector<float> read_all(const SafetensorsFile& file, const std::string& name) {
  std::vector<float> values(static_cast<std::size_t>(elements(file.tensors().find(name)->second.shape)));
  file.read(name, values);
  return values;
}

/// The architecture of a golden: the widths written in tests/parity/goldens.py.
inline Architecture golden_architecture(const std::string& name) {
  Architecture row;
  row.name = name;
  row.depths = {1, 1, 2, 1};
  if (name.starts_with("replknet_xl")) {
    row.depths = {1, 1, 1, 1};
    row.channels = {8, 10, 14, 18};
    row.kernels = {27, 27, 27, 13};
    row.depthwise_ratio = 1.5;
  } else if (name.starts_with("replknet_small")) {
    row.depths = {1, 1, 1, 1};
    row.channels = {4, 6, 8, 10};
    row.kernels = {31, 29, 27, 13};
    row.small_kernel = name.back() - '0';
  } else if (name.starts_with("replknet")) {
    row.channels = {8, 12, 20, 24};
    row.kernels = {31, 29, 27, 13};
    row.small_kernel = 5;
  } else if (name.starts_with("slak")) {
    row.family = Family::slak;
    row.channels = {7, 13, 19, 25};
    row.kernels = {51, 49, 47, 13};
    row.small_kernel = 5;
  } else if (name.starts_with("convnext")) {
    row.family = Family::convnext;
    row.channels = {8, 12, 16, 24};
    row.kernels = {7, 7, 7, 7};
    row.grn = name.starts_with("convnextv2");
  } else if (name.starts_with("unireplknet")) {
    row.family = Family::unireplknet;
    row.channels = {8, 12, 16, 24};
    row.kernels = {3, 13, 13, 13};
    row.third_stage_period = 2;
  } else {
    row.family = Family::mobilenetv2;
    row.depths = {1, 2, 2, 1, 1, 2, 1};
    row.channels = {4, 6, 8, 10, 12, 14, 16};
    row.kernels = {3, 13, 3, 5, 13, 3, 7};
    row.stem_channels = 8;
    row.head_channels = 40;
  }
  return row;
}

/// input.safetensors as a network takes it, [batch][height][width][3].
struct GoldenInput {
  std::int64_t batch;
  int height, width;
  std::vector<float> pixels;
};
inline GoldenInput golden_input() {
  const SafetensorsFile file(golden("input"));
  const Shape& shape = file.tensors().find("pixels")->second.shape;
  const std::vector<float> planes = read_all(file, "pixels");
  GoldenInput input{shape[0], static_cast<int>(shape[2]), static_cast<int>(shape[3]),
                    std::vector<float>(planes.size())};
  const std::int64_t area = shape[2] * shape[3];
  for (std::int64_t n = 0; n < shape[0]; ++n)
    for (std::int64_t c = 0; c < 3; ++c)
      for (std::int64_t p = 0; p < area; ++p)
        input.pixels[(n * area + p) * 3 + c] = planes[(n * 3 + c) * area + p];
  return input;
}

}  // namespace replk::model
