// A .safetensors file: its header, and every tensor it says it holds.
#include "model/safetensors.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "tests/fuzz/limits.hpp"
#include "tests/fuzz/memory_file.hpp"

using namespace replk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Limits limits;
  const fuzz::MemoryFile memory(data, size);
  try {
    const model::SafetensorsFile file(memory.path());
    for (const auto& [name, info] : file.tensors()) {
      std::size_t elements = 1;
      for (const auto extent : info.shape) elements *= static_cast<std::size_t>(extent);
      if (info.end > size || info.begin > info.end) std::abort();
      if (elements > size) continue;  // a type of less than a byte an element, which cannot be read
      std::vector<float> values(elements);
      try {
        file.read(name, values);
      } catch (const core::Error&) {
      }
    }
  } catch (const core::Error&) {
  }
  return 0;
}
