// Files of MNIST's kind.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace replk::cli {

/// An IDX file of bytes, as it is or compressed with gzip: 00 00 08 RANK, the dimensions as big-endian 32-bit
/// numbers, the values. No more is read than its header asks for, at most 4 GiB.
class IdxFile {
 public:
  /// Throws not_found, or bad_file where the rank is another, or the data shorter or longer than the header
  /// says.
  IdxFile(const std::string& path, int lowest_rank, int highest_rank);

  const std::vector<std::int64_t>& sizes() const { return sizes_; }
  const std::vector<unsigned char>& values() const { return values_; }

 private:
  std::vector<std::int64_t> sizes_;
  std::vector<unsigned char> values_;
};

}  // namespace replk::cli
