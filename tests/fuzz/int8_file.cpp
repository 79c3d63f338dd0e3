// A file of `replk quantize` in which bytes were changed: the input is a network and then changes of five
// bytes each: where in the header or among the tensors, and the new byte. What is accepted must run, and give
// the same bits twice.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/error.hpp"
#include "model/network.hpp"
#include "model/quantise_network.hpp"
#include "tests/fuzz/limits.hpp"
#include "tests/fuzz/memory_file.hpp"
#include "tests/model/goldens.hpp"

using namespace replk;
using namespace replk::model;

namespace {

constexpr const char* families[] = {"convnext", "unireplknet", "replknet", "mobilenetv2", "slak"};

Architecture architecture_of(std::size_t family) {
  Architecture architecture = golden_architecture(families[family]);
  architecture.classes = 10;
  return architecture;
}

/// The file as it is written, of each family.
const std::string& file_of(std::size_t family) {
  static std::string files[std::size(families)];
  std::string& file = files[family];
  if (file.empty()) {
    const std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("replk_fuzz_" + std::to_string(::getpid()));
    quantise_network(architecture_of(family), *open_safetensors(golden(families[family])), {1, {}, {}})
        .tensors.write(path);
    std::ifstream stream(path, std::ios::binary);
    file.assign(std::istreambuf_iterator<char>(stream), {});
    std::filesystem::remove(path);
    if (file.size() < 8) std::abort();
  }
  return file;
}

/// One byte in the header's length or text, or behind it.
void change(std::string& file, const std::uint8_t* how) {
  std::uint64_t header = 0;
  std::memcpy(&header, file.data(), sizeof header);
  const std::uint32_t at = how[1] | how[2] << 8 | how[3] << 16;
  const std::uint64_t text = std::min<std::uint64_t>(header, file.size() - 8) + 8;
  const bool in_text = how[0] % 2 == 0 || text == file.size();
  file[in_text ? at % text : text + at % (file.size() - text)] = static_cast<char>(how[4]);
}

std::vector<float> logits(Network& network) {
  constexpr int side = 32;
  const std::vector<float> pixels(std::size_t{3} * side * side, 0.5f);
  std::vector<float> result(static_cast<std::size_t>(network.classes()));
  network.run({pixels.data(), 1, side, side}, {result.data(), {}});
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::size_t family = data[0] % std::size(families);
  std::string file = file_of(family);
  const fuzz::Limits limits(20);  // a network is planned
  for (std::size_t at = 1; at + 5 <= size; at += 5) change(file, data + at);
  const fuzz::MemoryFile memory(file.data(), file.size());
  try {
    NetworkOptions options;
    options.threads = 1;
    Network network(architecture_of(family), *open_safetensors(memory.path()), options);
    if (network.classes() == 0) return 0;
    const std::vector<float> first = logits(network), second = logits(network);
    if (std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) != 0) std::abort();
  } catch (const core::Error&) {
  }
  return 0;
}
