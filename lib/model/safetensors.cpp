#include "model/safetensors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.hpp"
#include "core/memory.hpp"

namespace replk::model {
namespace {

using core::fail;
using core::Status;
using nlohmann::json;

/// Nothing for a type that is not known: newer ones, of 4 bits or complex, are passed over where they are not
/// used.
std::optional<std::uint64_t> dtype_bytes(std::string_view dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL" || dtype == "F8_E4M3" || dtype == "F8_E5M2") return 1;
  return std::nullopt;
}

/// Receives the header's JSON event by event, so that a hostile header builds no tree: depth is at most 3
/// (header, tensor, list of numbers), and a name given twice is refused at once.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  std::map<std::string, TensorInfo, std::less<>> tensors;
  std::map<std::string, std::string, std::less<>> metadata;
  std::string fault;  // why parsing stopped

  bool start_object(std::size_t) override {
    if (++depth_ == 1) return true;
    if (depth_ == 2 && list_ == nullptr) {
      seen_fields_.clear();
      return true;
    }
    return stop("a nested object");
  }
  bool key(std::string& text) override {
    if (depth_ == 2) return field_key(text);
    if (text.size() > SafetensorsLimits::name_bytes)
      return stop(fmt::format("a tensor name of {} bytes; at most {} are allowed", text.size(),
                              SafetensorsLimits::name_bytes));
    name_ = text;
    if (name_ == "__metadata__") {
      if (has_metadata_) return stop("__metadata__ is given twice");
      has_metadata_ = true;
      return true;
    }
    if (tensors.size() == SafetensorsLimits::tensors)
      return stop(fmt::format("more than {} tensors", SafetensorsLimits::tensors));
    if (!tensors.emplace(name_, TensorInfo{}).second) return stop("the name is given twice");
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1 && name_ != "__metadata__" && seen_fields_.size() != 3)
      return stop("dtype, shape and data_offsets are needed");
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || name_ == "__metadata__" || list_ != nullptr)
      return stop("a list where none is allowed");
    if (field_ == "shape") {
      list_ = &tensors[name_].shape;
      list_limit_ = SafetensorsLimits::rank;
    } else if (field_ == "data_offsets") {
      list_ = &offsets_;
      list_limit_ = 2;
      offsets_.clear();
    } else {
      return stop(fmt::format("{} is a list", field_));
    }
    return true;
  }
  bool end_array() override {
    list_ = nullptr;
    if (field_ != "data_offsets") return true;
    if (offsets_.size() != 2)
      return stop(fmt::format("data_offsets has {} numbers, 2 are needed", offsets_.size()));
    tensors[name_].begin = static_cast<std::uint64_t>(offsets_[0]);
    tensors[name_].end = static_cast<std::uint64_t>(offsets_[1]);
    return true;
  }
  bool number_unsigned(std::uint64_t value) override {
    if (list_ == nullptr) return stop("a number where none is allowed");
    if (list_->size() == list_limit_)
      return stop(fmt::format("{} has more than {} numbers", field_, list_limit_));
    if (value > (std::uint64_t{1} << 48)) return stop(fmt::format("{} {} is above 2^48", field_, value));
    list_->push_back(static_cast<std::int64_t>(value));
    return true;
  }
  bool string(std::string& text) override {
    if (depth_ != 2 || list_ != nullptr) return stop("a string where none is allowed");
    if (name_ == "__metadata__") {
      metadata[field_] = text;
      return true;
    }
    if (field_ != "dtype") return stop(fmt::format("{} is a string", field_));
    tensors[name_].dtype = text;
    return true;
  }
  bool number_integer(std::int64_t value) override {
    return stop(fmt::format("{} {} is negative", field_, value));
  }
  bool number_float(double, const std::string& text) override {
    return stop(fmt::format("{} {} is not a whole number", field_, text));
  }
  bool null() override { return stop("null where a value is needed"); }
  bool boolean(bool) override { return stop("a truth value where none is allowed"); }
  bool binary(json::binary_t&) override { return stop("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    name_.clear();
    return stop(fmt::format("not JSON at byte {}", position));
  }

 private:
  bool field_key(const std::string& text) {
    field_ = text.size() <= SafetensorsLimits::name_bytes ? text : text.substr(0, 32);
    if (std::find(seen_fields_.begin(), seen_fields_.end(), text) != seen_fields_.end())
      return stop(fmt::format("{} is given twice", field_));
    if (name_ != "__metadata__") {
      if (text != "dtype" && text != "shape" && text != "data_offsets")
        return stop(fmt::format("unknown field {}", field_));
    } else if (seen_fields_.size() == SafetensorsLimits::tensors) {
      return stop("too many entries");
    }
    // Metadata is a map, which finds doubles itself; the list would be slow for many entries.
    if (name_ != "__metadata__")
      seen_fields_.push_back(text);
    else if (metadata.contains(text))
      return stop(fmt::format("{} is given twice", field_));
    return true;
  }
  bool stop(const std::string& why) {
    if (fault.empty()) fault = name_.empty() ? why : fmt::format("'{}': {}", name_.substr(0, 128), why);
    return false;
  }

  int depth_ = 0;
  bool has_metadata_ = false;
  std::string name_, field_;
  std::vector<std::string> seen_fields_;
  Shape offsets_;
  Shape* list_ = nullptr;
  std::size_t list_limit_ = 0;
};

