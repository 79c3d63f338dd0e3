#include "jit/kernels/tile_product.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <iterator>

#include "core/gelu.hpp"
#include "jit/kernels/gelu.hpp"
#include "jit/kernels/narrowing.hpp"

namespace replk::jit {
namespace {

using Xbyak::Label;
using Xbyak::Opmask;
using Xbyak::Reg64;
using Xbyak::Tmm;
using Xbyak::Xmm;
using Xbyak::Ymm;
using Xbyak::Zmm;

/// Vectors of a row of sums: every step of the epilogue is written for both, so that one hides the other's
/// latency.
constexpr int vectors = 2;

class TileProduct : public NarrowingAssembler {
 public:
  explicit TileProduct(const TileProductSpec& spec) : NarrowingAssembler(spec.native_bf16), spec_(spec) {}

 private:
  const Reg64 arguments_ = rdi;
  const Reg64 a0_ = rsi, a1_ = rdx, a_stride_ = rcx, weights_stride_ = r9;
  const Reg64 weights_ = r8, low_weights_ = rbx;
  const Reg64 count_ = r10;
  const Reg64 done_ = r11, dst_ = r12, residual_ = r13, copy_ = r14;
  const Opmask columns_[vectors] = {k1, k2}, all_columns_ = k3;

  static Tmm sums(int row, int column) { return Tmm(2 * row + column); }
  static Tmm operand(int row) { return Tmm(4 + row); }
  static Tmm weights(int column) { return Tmm(6 + column); }

  bool three() const { return spec_.precision == Precision::bf16x3; }
  bool int8() const { return spec_.precision == Precision::int8; }
  Xbyak::Address argument(std::size_t offset) const { return qword[arguments_ + offset]; }

  void generate() override {
    prologue();
    Label no_block, block_left;
    start_sums(no_block);
    load_block();
    L(no_block);
    load_done();

    times(offsetof(TileProductArguments, both), [&] {
      step();
      for (int r = 0; r < spec_.rows_per_step; r++) finish_row();
    });
    times(offsetof(TileProductArguments, rows), [&] { finish_row(); });
    times(offsetof(TileProductArguments, steps), [&] { step(); });

    store_sums(block_left);
    L(block_left);
    epilogue();
  }

  /// Runs body as often as the argument says.
  template <class Body>
  void times(std::size_t offset, const Body& body) {
    mov(count_, argument(offset));
    loop_any(count_, body, 32);
  }

  void start_sums(const Label& no_block) {
    const Reg64 start = r11, stride = r12;
    cmp(argument(offsetof(TileProductArguments, sums0)), 0);
    je(no_block, T_NEAR);
    mov(stride, argument(offsetof(TileProductArguments, start_stride)));
    for (int row = 0; row < 2; row++) {
      mov(start, argument(row == 0 ? offsetof(TileProductArguments, start0)
                                   : offsetof(TileProductArguments, start1)));
      for (int column = 0; column < 2; column++)
        tileloadd(sums(row, column), ptr[start + stride + column * tile_line]);
    }
  }

  void store_sums(const Label& no_block) {
    const Reg64 to = r11, stride = r12;
    cmp(argument(offsetof(TileProductArguments, sums0)), 0);
    je(no_block, T_NEAR);
    mov(stride, tile_sums_line);
    for (int row = 0; row < 2; row++) {
      mov(to,
          argument(row == 0 ? offsetof(TileProductArguments, sums0) : offsetof(TileProductArguments, sums1)));
      for (int column = 0; column < 2; column++)
        tilestored(ptr[to + stride + column * tile_line], sums(row, column));
    }
  }

  void load_block() {
    mov(a0_, argument(offsetof(TileProductArguments, a0)));
    mov(a1_, argument(offsetof(TileProductArguments, a1)));
    mov(a_stride_, argument(offsetof(TileProductArguments, a_stride)));
    mov(weights_, argument(offsetof(TileProductArguments, weights)));
    if (three()) {
      mov(low_weights_, weights_);
      add(low_weights_, argument(offsetof(TileProductArguments, low_weights)));
    }
    mov(weights_stride_, tile_weights_line);
  }

