#include "jit/kernels/tile_operand.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "jit/kernels/narrowing.hpp"
#include "jit/kernels/tile_product.hpp"

namespace replk::jit {
namespace {

using Xbyak::Opmask;
using Xbyak::Reg64;
using Xbyak::Zmm;

class TileOperand : public NarrowingAssembler {
 public:
  explicit TileOperand(const TileOperandSpec& spec) : NarrowingAssembler(spec.native_bf16), spec_(spec) {}

 private:
  const Reg64 arguments_ = rdi, src_row_ = rsi, dst_row_ = rdx, rows_ = rcx;
  const Reg64 src_ = r8, dst_ = r9, steps_ = r10, scale_ = r11, offset_ = r12;
  const Opmask inputs_ = k1, kept_ = k2;

  int step_inputs() const { return tile_step(spec_.precision); }
  int element() const { return spec_.from_fp32 ? 4 : spec_.precision == Precision::int8 ? 1 : 2; }
  static Zmm x(int v) { return Zmm(v); }
  static Zmm high(int v) { return Zmm(4 + v); }
  static Zmm spare(int v) { return Zmm(8 + v); }
  Xbyak::Address argument(std::size_t offset) const { return qword[arguments_ + offset]; }

  void generate() override {
    prologue();
    if (spec_.from_fp32 && spec_.precision == Precision::int8)
      load_u8_constants();
    else if (spec_.from_fp32)
      load_bf16_constants();
    mov(src_row_, argument(offsetof(TileOperandArguments, src)));
    mov(dst_row_, argument(offsetof(TileOperandArguments, dst)));
    mov(rows_, argument(offsetof(TileOperandArguments, rows)));
    loop(rows_, [&] { row(); });
    epilogue();
  }

  void row() {
    mov(src_, src_row_);
    mov(dst_, dst_row_);
    mov(scale_, argument(offsetof(TileOperandArguments, scale)));
    mov(offset_, argument(offsetof(TileOperandArguments, offset)));
    const int whole = spec_.inputs / step_inputs(), rest = spec_.inputs % step_inputs();
    if (whole > 0) {
      mov(steps_, whole);
      loop(
          steps_, [&] { one_step(step_inputs()); }, 32);
    }
    if (rest > 0) one_step(rest);
    add(src_row_, argument(offsetof(TileOperandArguments, src_stride)));
    add(dst_row_, argument(offsetof(TileOperandArguments, dst_stride)));
  }

  /// `inputs` of a step, zeros behind them.
  void one_step(int inputs) {
    if (!spec_.from_fp32)
      copy_step(inputs);
    else if (spec_.precision == Precision::int8)
      quantise_step(inputs);
    else
      round_step(inputs);
    add(src_, step_inputs() * element());
    add(dst_, argument(offsetof(TileOperandArguments, dst_step)));
  }

  void copy_step(int inputs) {
    set_mask(kept_, inputs * element(), tile_line);
    vmovdqu8(x(0) | kept_ | T_z, ptr[src_]);
    vmovdqu8(ptr[dst_], x(0));
  }

  void quantise_step(int inputs) {
    for (int v = 0; v < 4; v++) load_floats(x(v), src_, v, inputs);
    for (int v = 0; v < 4; v++) {
      load_floats(spare(0), scale_, v, inputs);
      load_floats(spare(1), offset_, v, inputs);
      quantise(x(v), spare(0), spare(1));
    }
    pack_u8(x(0), x(1), x(2), x(3));  // behind the inputs scale and offset are zeros too
    vmovdqu8(ptr[dst_], x(0));
    add(scale_, step_inputs() * 4);
    add(offset_, step_inputs() * 4);
  }

  void round_step(int inputs) {
    for (int v = 0; v < 2; v++) load_floats(x(v), src_, v, inputs);
    if (spec_.precision == Precision::bf16x3) {
      split_bf16(x(0), x(1), high(0), high(1), spare(0), spare(1));
      vmovdqu16(ptr[dst_], high(0));
      vmovdqu16(ptr[dst_ + tile_line], x(0));
    } else {
      to_bf16(x(0), x(1), spare(0), spare(1));
      vmovdqu16(ptr[dst_], x(0));
    }
  }

  /// Vector v of a step, of which `inputs` are there.
  void load_floats(const Zmm& to, const Reg64& from, int v, int inputs) {
    const int count = std::clamp(inputs - v * lanes(), 0, lanes());
    if (count == 0) return zero(to);
    if (count == lanes()) return load(to, ptr[from + v * vector_bytes()]);
    set_mask(inputs_, count, lanes());
    vmovups(to | inputs_ | T_z, ptr[from + v * vector_bytes()]);
  }
  /// Takes scratch_.
  void set_mask(const Opmask& mask, int ones, int width) {
    mov(scratch_, ones >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << std::min(ones, width)) - 1);
    kmovq(mask, scratch_);
  }

  TileOperandSpec spec_;
};

}  // namespace

std::string TileOperandSpec::text() const {
  return fmt::format("tile_operand {} {} inputs={}{}", int(precision), from_fp32 ? "fp32" : "own", inputs,
                     native_bf16 ? " native" : "");
}
std::vector<TileOperandSpec> TileOperandSpec::samples(Features features) {
  if (!features.has(Feature::amx_tile)) return {};
  std::vector<TileOperandSpec> all;
  for (const Precision precision : {Precision::bf16, Precision::bf16x3, Precision::int8})
    for (const bool native : {false, true}) all.push_back({precision, true, native ? 70 : 30, native});
  all.push_back({Precision::bf16, false, 70, true});
  all.push_back({Precision::int8, false, 64, true});
  return all;
}
std::vector<std::uint8_t> generate(const TileOperandSpec& spec) {
  return TileOperand(spec).take();
}
std::shared_ptr<const Code> tile_operand_code(const TileOperandSpec& spec) {
  return get_code(spec.text(), [&] { return generate(spec); });
}

}  // namespace replk::jit
