// JPEG and PNG files to 8-bit RGB, the same pixels as Pillow's Image.open(file).convert("RGB").
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "image/image.hpp"

namespace replk::image {

constexpr std::size_t max_file_bytes = std::size_t{64} << 20;
constexpr int max_jpeg_scans = 100;  // a progressive file may hold any number, each as costly as a picture

/// Reads a file; its first bytes say what it holds, not its name. Grey is spread over the three
/// channels, alpha is dropped, CMYK is converted; EXIF orientation is not applied. Throws not_found or
/// bad_file, naming the file, the field, its value and its range. The limits are checked before memory is
/// allocated. A PNG whose pixels are whole is read as Pillow reads it, whatever is wrong or missing behind
/// them. Thread-safe.
Image read_image(const std::string& path);

/// The same from memory; `name` stands for the file in messages.
Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name);

}  // namespace replk::image
