#include "image/preprocess.hpp"

#include <cmath>
#include <cstdint>

#include "core/error.hpp"
#include "image/resize.hpp"

namespace replk::image {
namespace {

// CenterCrop's offset: half of what is left over, halves rounded to even as Python's round does.
int centre_offset(int whole, int part) {
  return static_cast<int>(std::nearbyint((whole - part) / 2.0));
}

}  // namespace

Image resize_and_crop(const Image& source, int short_side, int height, int width) {
  if (short_side < 1 || height > short_side || width > short_side) {
    core::fail(core::Status::invalid_argument, "crop: {}x{} is not within a short side of {}", height, width,
               short_side);
  }
  const auto longer = [&](int shorter_source, int longer_source) {
    return static_cast<int>(static_cast<std::int64_t>(short_side) * longer_source / shorter_source);
  };
  const bool portrait = source.height > source.width;
  const int resized_height = portrait ? longer(source.width, source.height) : short_side;
  const int resized_width = portrait ? short_side : longer(source.height, source.width);
  return resize_bicubic(source, resized_height, resized_width,
                        {.top = centre_offset(resized_height, height),
                         .left = centre_offset(resized_width, width),
                         .height = height,
                         .width = width});
}

void normalise(const Image& source, const Normalisation& normalisation, float* destination) {
  // One value a byte and channel: the divisions are done 768 times instead of once a pixel.
  std::array<std::array<float, 256>, 3> table;
  for (int c = 0; c < 3; ++c) {
    for (int value = 0; value < 256; ++value) {
      table[c][value] = (static_cast<float>(value) / 255.0f - normalisation.mean[c]) / normalisation.std[c];
    }
  }
  const std::size_t pixels = static_cast<std::size_t>(source.height) * source.width;
  const std::uint8_t* from = source.pixels.data();
  for (std::size_t i = 0; i < pixels; ++i) {
    for (int c = 0; c < 3; ++c) *destination++ = table[c][*from++];
  }
}

}  // namespace replk::image
