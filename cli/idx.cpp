#include "cli/idx.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>

#include "core/error.hpp"

namespace replk::cli {
namespace {

using core::Status;

constexpr std::uint64_t max_bytes = std::uint64_t{1} << 32;

// A file through zlib, which passes through what is not compressed.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb")) {
    if (!file_) core::fail(Status::not_found, "{}: {}", path, std::strerror(errno));
  }
  ~Reader() { gzclose(file_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  void read(std::span<unsigned char> destination) {
    while (!destination.empty()) {
      const unsigned wanted = static_cast<unsigned>(std::min<std::size_t>(destination.size(), 1 << 20));
      const int got = gzread(file_, destination.data(), wanted);
      if (got < 0) fail();
      if (got == 0) core::fail(Status::bad_file, "{}: the IDX file ends early", path_);
      destination = destination.subspan(static_cast<std::size_t>(got));
    }
  }
  bool compressed() { return gzdirect(file_) == 0; }
  bool at_end() {
    unsigned char more;
    const int got = gzread(file_, &more, 1);  // checks the sum behind compressed data too
    if (got < 0) fail();
    return got == 0;
  }

 private:
  [[noreturn]] void fail() {
    int code = 0;
    core::fail(Status::bad_file, "{}: {}", path_, gzerror(file_, &code));
  }

  std::string path_;
  gzFile file_;
};

}  // namespace

IdxFile::IdxFile(const std::string& path, int lowest_rank, int highest_rank) {
  Reader file(path);
  std::array<unsigned char, 4> magic{};
  file.read(magic);
  const int rank = magic[3];
  if (magic[0] != 0 || magic[1] != 0 || magic[2] != 8 || rank < lowest_rank || rank > highest_rank) {
    core::fail(Status::bad_file,
               "{}: IDX magic is {:02x} {:02x} {:02x} {:02x}; expected 00 00 08 and a rank of {}..{}", path,
               magic[0], magic[1], magic[2], magic[3], lowest_rank, highest_rank);
  }
  std::uint64_t bytes = 1;
  for (int i = 0; i < rank; ++i) {
    std::array<unsigned char, 4> number{};
    file.read(number);
    const std::uint64_t size = std::uint32_t{number[0]} << 24 | number[1] << 16 | number[2] << 8 | number[3];
    if (size < 1 || size > max_bytes) {
      core::fail(Status::bad_file, "{}: IDX dimension {} is {}, outside 1..{}", path, i, size, max_bytes);
    }
    bytes *= size;  // at most 2^32 times 32 bits: no overflow
    if (bytes > max_bytes)
      core::fail(Status::bad_file, "{}: IDX data of more than {} bytes", path, max_bytes);
    sizes_.push_back(static_cast<std::int64_t>(size));
  }
  if (!file.compressed()) {
    const std::uint64_t expected = bytes + 4 + 4 * static_cast<std::uint64_t>(rank);
    std::error_code error;
    const std::uint64_t actual = std::filesystem::file_size(path, error);
    if (error || actual != expected) {
      core::fail(Status::bad_file, "{}: file size is {} bytes; its IDX header asks for {}", path, actual,
                 expected);
    }
  }
  // Piece by piece, each twice the last: the memory of what is not there is never asked for.
  for (std::uint64_t piece = 1 << 20; values_.size() < bytes; piece *= 2) {
    const std::size_t begin = values_.size();
    values_.resize(static_cast<std::size_t>(std::min(bytes, begin + piece)));
    file.read(std::span(values_).subspan(begin));
  }
  if (!file.at_end())
    core::fail(Status::bad_file, "{}: more data than the {} bytes that its IDX header asks for", path, bytes);
}

}  // namespace replk::cli