/// Shape times element size, or nothing where it overflows.
std::optional<std::uint64_t> tensor_bytes(const TensorInfo& tensor, std::uint64_t element_bytes) {
  std::uint64_t bytes = element_bytes;
  for (std::int64_t side : tensor.shape)
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(side), &bytes)) return std::nullopt;
  return bytes;
}

void read_fully(int file, const std::string& path, void* destination, std::uint64_t bytes,
                std::uint64_t offset) {
  auto* out = static_cast<char*>(destination);
  while (bytes > 0) {
    const ssize_t got =
        ::pread(file, out, std::min<std::uint64_t>(bytes, 1u << 30), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(Status::bad_file, "{}: cannot be read: {}", path, std::strerror(errno));
    if (got == 0) fail(Status::bad_file, "{}: ended at byte {} while being read", path, offset);
    out += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
}

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half} >> 15 << 31;
  const std::uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // a subnormal half is a normal float
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file_ < 0) fail(Status::not_found, "{}: cannot be opened: {}", path, std::strerror(errno));
  try {
    struct stat status;
    if (::fstat(file_, &status) != 0 || !S_ISREG(status.st_mode))
      fail(Status::bad_file, "{}: not a regular file", path);
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size < 10)
      fail(Status::bad_file, "{}: {} bytes long; a .safetensors file has at least 10", path, size);
    unsigned char prefix[8];
    read_fully(file_, path, prefix, 8, 0);
    std::uint64_t header_bytes = 0;
    for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | prefix[i];
    const std::uint64_t limit = std::min(SafetensorsLimits::header_bytes, size - 8);
    if (header_bytes < 2 || header_bytes > limit)
      fail(Status::bad_file, "{}: header length {} is outside 2..{}; not a .safetensors file, or truncated",
           path, header_bytes, limit);
    std::string header(header_bytes, '\0');
    read_fully(file_, path, header.data(), header_bytes, 8);
    data_offset_ = 8 + header_bytes;
    parse_header(header, size - data_offset_);
  } catch (...) {
    ::close(file_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  ::close(file_);
}

void SafetensorsFile::parse_header(const std::string& header, std::uint64_t data_bytes) {
  if (header[0] != '{') fail(Status::bad_file, "{}: header: does not begin with '{{'", path_);
  HeaderReader reader;
  if (!json::sax_parse(header, &reader)) fail(Status::bad_file, "{}: header: {}", path_, reader.fault);

  std::vector<const std::pair<const std::string, TensorInfo>*> order;
  for (const auto& entry : reader.tensors) {
    const auto& [name, tensor] = entry;
    if (tensor.end < tensor.begin || tensor.end > data_bytes)
      fail(Status::bad_file, "{}: '{}': data_offsets {}..{} are outside 0..{}; the file may be truncated",
           path_, name, tensor.begin, tensor.end, data_bytes);
    const std::uint64_t held = tensor.end - tensor.begin;
    const auto element_bytes = dtype_bytes(tensor.dtype);
    const auto bytes = tensor_bytes(tensor, element_bytes.value_or(1));
    // Of a type that is not known a bit an element is asked for, so that the number of elements stays
    // bounded.
    if (!bytes || (element_bytes ? *bytes != held : *bytes / 8 > held))
      fail(Status::bad_file, "{}: '{}': data_offsets hold {} bytes, shape {} of {} needs {}", path_, name,
           held, to_string(tensor.shape), tensor.dtype.substr(0, 32),
           bytes ? std::to_string(element_bytes ? *bytes : *bytes / 8) : "more than 2^64");
    order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t covered = 0;
  for (const auto* entry : order) {
    if (entry->second.begin != covered)
      fail(Status::bad_file, "{}: '{}': begins at byte {} of the data, {} is next (a hole or an overlap)",
           path_, entry->first, entry->second.begin, covered);
    covered = entry->second.end;
  }
  if (covered != data_bytes)
    fail(Status::bad_file, "{}: tensors cover {} bytes of data, the file has {}", path_, covered, data_bytes);
  tensors_ = std::move(reader.tensors);
  metadata_ = std::move(reader.metadata);
}

const TensorInfo& SafetensorsFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(Status::not_found, "{}: no tensor '{}'", path_, name);
  return found->second;
}

void SafetensorsFile::read_bytes(std::string_view name, std::span<std::byte> destination) const {
  const TensorInfo& tensor = find(name);
  if (destination.size() != tensor.end - tensor.begin)
    fail(Status::internal, "{}: '{}' has {} bytes, {} were asked", path_, name, tensor.end - tensor.begin,
         destination.size());
  read_fully(file_, path_, destination.data(), destination.size(), data_offset_ + tensor.begin);
}

void SafetensorsFile::read(std::string_view name, std::span<float> destination) const {
  const TensorInfo& tensor = find(name);
  const auto count = static_cast<std::size_t>(elements(tensor.shape));
  if (destination.size() != count)
    fail(Status::internal, "{}: '{}' has {} elements, {} were asked", path_, name, count, destination.size());
  const std::uint64_t offset = data_offset_ + tensor.begin;
  if (tensor.dtype == "F32") {
    read_fully(file_, path_, destination.data(), count * 4, offset);
    return;
  }
  if (tensor.dtype == "F64") {
    read_doubles(std::string(name), offset, destination);
    return;
  }
  if (tensor.dtype != "F16" && tensor.dtype != "BF16")
    fail(Status::bad_file, "{}: '{}': dtype {} cannot be used; F64, F32, F16 and BF16 can", path_, name,
         tensor.dtype.substr(0, 32));
  // The upper half of the destination takes the raw values; converting upwards never overtakes them.
  auto* raw = reinterpret_cast<unsigned char*>(destination.data()) + count * 2;
  read_fully(file_, path_, raw, count * 2, offset);
  const bool half = tensor.dtype == "F16";
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t value;
    std::memcpy(&value, raw + 2 * i, 2);
    const float converted = half ? half_to_float(value) : std::bit_cast<float>(std::uint32_t{value} << 16);
    std::memcpy(&destination[i], &converted, 4);
  }
}

