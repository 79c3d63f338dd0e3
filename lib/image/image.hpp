// An 8-bit RGB picture.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/memory.hpp"

namespace replk::image {

/// The largest picture that is taken, here and by the decoders: sides of 16,384 and 64 Mi pixels.
constexpr int max_side = 16384;
constexpr std::int64_t max_pixels = std::int64_t{64} << 20;

struct Image {
  Image() = default;
  /// Pixels are left uninitialised.
  Image(int height, int width)
      : height(height), width(width), pixels(static_cast<std::size_t>(height) * width * 3) {}

  int height = 0, width = 0;
  core::Buffer<std::uint8_t> pixels;  // [height][width][3], red first

  std::uint8_t* row(int y) { return pixels.data() + static_cast<std::size_t>(y) * width * 3; }
  const std::uint8_t* row(int y) const { return pixels.data() + static_cast<std::size_t>(y) * width * 3; }
};

}  // namespace replk::image
