// For make_goldens.py: reads lines `FILE HEIGHT WIDTH` and prints the CRC-32 of each picture's bytes at that
// size (0 0: its own), or `refused` and the reason.
#include <zlib.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "core/error.hpp"
#include "image/decode.hpp"
#include "image/resize.hpp"

int main() try {
  std::string path;
  int height, width;
  while (std::cin >> path >> height >> width) {
    try {
      replk::image::Image image = replk::image::read_image(path);
      if (height > 0) image = resize_bicubic(image, height, width);
      std::cout << crc32(0, image.pixels.data(), static_cast<uInt>(image.pixels.size())) << '\n';
    } catch (const replk::core::Error& error) {
      std::cout << "refused " << error.what() << '\n';
    }
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "image_tool: %s\n", error.what());
  return 1;
}
