// Distinguishes two versions of the generators, and two settings of the constants that code decides by.
#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace replk::jit {

/// FNV-1a over what is added, each with its length.
class Fingerprint {
 public:
  void add(std::span<const std::uint8_t> bytes) {
    add(bytes.size());
    for (const std::uint8_t byte : bytes) add_byte(byte);
  }
  void add(std::string_view text) { add({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}); }
  template <class Number>
  requires std::is_integral_v<Number>
  void add(Number number) {
    for (int i = 0; i < 8; i++)
      add_byte(static_cast<std::uint8_t>(static_cast<std::uint64_t>(number) >> 8 * i));
  }
  void add(std::span<const std::int32_t> values) {
    add(values.size());
    for (const std::int32_t value : values) add(value);
  }
  std::uint64_t value() const { return value_; }

 private:
  void add_byte(std::uint8_t byte) { value_ = (value_ ^ byte) * 0x100000001b3u; }
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

/// The values of a struct of constants, in words: what is a member is among them, so that none can be read
/// and not be listed. Integers without gaps between them; anything else does not compile.
template <class Constants>
inline constexpr auto values_of =
    std::bit_cast<std::array<std::int32_t, sizeof(Constants) / sizeof(std::int32_t)>>(Constants());

}  // namespace replk::jit
