#include "image/resize.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "core/error.hpp"
#include "goldens.hpp"
#include "image/preprocess.hpp"

namespace replk::image {
namespace {

TEST(Resize, GivesTheBytesOfPillow) {
  std::ifstream listing(golden_path("resize.txt"));
  int height, width, to_height, to_width, cases = 0;
  std::uint32_t expected;
  while (listing >> height >> width >> to_height >> to_width >> expected) {
    const Image resized = resize_bicubic(noise(height, width), to_height, to_width);
    ASSERT_EQ(resized.height, to_height);
    ASSERT_EQ(resized.width, to_width);
    EXPECT_EQ(checksum(resized), expected)
        << height << "x" << width << " to " << to_height << "x" << to_width;
    ++cases;
  }
  EXPECT_EQ(cases, 240);
}

TEST(Resize, WindowIsAPartOfTheWhole) {
  const Image source = noise(101, 67);
  const Image whole = resize_bicubic(source, 150, 41);
  const Window window{.top = 33, .left = 5, .height = 70, .width = 20};
  const Image part = resize_bicubic(source, 150, 41, window);
  for (int y = 0; y < window.height; ++y) {
    for (int i = 0; i < window.width * 3; ++i) {
      ASSERT_EQ(part.row(y)[i], whole.row(window.top + y)[window.left * 3 + i])
          << "row " << y << " byte " << i;
    }
  }
}

TEST(Resize, SameSizeIsACopy) {
  const Image source = noise(31, 57);
  EXPECT_EQ(checksum(resize_bicubic(source, 31, 57)), checksum(source));
}

TEST(Resize, RefusesWhatIsOutOfRange) {
  const Image source = noise(8, 8);
  EXPECT_THROW(resize_bicubic(source, 0, 8), core::Error);
  EXPECT_THROW(resize_bicubic(source, 16385, 8), core::Error);
  EXPECT_THROW(resize_bicubic(source, 16384, 16384), core::Error);
  EXPECT_THROW(resize_bicubic(source, 8, 8, {.top = 1, .left = 0, .height = 8, .width = 8}), core::Error);
  EXPECT_THROW(resize_bicubic(Image(), 8, 8), core::Error);
}

TEST(Crop, GivesTheBytesOfTorchvisionOnPillow) {
  std::ifstream listing(golden_path("crop.txt"));
  int height, width, short_side, to_height, to_width, cases = 0;
  std::uint32_t expected;
  while (listing >> height >> width >> short_side >> to_height >> to_width >> expected) {
    const Image cropped = resize_and_crop(noise(height, width), short_side, to_height, to_width);
    EXPECT_EQ(checksum(cropped), expected) << height << "x" << width << " to " << short_side;
    ++cases;
  }
  EXPECT_EQ(cases, 8);
}

TEST(Crop, OfALinePictureComputesTheCropAlone) {
  // The whole would be 256 x 4194304 pixels.
  Image line(1, 16384);
  std::fill(line.pixels.begin(), line.pixels.end(), std::uint8_t{77});
  const Image cropped = resize_and_crop(line, 256, 224, 224);
  for (std::uint8_t value : cropped.pixels) ASSERT_EQ(value, 77);
}

TEST(Crop, RefusesACropThatIsLarger) {
  EXPECT_THROW(resize_and_crop(noise(9, 9), 32, 33, 32), core::Error);
}

TEST(Normalise, IsToTensorThenNormalize) {
  Image image(1, 2);
  const std::uint8_t bytes[] = {0, 128, 255, 10, 20, 30};
  std::copy_n(bytes, 6, image.pixels.data());
  const Normalisation normalisation{{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
  float values[6];
  normalise(image, normalisation, values);
  for (int i = 0; i < 6; ++i) {
    const float expected = (bytes[i] / 255.0f - normalisation.mean[i % 3]) / normalisation.std[i % 3];
    EXPECT_EQ(values[i], expected) << i;
  }
}

}  // namespace
}  // namespace replk::image