std::uint64_t byte_size(const TensorToWrite& tensor) {
  const auto element_bytes = dtype_bytes(tensor.dtype);
  if (!element_bytes) fail(Status::internal, "'{}': dtype {} cannot be written", tensor.name, tensor.dtype);
  return static_cast<std::uint64_t>(elements(tensor.shape)) * *element_bytes;
}

void SafetensorsFile::read_doubles(const std::string& name, std::uint64_t offset,
                                   std::span<float> destination) const {
  std::array<double, 1024> block;
  for (std::size_t begin = 0; begin < destination.size(); begin += block.size()) {
    const std::size_t count = std::min(block.size(), destination.size() - begin);
    read_fully(file_, path_, block.data(), count * 8, offset + begin * 8);
    for (std::size_t i = 0; i < count; ++i) {
      destination[begin + i] = static_cast<float>(block[i]);
      if (std::isfinite(block[i]) && std::isinf(destination[begin + i]))
        fail(Status::bad_file, "{}: '{}'[{}] is {}; fp32 holds at most 3.4e38", path_, name, begin + i,
             block[i]);
    }
  }
}

void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t end = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::uint64_t begin = end;
    end += byte_size(tensor);
    header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize(core::round_up(text.size(), 8), ' ');  // so that the data is aligned

  // A device or a pipe is written to as it is: renaming over it would replace it.
  struct stat status;
  const bool in_place = ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
  const std::string temporary = in_place ? path : path + "." + std::to_string(::getpid()) + ".tmp";
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CLOEXEC | (in_place ? 0 : O_CREAT | O_EXCL), 0666);
  if (file < 0) fail(Status::invalid_argument, "{}: cannot be written: {}", path, std::strerror(errno));
  const auto give_up = [&]() {
    const int reason = errno;
    ::close(file);
    if (!in_place) ::unlink(temporary.c_str());
    fail(Status::invalid_argument, "{}: cannot be written: {}", path, std::strerror(reason));
  };
  const auto put = [&](const void* data, std::uint64_t bytes) {
    const auto* in = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(file, in, std::min<std::uint64_t>(bytes, 1u << 30));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) give_up();
      in += written;
      bytes -= static_cast<std::uint64_t>(written);
    }
  };
  unsigned char prefix[8];
  for (int i = 0; i < 8; ++i) prefix[i] = static_cast<unsigned char>(text.size() >> 8 * i);
  put(prefix, 8);
  put(text.data(), text.size());
  for (const TensorToWrite& tensor : tensors) put(tensor.data, byte_size(tensor));
  if (::close(file) != 0 || (!in_place && ::rename(temporary.c_str(), path.c_str()) != 0)) {
    const int reason = errno;
    if (!in_place) ::unlink(temporary.c_str());
    fail(Status::invalid_argument, "{}: cannot be written: {}", path, std::strerror(reason));
  }
}

}  // namespace replk::model
