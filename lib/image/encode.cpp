#include "image/encode.hpp"

#include <png.h>

#include "core/error.hpp"

namespace replk::image {

void write_png(const std::string& path, const Image& image) {
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = PNG_FORMAT_RGB;
  if (!png_image_write_to_file(&header, path.c_str(), 0, image.pixels.data(), 0, nullptr))
    core::fail(core::Status::bad_file, "{}: cannot be written: {}", path, header.message);
}

}  // namespace replk::image
