// Bicubic resizing, byte for byte what Image.resize(size, BICUBIC) of Pillow 13 gives for RGB.
#pragma once
#include "image/image.hpp"

namespace replk::image {

/// A part of a picture: `height` rows from `top`, `width` columns from `left`.
struct Window {
  int top = 0, left = 0, height = 0, width = 0;
};

/// The picture resized to height x width. Sides are 1..2^26. Throws invalid_argument where the result is
/// larger than max_pixels or a side is out of range.
Image resize_bicubic(const Image& source, int height, int width);

/// The window of that picture, without computing the rest of it. Only the window must be within the limits.
Image resize_bicubic(const Image& source, int height, int width, const Window& window);

}  // namespace replk::image
