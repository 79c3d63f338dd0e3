#include "image/encode.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/error.hpp"
#include "image/decode.hpp"

namespace replk::image {
namespace {

TEST(WritePng, IsReadBackByteForByte) {
  const std::filesystem::path path = std::filesystem::temp_directory_path() / "replk_encode_test.png";
  for (const auto& [height, width] : {std::pair{1, 1}, {3, 5}, {64, 33}}) {
    Image image(height, width);
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
      image.pixels[i] = static_cast<std::uint8_t>(i * 73 >> 2);
    write_png(path, image);
    const Image again = read_image(path);
    EXPECT_EQ(again.height, height);
    EXPECT_EQ(again.width, width);
    EXPECT_TRUE(std::equal(image.pixels.begin(), image.pixels.end(), again.pixels.begin()));
  }
  std::filesystem::remove(path);
}

TEST(WritePng, AFolderThatIsNotThereIsNamed) {
  try {
    write_png("/no/such/folder/x.png", Image(2, 2));
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::bad_file);
    EXPECT_NE(std::string(error.what()).find("/no/such/folder/x.png"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace replk::image
