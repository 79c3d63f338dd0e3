// A network's weight file, in fp32 or of `replk quantize`, in which things were changed: the input is a byte
// that says which network and how it is loaded, and then changes of six bytes each, of values, types, shapes,
// places, names and metadata, or of bytes. What is accepted must run, and give the same bits twice; a file
// without a change is accepted.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "model/network.hpp"
#include "model/quantise_network.hpp"
#include "model/safetensors.hpp"
#include "tests/fuzz/limits.hpp"
#include "tests/fuzz/memory_file.hpp"
#include "tests/fuzz/small_network.hpp"

using namespace replk;
using namespace replk::model;

namespace {

struct File {
  std::map<std::string, std::string> metadata;
  std::vector<std::pair<std::string, TensorInfo>> tensors;
  std::string data;
  std::vector<std::array<std::uint8_t, 3>> header_bytes;  // where, and the byte that is there instead

  std::string text() const;
};

std::string numbers(const Shape& list) {
  std::string text = "[";
  for (const std::int64_t number : list) text += (text.size() > 1 ? "," : "") + std::to_string(number);
  return text + "]";
}

/// As it lies on disk. All names are plain.
std::string File::text() const {
  std::string header = "{\"__metadata__\":{";
  for (const auto& [key, value] : metadata)
    header += (header.back() == '{' ? "\"" : ",\"") + key + "\":\"" + value + '"';
  header += '}';
  for (const auto& [name, tensor] : tensors)
    header += ",\"" + name + "\":{\"dtype\":\"" + tensor.dtype + "\",\"shape\":" + numbers(tensor.shape) +
              ",\"data_offsets\":" +
              numbers({static_cast<std::int64_t>(tensor.begin), static_cast<std::int64_t>(tensor.end)}) + '}';
  header += '}';
  const std::uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  file += header;
  for (const auto& [low, high, byte] : header_bytes)
    file[(low | high << 8) % file.size()] = static_cast<char>(byte);
  return file + data;
}

enum class Form { int8, fp32, fp32_as_int8, fp32_as_bf16 };
constexpr int forms = 4;

File read_back(const StoredTensors& tensors) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("replk_fuzz_" + std::to_string(::getpid()));
  tensors.write(path);
  File file;
  const SafetensorsFile reader(path);
  file.metadata = {reader.metadata().begin(), reader.metadata().end()};
  file.tensors = {reader.tensors().begin(), reader.tensors().end()};
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : file.tensors) bytes = std::max<std::size_t>(bytes, tensor.end);
  file.data.resize(bytes);
  for (const auto& [name, tensor] : file.tensors)
    reader.read_bytes(
        name, std::as_writable_bytes(std::span(file.data)).subspan(tensor.begin, tensor.end - tensor.begin));
  std::filesystem::remove(path);
  return file;
}

/// The file as it is written, of each family.
const File& file_of(Family family, bool int8) {
  static std::map<std::pair<Family, bool>, File> files;
  const auto found = files.find({family, int8});
  if (found != files.end()) return found->second;
  const Architecture architecture = fuzz::small_architecture(family);
  const auto seeded = seeded_weights(architecture, 1);
  if (int8)
    return files[{family, int8}] = read_back(quantise_network(architecture, *seeded, {1, {}, {}}).tensors);
  StoredTensors plain("fp32");
  for (const std::string& name : seeded->names()) {
    std::vector<float> values(static_cast<std::size_t>(elements(*seeded->shape(name))));
    seeded->read(name, values);
    plain.add_floats(name, *seeded->shape(name), values.data());
  }
  plain.set_metadata("model", architecture.name);
  return files[{family, int8}] = read_back(plain);
}

constexpr float huge = std::numeric_limits<float>::max(), infinity = std::numeric_limits<float>::infinity();
constexpr std::array floats{0.0f, -0.0f, NAN,   infinity, -infinity, 1e-45f,
                            huge, -huge, 1e30f, -1.0f,    1e-30f,    65504.0f};
constexpr std::array<std::uint16_t, 8> halves{0, 0x8000, 0x7c00, 0xfc00, 0x7e01, 0x7bff, 1, 0x7f80};
constexpr std::array<std::int8_t, 5> bytes{-128, -127, 127, 0, 1};
constexpr std::array types{"F32", "F16", "BF16", "I8", "F64", "U8", "I64", "BOOL", "F4", ""};
constexpr std::array<std::int64_t, 9> sides{0,
                                            1,
                                            2,
                                            10,
                                            65536,
                                            std::int64_t{1} << 31,
                                            std::int64_t{1} << 47,
                                            std::int64_t{1} << 48,
                                            std::numeric_limits<std::int64_t>::max()};
constexpr std::array<std::pair<const char*, const char*>, 9> entries{{{"precision", "int8"},
                                                                      {"precision", "bf16"},
                                                                      {"precision", ""},
                                                                      {"model", "replknet-31b"},
                                                                      {"model", ""},
                                                                      {"head_norm_epsilon", "0.5"},
                                                                      {"head_norm_epsilon", "1e-400"},
                                                                      {"labels", "[[1]]"},
                                                                      {"calibration", "images"}}};

