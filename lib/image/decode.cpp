#include "image/decode.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "image/codecs.hpp"

namespace replk::image {
namespace {

using core::Status;

bool begins_with(std::span<const std::uint8_t> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

std::string first_bytes(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (std::uint8_t byte : bytes.first(std::min<std::size_t>(bytes.size(), 8))) {
    text += fmt::format("{}{:02x}", text.empty() ? "" : " ", byte);
  }
  return text;
}

std::vector<std::uint8_t> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file)
    core::fail(errno == ENOENT ? Status::not_found : Status::bad_file, "{}: {}", path, std::strerror(errno));
  // Read piece by piece instead of asking for the size: what is no regular file has none.
  std::vector<std::uint8_t> bytes;
  constexpr std::size_t piece = 1 << 20;
  for (;;) {
    const std::size_t before = bytes.size();
    bytes.resize(before + piece);
    const std::size_t got = std::fread(bytes.data() + before, 1, piece, file.get());
    bytes.resize(before + got);
    if (std::ferror(file.get())) core::fail(Status::bad_file, "{}: {}", path, std::strerror(errno));
    if (bytes.size() > max_file_bytes) {
      core::fail(Status::bad_file, "{}: file size is more than {} bytes, the most that is read", path,
                 max_file_bytes);
    }
    if (got < piece) return bytes;
  }
}

}  // namespace

void check_size(const std::string& name, std::uint32_t height, std::uint32_t width) {
  if (height < 1 || height > max_side || width < 1 || width > max_side) {
    core::fail(Status::bad_file, "{}: image size {}x{} (height x width) is outside 1..{} a side", name,
               height, width, max_side);
  }
  if (static_cast<std::int64_t>(height) * width > max_pixels) {
    core::fail(Status::bad_file, "{}: image size {}x{} (height x width) is {} pixels; at most {} are read",
               name, height, width, static_cast<std::int64_t>(height) * width, max_pixels);
  }
}

Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  if (begins_with(bytes, "\xff\xd8\xff")) return decode_jpeg(bytes, name);
  if (begins_with(bytes, "\x89PNG\r\n\x1a\n")) return decode_png(bytes, name);
  if (bytes.empty())
    core::fail(Status::bad_file, "{}: the file is empty; expected a JPEG or PNG image", name);
  core::fail(Status::bad_file,
             "{}: neither JPEG (first bytes ff d8 ff) nor PNG (89 50 4e 47 ...): first bytes are {}", name,
             first_bytes(bytes));
}

Image read_image(const std::string& path) {
  return decode_image(read_file(path), path);
}

}  // namespace replk::image
