// For make_goldens.py: reads lines `FILE HEIGHT WIDTH` and prints the CRC-32 of each picture's bytes at that
// size.
#include <zlib.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "image/decode.hpp"
#include "image/resize.hpp"

int main() try {
  std::string path;
  int height, width;
  while (std::cin >> path >> height >> width) {
    const replk::image::Image image = resize_bicubic(replk::image::read_image(path), height, width);
    std::cout << crc32(0, image.pixels.data(), static_cast<uInt>(image.pixels.size())) << '\n';
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "image_tool: %s\n", error.what());
  return 1;
}
