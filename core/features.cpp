#include "core/features.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "core/cpuid.hpp"
#include "core/log.hpp"

namespace replk {
namespace {

struct Name {
  Feature feature;
  const char* text;
};
constexpr Name names[] = {
    {Feature::avx2, "avx2"},
    {Feature::avx512, "avx512"},
    {Feature::avx_vnni, "avx_vnni"},
    {Feature::avx512_vnni, "avx512_vnni"},
    {Feature::avx512_bf16, "avx512_bf16"},
    {Feature::amx_tile, "amx_tile"},
    {Feature::amx_bf16, "amx_bf16"},
    {Feature::amx_int8, "amx_int8"},
};

}  // namespace

std::string to_string(Features features) {
  std::string text;
  for (const Name& name : names)
    if (features.has(name.feature)) text += (text.empty() ? "" : " ") + std::string(name.text);
  return text.empty() ? "portable" : text;
}

}  // namespace replk

namespace replk::core {
namespace {

bool bits(unsigned word, std::initializer_list<int> wanted) {
  for (int n : wanted)
    if (!((word >> n) & 1)) return false;
  return true;
}

std::uint64_t enabled_state() {  // XCR0: which registers the operating system saves
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t(high) << 32) | low;
}

constexpr std::uint64_t vector_state = 0x6, wide_state = 0xe6, tile_state = 0x60000;

Features detected() {
  Features found;
  const Leaf one = leaf(1), seven = leaf(7), more = leaf(7, 1);
  if (!bits(one.c, {27, 28})) return found;  // OSXSAVE, AVX
  const std::uint64_t state = enabled_state();
  const auto saved = [&](std::uint64_t wanted) { return (state & wanted) == wanted; };
  if (!saved(vector_state) || !bits(one.c, {12, 29}) || !bits(seven.b, {5})) return found;
  found = Feature::avx2;
  if (bits(more.a, {4})) found = found | Feature::avx_vnni;
  if (!saved(wide_state) || !bits(seven.b, {16, 17, 28, 30, 31})) return found;
  found = found | Feature::avx512;
  if (bits(seven.c, {11})) found = found | Feature::avx512_vnni;
  if (bits(more.a, {5})) found = found | Feature::avx512_bf16;
  if (!saved(tile_state) || !bits(seven.d, {24})) return found;
  found = found | Feature::amx_tile;
  if (bits(seven.d, {22})) found = found | Feature::amx_bf16;
  if (bits(seven.d, {25})) found = found | Feature::amx_int8;
  return found;
}

constexpr Features tiles = Feature::amx_tile | Feature::amx_bf16 | Features(Feature::amx_int8);

/// What a name leaves. Fixed, so that a name means the same on every CPU to come.
struct Mask {
  const char* name;
  Features features;
};
constexpr Features avx512 = Feature::avx2 | Feature::avx512, avx512_vnni = avx512 | Feature::avx512_vnni;
constexpr Mask masks[] = {
    {"portable", {}},       {"avx2", Feature::avx2},      {"avx_vnni", Feature::avx2 | Feature::avx_vnni},
    {"avx512", avx512},     {"avx512_vnni", avx512_vnni}, {"avx512_bf16", avx512_vnni | Feature::avx512_bf16},
    {"amx", Features(~0u)},
};

bool tiles_granted() {
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, of Linux 5.16
  return ::syscall(SYS_arch_prctl, request, tile_data) == 0;
}

}  // namespace

Features hardware_features() {
  static const Features found = detected();
  return found;
}

Features allowed_features() {
  static const Features allowed = [] {
    constexpr Features all(~0u);
    const char* cap = std::getenv("REPLK_MAX_ISA");
    if (!cap || !*cap) return all;
    std::string known;
    for (const Mask& mask : masks) {
      if (std::string_view(mask.name) == cap) return mask.features;
      known += (known.empty() ? "" : ", ") + std::string(mask.name);
    }
    log(LogLevel::warning, "REPLK_MAX_ISA is '{}', not one of {}: ignored", cap, known);
    return all;
  }();
  return allowed;
}

Features features() {
  static const Features in_use = [] {
    const Features wanted = hardware_features() & allowed_features();
    if (!wanted.has(Feature::amx_tile) || tiles_granted()) return wanted;
    return Features(wanted.bits() & ~tiles.bits());
  }();
  return in_use;
}

}  // namespace replk::core