  /// One step of the depth: four products, or of bf16x3 three times four. Low times low parts is left
  /// out: 2^-18 of a product.
  void step() {
    constexpr int high = 0, low = tile_line;
    four_products(high);
    if (three()) {
      // Operands come from the L2, once each; weights from the L1, the high parts twice.
      for (int column = 0; column < 2; column++) {
        load_weights(column, low_weights_);
        for (int row = 0; row < 2; row++) multiply(row, column);
      }
      four_products(low);
    }
    for (const Reg64& a : {a0_, a1_}) add(a, tile_step_bytes(spec_.precision));
    add(weights_, tile_step_weight_bytes);
    if (three()) add(low_weights_, tile_step_weight_bytes);
    prefetch_later(spec_.prefetch_lines, offsetof(TileProductArguments, prefetch),
                   offsetof(TileProductArguments, prefetch_advance));
    prefetch_later(1, offsetof(TileProductArguments, later), offsetof(TileProductArguments, later_advance));
  }
  /// Of a part of the operand with the (high) weights.
  void four_products(int part) {
    load_operand(0, part);
    load_weights(0, weights_);
    multiply(0, 0);
    load_weights(1, weights_);
    multiply(0, 1);
    load_operand(1, part);
    multiply(1, 0);
    multiply(1, 1);
  }
  void prefetch_later(int lines, std::size_t pointer, std::size_t advance) {
    if (lines == 0) return;
    mov(scratch_, argument(pointer));
    for (int i = 0; i < lines; i++) prefetcht1(ptr[scratch_ + i * tile_line]);
    add(scratch_, argument(advance));
    mov(argument(pointer), scratch_);
  }
  void load_operand(int row, int part) {
    // Passes the L1 by as far as it can, where the panel's part stays for the next block: 58 to 74 % of the
    // peak with a panel of 32 KiB.
    tileloaddt1(operand(row), ptr[(row == 0 ? a0_ : a1_) + a_stride_ + part]);
  }
  void load_weights(int column, const Reg64& part) {
    tileloadd(weights(column), ptr[part + weights_stride_ + column * tile_line]);
  }
  void multiply(int row, int column) {
    if (int8())
      tdpbusd(sums(row, column), operand(row), weights(column));
    else
      tdpbf16ps(sums(row, column), operand(row), weights(column));
  }

  // The epilogue. Vector registers: temporaries from 0 on, constants from the last one down.

  /// Row vectors in work, and what GELU needs beside them.
  static Zmm x(int v) { return Zmm(v); }
  static Zmm u(int v) { return Zmm(vectors + v); }
  static Zmm p(int v) { return Zmm(2 * vectors + v); }

  void keep_columns(Zmm (&pair)[vectors], std::size_t offset) {
    mov(count_, argument(offset));
    for (int v = 0; v < vectors; v++) {
      pair[v] = keep();
      load(pair[v], ptr[count_ + v * vector_bytes()]);
    }
  }

  void load_done() {
    mov(done_, argument(offsetof(TileProductArguments, done)));
    mov(dst_, argument(offsetof(TileProductArguments, dst)));
    mov(residual_, argument(offsetof(TileProductArguments, residual)));
    mov(copy_, argument(offsetof(TileProductArguments, copy)));
    mov(count_, argument(offsetof(TileProductArguments, columns)));
    kmovd(all_columns_, count_.cvt32());
    kmovw(columns_[0], count_.cvt32());
    shr(count_.cvt32(), 16);
    kmovw(columns_[1], count_.cvt32());
    if (int8()) {
      keep_columns(multiplier_, offsetof(TileProductArguments, multiplier));
      keep_columns(bias_, offsetof(TileProductArguments, bias));
    }
    if (spec_.activation == Activation::relu) {
      zero_ = keep();
      zero(zero_);
    }
    if (spec_.activation == Activation::gelu) load_gelu();
    if (spec_.copy == Element::u8) {
      keep_columns(scale_, offsetof(TileProductArguments, scale));
      keep_columns(offset_, offsetof(TileProductArguments, offset));
      load_u8_constants();
    }
    if (spec_.copy == Element::bf16) load_bf16_constants();
  }

  void finish_row() {
    for (int v = 0; v < vectors; v++) {
      const Xbyak::Address from = ptr[done_ + v * vector_bytes()];
      if (int8())
        vcvtdq2ps(x(v), from);
      else
        load(x(v), from);
    }
    if (int8())
      for (int v = 0; v < vectors; v++) vfmadd213ps(x(v), multiplier_[v], bias_[v]);
    if (spec_.activation == Activation::relu)
      for (int v = 0; v < vectors; v++) vmaxps(x(v), zero_, x(v));  // the second operand where it is a NaN
    if (spec_.activation == Activation::gelu) gelu();
    if (spec_.residual) {
      for (int v = 0; v < vectors; v++)
        vmovups(u(v) | columns_[v] | T_z, ptr[residual_ + v * vector_bytes()]);
      for (int v = 0; v < vectors; v++) vaddps(x(v), x(v), u(v));
      add(residual_, argument(offsetof(TileProductArguments, dst_stride)));
    }
    if (spec_.result) {
      for (int v = 0; v < vectors; v++) vmovups(ptr[dst_ + v * vector_bytes()] | columns_[v], x(v));
      add(dst_, argument(offsetof(TileProductArguments, dst_stride)));
    }
    if (spec_.copy != Element::f32) store_copy();
    add(done_, tile_sums_line);
  }

