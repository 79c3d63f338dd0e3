// The .safetensors format: eight bytes of header length, a JSON header, the tensors' bytes.
// https://github.com/huggingface/safetensors#format
//
// The reader trusts nothing: sizes are checked before memory is allocated, offsets must cover the data
// without hole or overlap, and tensors are read() when asked for, because a mapped file that shrinks kills
// the process.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/weight_source.hpp"

namespace replk::model {

/// Limits of the reader; a file beyond one is refused.
struct SafetensorsLimits {
  static constexpr std::uint64_t header_bytes = 8u << 20;
  static constexpr std::size_t tensors = 10'000;
  static constexpr std::size_t rank = 8;
  static constexpr std::size_t name_bytes = 512;
};

struct TensorInfo {
  std::string dtype;  // F64, F32, F16 and BF16 can be read; of others the size is checked where it is known
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // bytes, from the start of the data
};

/// An open file. const and thread-safe.
class SafetensorsFile {
 public:
  /// Throws not_found or bad_file.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  /// Reads a tensor as fp32. Throws not_found, or bad_file where its type is not F64, F32, F16 or BF16, a
  /// value is beyond fp32's range or the file has become shorter.
  void read(std::string_view name, std::span<float> destination) const;
  /// Reads a tensor of any type as its bytes, end - begin of them. Throws not_found, or bad_file where the
  /// file has become shorter.
  void read_bytes(std::string_view name, std::span<std::byte> destination) const;

 private:
  const TensorInfo& find(std::string_view name) const;
  void read_doubles(const std::string& name, std::uint64_t offset, std::span<float> destination) const;
  void parse_header(const std::string& header, std::uint64_t data_bytes);

  std::string path_;
  int file_ = -1;
  std::uint64_t data_offset_ = 0;
  std::map<std::string, TensorInfo, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

struct TensorToWrite {
  std::string name;
  Shape shape;
  const void* data = nullptr;
  std::string dtype = "F32";  // a type that TensorInfo knows
};
/// Of a tensor that is to be written.
std::uint64_t byte_size(const TensorToWrite& tensor);

/// Writes tensors, in this order, to a temporary file beside `path` and renames it, so that a failure leaves
/// the old file. Throws invalid_argument naming the path and the system's reason.
void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace replk::model
