#include "jit/kernels/tile_product.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <functional>
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

constexpr int vectors = 2;  // of a row of sums

/// Instructions that wait to be written between others.
using Instructions = std::vector<std::function<void()>>;

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

    times(offsetof(TileProductArguments, both),
          [&] { write_both(step(), finish_rows(spec_.rows_per_step)); });
    times(offsetof(TileProductArguments, rows), [&] { write_both({}, finish_rows(1)); });
    times(offsetof(TileProductArguments, steps), [&] { write_both(step(), {}); });

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

  /// Evenly, so that the vectors' instructions never fill the window in which the CPU looks for those of
  /// tiles: one behind the other, they were not overlapped by half.
  static void write_both(const Instructions& tiles, const Instructions& rows) {
    std::size_t written = 0;
    for (std::size_t i = 0; i < tiles.size(); i++) {
      tiles[i]();
      for (; written < (i + 1) * rows.size() / tiles.size(); written++) rows[written]();
    }
    for (; written < rows.size(); written++) rows[written]();
  }

  void start_sums(const Label& no_block) {
    const Reg64 start = r11, stride = r12;
    Label later, started;
    cmp(argument(offsetof(TileProductArguments, sums0)), 0);
    je(no_block, T_NEAR);
    cmp(argument(offsetof(TileProductArguments, first)), 0);
    je(later, T_NEAR);
    for (int row = 0; row < 2; row++)
      for (int column = 0; column < 2; column++) tilezero(sums(row, column));
    jmp(started, T_NEAR);
    L(later);
    mov(stride, tile_sums_line);
    for (int row = 0; row < 2; row++) {
      mov(start,
          argument(row == 0 ? offsetof(TileProductArguments, sums0) : offsetof(TileProductArguments, sums1)));
      for (int column = 0; column < 2; column++)
        tileloadd(sums(row, column), ptr[start + stride + column * tile_line]);
    }
    L(started);
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
    mov(a_stride_, tile_step_bytes(spec_.precision));
    mov(weights_, argument(offsetof(TileProductArguments, weights)));
    if (three()) {
      mov(low_weights_, weights_);
      add(low_weights_, argument(offsetof(TileProductArguments, low_weights)));
    }
    mov(weights_stride_, tile_weights_line);
  }

  /// One step of the depth: four products, or of bf16x3 three times four. Low times low parts is left
  /// out: 2^-18 of a product.
  Instructions step() {
    Instructions all;
    if (three())
      twelve_products(all);
    else
      four_products(all, weights_);
    all.push_back([this] {
      for (const Reg64& a : {a0_, a1_}) add(a, argument(offsetof(TileProductArguments, a_step)));
      add(weights_, tile_step_weight_bytes);
      if (three()) add(low_weights_, tile_step_weight_bytes);
    });
    prefetch_later(all, spec_.prefetch_lines, offsetof(TileProductArguments, prefetch),
                   offsetof(TileProductArguments, prefetch_advance));
    prefetch_later(all, 1, offsetof(TileProductArguments, later),
                   offsetof(TileProductArguments, later_advance));
    return all;
  }
  static constexpr int high = 0, low = tile_line;  // lines of a piece of the operand
  /// Of the operand's high parts, or whole, with some weights. A tile of weights is multiplied by both of the
  /// operand before the other one is loaded: with tiles of 14 rows 6 % faster than the other way round.
  void four_products(Instructions& all, const Reg64& weights) {
    all.push_back([this] { load_operand(0, high); });
    all.push_back([this, weights] { load_weights(0, weights); });
    all.push_back([this] { multiply(0, 0); });
    all.push_back([this] { load_operand(1, high); });
    all.push_back([this] { multiply(1, 0); });
    all.push_back([this, weights] { load_weights(1, weights); });
    all.push_back([this] { multiply(0, 1); });
    all.push_back([this] { multiply(1, 1); });
  }
  /// Eight tiles are loaded for them: each stays for all that it is multiplied by.
  void twelve_products(Instructions& all) {
    four_products(all, low_weights_);
    for (int column = 0; column < 2; column++) {
      all.push_back([this, column] { load_weights(column, weights_); });
      for (int row = 0; row < 2; row++) all.push_back([this, row, column] { multiply(row, column); });
    }
    for (int row = 0; row < 2; row++) {
      all.push_back([this, row] { load_operand(row, low); });
      for (int column = 0; column < 2; column++)
        all.push_back([this, row, column] { multiply(row, column); });
    }
  }
  void prefetch_later(Instructions& all, int lines, std::size_t pointer, std::size_t advance) {
    if (lines == 0) return;
    all.push_back([=, this] { mov(scratch_, argument(pointer)); });
    for (int i = 0; i < lines; i++) all.push_back([=, this] { prefetcht1(ptr[scratch_ + i * tile_line]); });
    all.push_back([=, this] {
      add(scratch_, argument(advance));
      mov(argument(pointer), scratch_);
    });
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

  /// Vectors in work, those of one or two rows, and what GELU needs beside them. Each operation is written
  /// for all of them, so that one hides the other's latency.
  Zmm x(int i) const { return Zmm(i); }
  Zmm u(int i) const { return Zmm(group_ * vectors + i); }
  Zmm p(int i) const { return Zmm(2 * group_ * vectors + i); }

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
    if (int8()) keep_columns(multiplier_, offsetof(TileProductArguments, multiplier));
    keep_columns(bias_, offsetof(TileProductArguments, bias));
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
    if (spec_.copy == Element::bf16 || spec_.copy == Element::bf16x2_tiles) load_bf16_constants();
    group_ = free_registers() >= 3 * 2 * vectors ? 2 : 1;
  }

  Instructions finish_rows(int rows) {
    Instructions all;
    for (int done = 0; done < rows; done += group_) finish_group(all, std::min(group_, rows - done));
    return all;
  }

  /// Up to two rows side by side.
  void finish_group(Instructions& all, int rows) {
    const auto each = [&](const auto& operation) {
      for (int i = 0; i < rows * vectors; i++) all.push_back([=] { operation(i); });
    };
    const auto column = [](int i) { return i % vectors; };
    each([=, this](int i) {
      const Xbyak::Address from = ptr[done_ + i * vector_bytes()];
      if (int8())
        vcvtdq2ps(x(i), from);
      else
        load(x(i), from);
    });
    all.push_back([=, this] { add(done_, rows * tile_sums_line); });
    if (int8())
      each([=, this](int i) { vfmadd213ps(x(i), multiplier_[column(i)], bias_[column(i)]); });
    else
      each([=, this](int i) { vaddps(x(i), x(i), bias_[column(i)]); });
    if (spec_.activation == Activation::relu)
      each([=, this](int i) { vmaxps(x(i), zero_, x(i)); });  // the second operand where it is a NaN
    if (spec_.activation == Activation::gelu) gelu(each);
    if (spec_.residual) {
      each([=, this](int i) {
        vmovups(u(i) | columns_[column(i)] | T_z, ptr[residual_ + column(i) * vector_bytes()]);
        if (column(i) + 1 == vectors) add(residual_, argument(offsetof(TileProductArguments, dst_stride)));
      });
      each([=, this](int i) { vaddps(x(i), x(i), u(i)); });
    }
    if (spec_.result)
      each([=, this](int i) {
        vmovups(ptr[dst_ + column(i) * vector_bytes()] | columns_[column(i)], x(i));
        if (column(i) + 1 == vectors) add(dst_, argument(offsetof(TileProductArguments, dst_stride)));
      });
    if (spec_.copy != Element::f32)
      for (int row = 0; row < rows; row++) all.push_back([=, this] { store_copy(vectors * row); });
  }

  /// Of the row whose vectors begin with x(i).
  void store_copy(int i) {
    if (spec_.copy == Element::u8) {
      for (int v = 0; v < vectors; v++) quantise(x(i + v), scale_[v], offset_[v]);
      pack_u8(x(i), x(i + 1));
      vmovdqu8(ptr[copy_] | all_columns_, Ymm(x(i).getIdx()));
    } else if (spec_.copy == Element::bf16x2_tiles) {
      split_bf16(x(i), x(i + 1), u(i), u(i + 1), p(i), p(i + 1));
      vmovdqu16(ptr[copy_], u(i));
      vmovdqu16(ptr[copy_ + tile_line], x(i));
    } else {
      to_bf16(x(i), x(i + 1), u(i), u(i + 1));
      vmovdqu16(ptr[copy_] | all_columns_, x(i));
    }
    add(copy_, argument(offsetof(TileProductArguments, copy_stride)));
  }

  /// All coefficients but the last one, which is only copied.
  template <std::size_t n>
  void keep_coefficients(const float (&values)[n]) {
    for (std::size_t i = 0; i + 1 < n; i++) coefficients_.push_back(keep(values[i]));
    last_coefficient_ = values[n - 1];
  }

  void load_gelu() {
    zero_ = keep();
    zero(zero_);
    limit_ = keep(three() ? gelu_limit : core::narrow_gelu_limit);
    if (!three()) return keep_coefficients(core::narrow_gelu_coefficients);
    middle_ = keep(gelu_limit / 2);
    square_ = keep(gelu_limit * gelu_limit / 4);
    keep_coefficients(gelu_coefficients);
  }

  template <class Each>
  void gelu(const Each& each) {
    constexpr int least_magnitude = 2;  // of vrangeps: the smaller of both magnitudes, its sign cleared
    constexpr int positive = 2 << 2;
    each([=, this](int i) { vrangeps(u(i), x(i), limit_, least_magnitude | positive); });
    // A NaN counts as the limit there, and stays one here.
    each([=, this](int i) { vmaxps(x(i), zero_, x(i)); });
    if (three()) each([=, this](int i) { vsubps(u(i), u(i), middle_); });
    each([=, this](int i) { load(p(i), constant(last_coefficient_)); });
    for (std::size_t c = coefficients_.size(); c-- > 0;)
      each([=, this](int i) { vfmadd213ps(p(i), u(i), coefficients_[c]); });
    if (three()) each([=, this](int i) { vfnmadd213ps(u(i), u(i), square_); });
    each([=, this](int i) { vfnmadd231ps(x(i), u(i), p(i)); });
  }

  TileProductSpec spec_;
  Zmm multiplier_[vectors], bias_[vectors], scale_[vectors], offset_[vectors];
  Zmm zero_, limit_, middle_, square_;
  std::vector<Zmm> coefficients_;
  float last_coefficient_ = 0;
  int group_ = 1;  // rows side by side
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
          {Precision::bf16x3, 1, gelu, false, false, Element::bf16x2_tiles, false, 2},
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