  void store_copy() {
    if (spec_.copy == Element::u8) {
      for (int v = 0; v < vectors; v++) quantise(x(v), scale_[v], offset_[v]);
      pack_u8(x(0), x(1));
      vmovdqu8(ptr[copy_] | all_columns_, Ymm(x(0).getIdx()));
    } else {
      to_bf16(x(0), x(1), u(0), u(1));
      vmovdqu16(ptr[copy_] | all_columns_, x(0));
    }
    add(copy_, argument(offsetof(TileProductArguments, copy_stride)));
  }

  void load_gelu() {
    zero_ = keep();
    zero(zero_);
    limit_ = keep(three() ? gelu_limit : core::narrow_gelu_limit);
    if (three()) {
      middle_ = keep(gelu_limit / 2);
      square_ = keep(gelu_limit * gelu_limit / 4);
      for (const float c : gelu_coefficients) coefficients_.push_back(keep(c));
    } else {
      for (const float c : core::narrow_gelu_coefficients) coefficients_.push_back(keep(c));
    }
  }

  void gelu() {
    constexpr int least_magnitude = 2;  // of vrangeps: the smaller of both magnitudes, its sign cleared
    constexpr int positive = 2 << 2;
    for (int v = 0; v < vectors; v++) vrangeps(u(v), x(v), limit_, least_magnitude | positive);
    // A NaN counts as the limit there, and stays one here.
    for (int v = 0; v < vectors; v++) vmaxps(x(v), zero_, x(v));
    if (three())
      for (int v = 0; v < vectors; v++) vsubps(u(v), u(v), middle_);
    for (int v = 0; v < vectors; v++) vmovaps(p(v), coefficients_.back());
    for (std::size_t i = coefficients_.size() - 1; i-- > 0;)
      for (int v = 0; v < vectors; v++) vfmadd213ps(p(v), u(v), coefficients_[i]);
    if (three())
      for (int v = 0; v < vectors; v++) vfnmadd213ps(u(v), u(v), square_);
    for (int v = 0; v < vectors; v++) vfnmadd231ps(x(v), u(v), p(v));
  }

  TileProductSpec spec_;
  Zmm multiplier_[vectors], bias_[vectors], scale_[vectors], offset_[vectors];
  Zmm zero_, limit_, middle_, square_;
  std::vector<Zmm> coefficients_;
};

class TileConfigureCode : public Assembler {
 public:
  TileConfigureCode() : Assembler(Isa::avx512) {}

 private:
  void generate() override {
    ldtilecfg(ptr[rdi]);
    ret();
  }
};

class TileReleaseCode : public Assembler {
 public:
  TileReleaseCode() : Assembler(Isa::avx512) {}

 private:
  void generate() override {
    tilerelease();
    ret();
  }
};

}  // namespace

std::string TileProductSpec::text() const {
  return fmt::format("tile_product {} rows={} end={}{}{} copy={}{} prefetch={}", int(precision),
                     rows_per_step, int(activation), residual ? "+residual" : "", result ? "+result" : "",
                     int(copy), native_bf16 ? " native" : "", prefetch_lines);
}

std::vector<TileProductSpec> TileProductSpec::samples(Features features) {
  if (!features.has(Feature::amx_tile)) return {};
  using enum Activation;
  return {{Precision::bf16, 1, gelu, true, true, Element::bf16, true, 1},
          {Precision::bf16, 2, relu, false, false, Element::bf16, false, 0},
          {Precision::bf16x3, 1, gelu, true, true, Element::f32, true, 2},
          {Precision::int8, 1, gelu, false, false, Element::u8, true, 1},
          {Precision::int8, 1, none, true, true, Element::f32, true, 1}};
}
std::vector<std::uint8_t> generate(const TileProductSpec& spec) {
  return TileProduct(spec).take();
}
std::shared_ptr<const Code> tile_product_code(const TileProductSpec& spec) {
  return get_code(spec.text(), [&] { return generate(spec); });
}

TilePalette::TilePalette(int height) {
  for (int tile = 0; tile < 8; tile++) {
    const bool of_weights = tile >= 6;
    line_bytes[tile] = tile_line;
    rows[tile] = std::uint8_t(of_weights ? tile_rows : height);
  }
}
std::shared_ptr<const Code> tile_configure_code() {
  return get_code("tile_configure", [] { return TileConfigureCode().take(); });
}
std::shared_ptr<const Code> tile_release_code() {
  return get_code("tile_release", [] { return TileReleaseCode().take(); });
}

}  // namespace replk::jit
