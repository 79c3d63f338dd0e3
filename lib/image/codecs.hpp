// One decoder a format; decode.cpp chooses.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "image/image.hpp"

namespace replk::image {

Image decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& name);
Image decode_png(std::span<const std::uint8_t> bytes, const std::string& name);

/// Throws bad_file unless a picture of this size is within the limits.
void check_size(const std::string& name, std::uint32_t height, std::uint32_t width);

}  // namespace replk::image
