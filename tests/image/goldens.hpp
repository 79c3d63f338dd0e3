// What the image tests share: the values that make_goldens.py wrote.
#pragma once
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "image/image.hpp"

namespace replk::image {

inline std::string golden_path(const std::string& name) {
  return std::string(REPLK_IMAGE_GOLDENS) + "/" + name;
}

inline std::uint32_t checksum(const Image& image) {
  return static_cast<std::uint32_t>(crc32(0, image.pixels.data(), static_cast<uInt>(image.pixels.size())));
}

inline std::vector<std::uint8_t> file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The top left height x width pixels of the 512x512 noise of make_goldens.py.
inline Image noise(int height, int width) {
  constexpr int side = 512;
  static const std::vector<std::uint8_t> whole = [] {
    std::uint32_t state = 1;
    std::vector<std::uint8_t> values(side * side * 3);
    for (std::uint8_t& value : values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<std::uint8_t>(state >> 24);
    }
    return values;
  }();
  Image image(height, width);
  for (int y = 0; y < height; ++y) std::copy_n(&whole[y * side * 3], width * 3, image.row(y));
  return image;
}

}  // namespace replk::image
