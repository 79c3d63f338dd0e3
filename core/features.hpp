// What a CPU can do beyond the rungs of Isa: a set, not a ladder.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "core/cpu.hpp"

namespace replk {

/// Bits of a Features; replk.h gives them to callers, so they never change their place.
enum class Feature : std::uint32_t {
  avx2 = 1 << 0,         // AVX2, FMA and F16C
  avx512 = 1 << 1,       // AVX-512 F, BW, DQ, VL and CD
  avx_vnni = 1 << 2,     // vpdpbusd of 256 bits, VEX
  avx512_vnni = 1 << 3,  // vpdpbusd of 512 bits, EVEX
  avx512_bf16 = 1 << 4,  // vdpbf16ps, vcvtneps2bf16
  amx_tile = 1 << 5,     // tiles, which Linux lets this process use
  amx_bf16 = 1 << 6,     // tdpbf16ps
  amx_int8 = 1 << 7,     // tdpbusd and its like
};

class Features {
 public:
  constexpr Features() = default;
  constexpr Features(Feature one) : bits_(static_cast<std::uint32_t>(one)) {}
  constexpr explicit Features(std::uint32_t bits) : bits_(bits) {}

  constexpr std::uint32_t bits() const { return bits_; }
  /// Whether all of them are here.
  constexpr bool has(Features those) const { return (bits_ & those.bits_) == those.bits_; }
  constexpr Features operator|(Features other) const { return Features(bits_ | other.bits_); }
  constexpr Features operator&(Features other) const { return Features(bits_ & other.bits_); }
  bool operator==(const Features&) const = default;

 private:
  std::uint32_t bits_ = 0;
};
constexpr Features operator|(Feature a, Feature b) {
  return Features(a) | Features(b);
}

/// The rung of the ladder that a set reaches.
constexpr Isa isa_of(Features features) {
  if (!features.has(Feature::avx2)) return Isa::portable;
  return features.has(Feature::avx512) ? Isa::avx512 : Isa::avx2;
}
/// The least set that reaches it.
constexpr Features features_of(Isa isa) {
  if (isa == Isa::avx512) return Feature::avx2 | Feature::avx512;
  return isa == Isa::avx2 ? Features(Feature::avx2) : Features();
}
/// `avx2 avx512 avx512_vnni`; `portable` for none.
std::string to_string(Features features);

}  // namespace replk

namespace replk::core {

/// What the CPU has and the operating system saves; tiles too, whether or not this process may use them.
Features hardware_features();
/// What REPLK_MAX_ISA leaves of a CPU: a fixed mask by name, everything where it is not set. An unknown name
/// is warned of once and ignored.
Features allowed_features();
/// What is in use: hardware, allowed, and of tiles only what Linux grants. The first call asks it where
/// there are any (arch_prctl; from then on a signal stack of this process must have room for tiles), so only
/// code that may use them calls this. The same for the life of the process; thread-safe.
Features features();

}  // namespace replk::core
