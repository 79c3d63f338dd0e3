// An 8-bit RGB picture to a PNG file.
#pragma once
#include <string>

#include "image/image.hpp"

namespace replk::image {

/// Throws bad_file, naming the file, where it cannot be written; a file that was begun is removed.
/// Thread-safe.
void write_png(const std::string& path, const Image& image);

}  // namespace replk::image