/// A hostile value at one place of a tensor, or at all from there on.
void set_values(File& file, const TensorInfo& tensor, std::size_t from, bool all, std::uint8_t which) {
  const std::size_t size = tensor.dtype == "F32" ? 4 : tensor.dtype == "I8" ? 1 : 2;
  const std::size_t end = std::min<std::size_t>(tensor.end, file.data.size());
  if (tensor.begin >= end) return;
  const float* value = &floats[which % floats.size()];
  const void* value_bytes = size == 4   ? static_cast<const void*>(value)
                            : size == 1 ? static_cast<const void*>(&bytes[which % bytes.size()])
                                        : static_cast<const void*>(&halves[which % halves.size()]);
  for (std::size_t at = tensor.begin + from % (end - tensor.begin) / size * size; at + size <= end;
       at += size) {
    std::memcpy(&file.data[at], value_bytes, size);
    if (!all) return;
  }
}

void change_shape(Shape& shape, std::uint8_t which, std::uint8_t value) {
  if (which % 4 == 0 || shape.empty())
    shape.insert(shape.begin() + which / 4 % static_cast<std::ptrdiff_t>(shape.size() + 1),
                 sides[value % sides.size()]);
  else if (which % 4 == 1)
    shape.erase(shape.begin() + which / 4 % static_cast<std::ptrdiff_t>(shape.size()));
  else if (which % 4 == 2)
    shape[which / 4 % shape.size()] = sides[value % sides.size()];
  else
    std::swap(shape.front(), shape.back());
}

void change_name(File& file, std::size_t tensor, std::uint8_t which, std::uint8_t other) {
  auto& [name, info] = file.tensors[tensor];
  switch (which % 4) {
    case 0:
      file.tensors.erase(file.tensors.begin() + static_cast<std::ptrdiff_t>(tensor));
      break;
    case 1:
      std::swap(info, file.tensors[other % file.tensors.size()].second);
      break;
    case 2:
      name = file.tensors[other % file.tensors.size()].first + (other & 0x80 ? ".weight" : "");
      break;
    default:
      name.resize(std::min<std::size_t>(name.size(), other));
  }
}

void change(File& file, const std::uint8_t* how) {
  const std::size_t where = how[2] | how[3] << 8;
  if (file.tensors.empty()) return;
  const std::size_t tensor = how[1] % file.tensors.size();
  TensorInfo& info = file.tensors[tensor].second;
  switch (how[0] % 8) {
    case 0:
      file.header_bytes.push_back({how[2], how[3], how[5]});
      break;
    case 1:
      if (!file.data.empty()) file.data[where % file.data.size()] = static_cast<char>(how[5]);
      break;
    case 2:
      set_values(file, info, where, how[4] % 2 == 1, how[5]);
      break;
    case 3:
      info.dtype = types[how[5] % types.size()];
      break;
    case 4:
      change_shape(info.shape, how[4], how[5]);
      break;
    case 5: {
      std::uint64_t& offset = how[4] % 2 == 0 ? info.begin : info.end;
      offset = how[4] % 4 < 2 ? offset + static_cast<std::uint64_t>(how[5]) - 128
                              : static_cast<std::uint64_t>(sides[how[5] % sides.size()]);
      break;
    }
    case 6:
      change_name(file, tensor, how[4], how[5]);
      break;
    default:
      if (how[4] % 4 == 0)
        file.data.resize(where % (file.data.size() + 64));
      else
        file.metadata[entries[how[5] % entries.size()].first] = entries[how[5] % entries.size()].second;
  }
}

std::vector<float> logits(Network& network) {
  static const std::vector<float> pixels(std::size_t{3} * fuzz::small_side * fuzz::small_side, 0.5f);
  std::vector<float> result(static_cast<std::size_t>(network.classes()));
  network.run({pixels.data(), 1, fuzz::small_side, fuzz::small_side}, {result.data(), {}});
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  fuzz::use_portable_code();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const auto family = static_cast<Family>(data[0] % fuzz::families);
  const auto form = static_cast<Form>(data[0] / fuzz::families % forms);
  File file = file_of(family, form == Form::int8);
  const fuzz::Limits limits;
  for (std::size_t at = 1; at + 6 <= size; at += 6) change(file, data + at);
  const std::string text = file.text();
  const fuzz::MemoryFile memory(text.data(), text.size());
  try {
    NetworkOptions options;
    options.threads = 1;
    if (form == Form::fp32_as_int8) options.precision = Precision::int8;
    if (form == Form::fp32_as_bf16) options.precision = Precision::bf16;
    Network network(fuzz::small_architecture(family), *open_safetensors(memory.path()), options);
    if (network.classes() == 0) return 0;
    const std::vector<float> first = logits(network), second = logits(network);
    if (std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) != 0) std::abort();
  } catch (const core::Error&) {
    if (size < 7) std::abort();  // nothing was changed
  }
  return 0;
}
