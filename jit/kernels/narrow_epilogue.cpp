#include "jit/kernels/narrow_epilogue.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/gelu.hpp"

namespace replk::jit {

using Xbyak::Address;
using Xbyak::Reg64;
using Xbyak::Xmm;

std::string NarrowOutputs::text() const {
  return fmt::format("sums={} act={} res={} out={}{}", integers ? "s32" : "f32", static_cast<int>(activation),
                     static_cast<int>(residual), result ? "f32+" : "", name(copy));
}

void NarrowEpilogue::finish(const std::vector<Xmm>& temporaries, const Pointers& at) {
  std::vector<Sums> all;
  for (int r = 0; r < rows_; r++)
    for (int v = 0; v < vectors_; v++) all.push_back({accumulator(r, v), r, v});
  // As many chains side by side as there are pairs of temporaries, in whole rows: one alone would wait for
  // its own latency.
  const auto vectors = std::size_t(vectors_);
  const std::size_t rows_of_group = std::max<std::size_t>(1, temporaries.size() / 2 / vectors);
  for (std::size_t first = 0; first < all.size(); first += rows_of_group * vectors) {
    const std::size_t end = std::min(all.size(), first + rows_of_group * vectors);
    const std::vector<Sums> group(all.begin() + std::ptrdiff_t(first), all.begin() + std::ptrdiff_t(end));
    scale_and_activate(group, temporaries, at.channels);
    for (std::size_t i = 0; i < group.size(); i += vectors) {
      const auto row = group.begin() + std::ptrdiff_t(i);
      write({row, row + std::ptrdiff_t(vectors)}, temporaries, at);
    }
  }
}

void NarrowEpilogue::scale_and_activate(const std::vector<Sums>& group, const std::vector<Xmm>& temporaries,
                                        const Reg64& channels) {
  if (outputs_.integers) {
    for (const Sums& s : group) vcvtdq2ps(s.x, s.x);
    for (std::size_t i = 0; i < group.size(); i++) {
      const Sums& s = group[i];
      load(temporaries[i], channel(channels, multiplier_row, s.v));
      vfmadd213ps(s.x, temporaries[i], channel(channels, bias_row, s.v));
    }
  } else {
    for (const Sums& s : group) vaddps(s.x, s.x, channel(channels, bias_row, s.v));
  }
  if (outputs_.activation == Activation::relu) {
    zero(temporaries[0]);
    for (const Sums& s : group) vmaxps(s.x, temporaries[0], s.x);  // the second operand where it is a NaN
  }
  if (outputs_.activation == Activation::gelu) gelu(group, temporaries);
}

/// core::narrow_gelu, operation by operation.
void NarrowEpilogue::gelu(const std::vector<Sums>& group, const std::vector<Xmm>& temporaries) {
  const auto t = [&](std::size_t i) { return temporaries[2 * i]; };
  const auto p = [&](std::size_t i) { return temporaries[2 * i + 1]; };
  const std::size_t n = group.size();
  for (std::size_t i = 0; i < n; i++) vandps(p(i), group[i].x, words(0x7fffffffu));
  for (std::size_t i = 0; i < n; i++) load(t(i), constant(core::narrow_gelu_limit));
  for (std::size_t i = 0; i < n; i++) vminps(t(i), t(i), p(i));  // a NaN stays
  int term = core::narrow_gelu_terms - 1;
  for (std::size_t i = 0; i < n; i++) load(p(i), constant(core::narrow_gelu_coefficients[term]));
  while (term-- > 0)
    for (std::size_t i = 0; i < n; i++)
      vfmadd213ps(p(i), t(i), constant(core::narrow_gelu_coefficients[term]));
  for (std::size_t i = 0; i < n; i++) vmaxps(group[i].x, group[i].x, constant(0));
  for (std::size_t i = 0; i < n; i++) vfnmadd231ps(group[i].x, t(i), p(i));
}

void NarrowEpilogue::write(const std::vector<Sums>& row, const std::vector<Xmm>& temporaries,
                           const Pointers& at) {
  for (const Sums& s : row) {
    const int displacement = s.v * vector_bytes();
    if (outputs_.residual) {
      load_part(temporaries[0], at.residual, displacement, count(s.v));
      vaddps(s.x, s.x, temporaries[0]);
    }
    if (!outputs_.result) continue;
    // store_part uses a tail up.
    const bool tail = count(s.v) < lanes();
    if (tail) vmovaps(temporaries[0], s.x);
    store_part(at.dst, displacement, tail ? temporaries[0] : s.x, count(s.v));
  }
  if (outputs_.copy == Element::u8) write_u8(row, temporaries[0], at);
  if (outputs_.copy == Element::bf16) write_bf16(row, temporaries, at);
  if (outputs_.result) add(at.dst, at.dst_stride);
  if (outputs_.residual) add(at.residual, at.dst_stride);
  if (outputs_.copy != Element::f32) add(at.copy, at.copy_stride);
}

/// core::quantise.
void NarrowEpilogue::write_u8(const std::vector<Sums>& row, const Xmm& temporary, const Pointers& at) {
  for (const Sums& s : row) {
    load(temporary, channel(at.channels, scale_row, s.v));
    vfmadd213ps(s.x, temporary, channel(at.channels, offset_row, s.v));
    vmaxps(s.x, s.x, constant(0));  // a NaN becomes 0
    if (!wide()) vminps(s.x, s.x, constant(255));
    vcvtps2dq(s.x, s.x);
    // What is too large for an integer becomes 2^31, which saturates as well.
    if (wide()) vpmovusdb(masked(ptr[at.copy + s.v * lanes()], count(s.v)), s.x);
  }
  if (wide()) return;
  const Xmm low(row[0].x.getIdx()), high(temporary.getIdx());
  pack_words(row[0].x, row.back().x);
  vextracti128(high, Xbyak::Ymm(low.getIdx()), 1);
  vpackuswb(low, low, high);
  store_bytes(at.copy, row[0].x, columns_);
}

/// core::from_float<Bf16>.
void NarrowEpilogue::write_bf16(const std::vector<Sums>& row, const std::vector<Xmm>& temporaries,
                                const Pointers& at) {
  const auto quiet = [&](std::size_t i) { return temporaries[2 * i]; };
  const auto rounded = [&](std::size_t i) { return temporaries[2 * i + 1]; };
  for (std::size_t i = 0; i < row.size(); i++) {
    const Xmm& x = row[i].x;
    vpsrld(quiet(i), x, 16);
    if (wide())
      vpandd(rounded(i), quiet(i), words(1));
    else
      vpand(rounded(i), quiet(i), words(1));
    vpaddd(rounded(i), rounded(i), x);
    vpaddd(rounded(i), rounded(i), words(0x7fffu));
    vpsrld(rounded(i), rounded(i), 16);
    if (wide()) {
      vcmpunordps(k6, x, x);
      vpord(rounded(i) | k6, quiet(i), words(0x40u));
      vpmovdw(masked(ptr[at.copy + row[i].v * 2 * lanes()], count(row[i].v)), rounded(i));
    } else {
      vpor(quiet(i), quiet(i), words(0x40u));
      vcmpunordps(x, x, x);
      vblendvps(rounded(i), rounded(i), quiet(i), x);
    }
  }
  if (wide()) return;
  pack_words(rounded(0), rounded(row.size() - 1));
  store_bytes(at.copy, rounded(0), 2 * columns_);
}

void NarrowEpilogue::pack_words(const Xmm& first, const Xmm& second) {
  vpackusdw(first, first, second);
  vpermq(Xbyak::Ymm(first.getIdx()), Xbyak::Ymm(first.getIdx()), 0xd8);
}

void NarrowEpilogue::store_bytes(const Reg64& base, const Xmm& v, int bytes) {
  const Xmm low(v.getIdx());
  if (bytes == 32) return vmovups(ptr[base], Xbyak::Ymm(v.getIdx()));
  int at = 0;
  if (bytes >= 16) {
    vmovups(ptr[base], low);
    at = 16;
    if (bytes > at) vextracti128(low, Xbyak::Ymm(v.getIdx()), 1);
  }
  for (const int piece : {8, 4, 2, 1}) {
    if (bytes - at < piece) continue;
    const Address to = ptr[base + at];
    if (piece == 8) vmovq(to, low);
    if (piece == 4) vmovd(to, low);
    if (piece == 2) vpextrw(to, low, 0);
    if (piece == 1) vpextrb(to, low, 0);
    at += piece;
    if (bytes > at) vpsrldq(low, low, piece);
  }
}

Address NarrowEpilogue::masked(const Address& address, int count) {
  if (count == lanes()) return address;
  mask_part(count);
  return address | part_;
}

}  // namespace replk::jit
