// A JPEG or PNG file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/error.hpp"
#include "image/decode.hpp"
#include "tests/fuzz/limits.hpp"

using namespace replk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Limits limits(3);  // 64 Mi pixels are allowed, of four components
  try {
    const image::Image image = image::decode_image({data, size}, "fuzz");
    if (image.width < 1 || image.height < 1) std::abort();
  } catch (const core::Error&) {
  }
  return 0;
}
