// From a picture to a network's input, the way the models' own evaluation does it (torchvision on PIL
// images).
#pragma once
#include <array>

#include "image/image.hpp"

namespace replk::image {

/// Of red, green and blue in 0..1.
struct Normalisation {
  std::array<float, 3> mean, std;
};

/// torchvision's Resize(short_side) and CenterCrop((height, width)): the shorter side becomes short_side, the
/// longer keeps the aspect, rounded down; then the middle is cut out. Throws invalid_argument where height or
/// width is more than short_side.
Image resize_and_crop(const Image& source, int short_side, int height, int width);

/// torchvision's ToTensor and Normalize, but channels-last: destination[y][x][c] = (pixel / 255 - mean[c]) /
/// std[c].
void normalise(const Image& source, const Normalisation& normalisation, float* destination);

}  // namespace replk::image
