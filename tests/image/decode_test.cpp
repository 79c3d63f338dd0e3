#include "image/decode.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string_view>

#include "core/error.hpp"
#include "goldens.hpp"

namespace replk::image {
namespace {

using Bytes = std::vector<std::uint8_t>;

// The message of the bad_file that decoding throws; it names the file and is one line.
std::string refusal(const Bytes& bytes) {
  try {
    decode_image(bytes, "some.file");
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::bad_file);
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with("some.file: ")) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  return "";
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

struct Golden {
  std::string name;
  int height, width;
  std::uint32_t pixels;
  std::size_t needed;  // bytes of the file, from its beginning, that are enough for Pillow
};

std::vector<Golden> goldens() {
  std::ifstream listing(golden_path("pictures.txt"));
  std::vector<Golden> all;
  for (Golden g; listing >> g.name >> g.height >> g.width >> g.pixels >> g.needed;) all.push_back(g);
  return all;
}

Bytes cut(const Bytes& whole, std::size_t length) {
  return {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)};
}

TEST(Decode, GivesTheBytesOfPillow) {
  const std::vector<Golden> all = goldens();
  for (const Golden& golden : all) {
    const Image image = read_image(golden_path(golden.name));
    EXPECT_EQ(image.height, golden.height) << golden.name;
    EXPECT_EQ(image.width, golden.width) << golden.name;
    EXPECT_EQ(checksum(image), golden.pixels) << golden.name;
  }
  EXPECT_EQ(all.size(), 32u);
}

TEST(Decode, ReadsAFileThatIsCutAsFarAsPillowDoes) {
  for (const Golden& golden : goldens()) {
    if (!golden.name.ends_with(".png")) continue;
    const Bytes whole = file_bytes(golden_path(golden.name));
    EXPECT_LT(golden.needed, whole.size());
    for (std::size_t length = golden.needed; length < whole.size(); ++length)
      EXPECT_EQ(checksum(decode_image(cut(whole, length), "cut")), golden.pixels)
          << golden.name << " cut to " << length;
    for (std::size_t length = 0; length < golden.needed; length += 1 + (golden.needed - length) / 20)
      EXPECT_NE(refusal(cut(whole, length)), "") << golden.name << " cut to " << length;
  }
}

std::uint32_t big_endian(const Bytes& bytes, std::size_t at) {
  return std::uint32_t{bytes[at]} << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
}

// Pillow does not look at the checksums of the pixels' chunks, and refuses a file for those in front of them.
TEST(Decode, LooksAtTheChecksumsThatPillowLooksAt) {
  int pixels = 0, others = 0;
  for (const Golden& golden : goldens()) {
    if (!golden.name.ends_with(".png")) continue;
    Bytes bytes = file_bytes(golden_path(golden.name));
    for (std::size_t at = 8; at < bytes.size();) {
      const std::string kind(bytes.begin() + static_cast<std::ptrdiff_t>(at) + 4,
                             bytes.begin() + static_cast<std::ptrdiff_t>(at) + 8);
      at += 12 + big_endian(bytes, at);
      if (kind == "IEND") break;
      bytes[at - 1] ^= 0x55;
      if (kind == "IDAT") {
        EXPECT_EQ(checksum(decode_image(bytes, "damaged")), golden.pixels) << golden.name;
        ++pixels;
      } else {
        EXPECT_NE(refusal(bytes), "") << golden.name << ": " << kind;
        ++others;
      }
      bytes[at - 1] ^= 0x55;
    }
  }
  EXPECT_GT(pixels, 24);
  EXPECT_GT(others, 24);
}

TEST(Decode, RefusesEveryTruncationOfAJpeg) {
  for (const Golden& golden : goldens()) {
    const std::string& name = golden.name;
    if (!name.ends_with(".jpg")) continue;
    const Bytes whole = file_bytes(golden_path(name));
    // Without the last few bytes nothing may be missing but the end marker.
    for (std::size_t length = 0; length + 20 < whole.size(); length += 1 + whole.size() / 50)
      EXPECT_NE(refusal(cut(whole, length)), "") << name << " cut to " << length;
  }
}

TEST(Decode, SurvivesDamage) {
  std::uint32_t state = 7;
  const auto random = [&](std::size_t below) {
    state = state * 1664525u + 1013904223u;
    return static_cast<std::size_t>(state >> 8) % below;
  };
  int refused = 0;
  for (const Golden& golden : goldens()) {
    const std::string& name = golden.name;
    const Bytes whole = file_bytes(golden_path(name));
    for (int round = 0; round < 40; ++round) {
      Bytes damaged = whole;
      for (int i = 0; i < 4; ++i) damaged[random(damaged.size())] = static_cast<std::uint8_t>(random(256));
      refused += !refusal(damaged).empty();
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(Decode, RefusesOtherFiles) {
  constexpr std::string_view text = "Hello, this is text.\n";
  EXPECT_TRUE(has(refusal(Bytes(text.begin(), text.end())), "48 65 6c 6c 6f"));
  EXPECT_TRUE(has(refusal({}), "empty"));
  EXPECT_THROW(read_image(golden_path("")), core::Error);  // a folder
  try {
    read_image("no/such/file.png");
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::not_found);
  }
}

void put_big_endian(Bytes& bytes, std::size_t at, std::uint32_t value, int size) {
  for (int i = 0; i < size; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * (size - 1 - i)));
}

// A PNG of another size: the header's fields and its checksum.
Bytes png_of_size(std::uint32_t height, std::uint32_t width) {
  Bytes bytes = file_bytes(golden_path("rgb_8.png"));
  put_big_endian(bytes, 16, width, 4);
  put_big_endian(bytes, 20, height, 4);
  put_big_endian(bytes, 29, static_cast<std::uint32_t>(crc32(0, &bytes[12], 17)), 4);
  return bytes;
}

TEST(Decode, RefusesSizesBeforeItAllocates) {
  EXPECT_TRUE(has(refusal(png_of_size(60000, 60000)), "image size 60000x60000"));
  EXPECT_TRUE(has(refusal(png_of_size(1, 16385)), "1..16384"));
  EXPECT_TRUE(has(refusal(png_of_size(16384, 4097)), "67108864"));
  EXPECT_NE(refusal(png_of_size(0, 5)), "");
  EXPECT_NE(refusal(png_of_size(0x7fffffff, 0x7fffffff)), "");

  Bytes jpeg = file_bytes(golden_path("rgb_444.jpg"));
  const std::uint8_t frame[] = {0xff, 0xc0};
  const auto header = std::search(jpeg.begin(), jpeg.end(), frame, frame + 2) - jpeg.begin();
  put_big_endian(jpeg, static_cast<std::size_t>(header) + 5, 60000, 2);
  put_big_endian(jpeg, static_cast<std::size_t>(header) + 7, 60000, 2);
  EXPECT_TRUE(has(refusal(jpeg), "image size 60000x60000"));
}

TEST(Decode, RefusesManyScans) {
  // The first scan of a progressive file, again and again.
  const Bytes whole = file_bytes(golden_path("progressive.jpg"));
  const std::uint8_t start[] = {0xff, 0xda};
  const auto first = std::search(whole.begin(), whole.end(), start, start + 2);
  const std::uint8_t table[] = {0xff, 0xc4};
  const auto second = std::search(first + 2, whole.end(), table, table + 2);
  ASSERT_NE(second, whole.end());
  Bytes bomb(whole.begin(), first);
  for (int i = 0; i < 200; ++i) bomb.insert(bomb.end(), first, second);
  bomb.insert(bomb.end(), second, whole.end());
  EXPECT_TRUE(has(refusal(bomb), "more than 100 scans"));
}

}  // namespace
}  // namespace replk::image
