// Rounding fp32 vectors to bf16 and u8, for generators that write operands of narrow products. AVX-512.
#pragma once
#include <cstdint>
#include <vector>

#include "jit/x64/assembler.hpp"

namespace replk::jit {

/// An assembler that keeps constants in registers, from the last one down, and rounds with them.
class NarrowingAssembler : public Assembler {
 protected:
  /// native_bf16: whether AVX512_BF16 rounds, which takes denormals for zeros.
  explicit NarrowingAssembler(bool native_bf16) : Assembler(Isa::avx512), native_bf16_(native_bf16) {}

  /// A register that holds a constant from here to the end.
  Xbyak::Zmm keep() { return Xbyak::Zmm(--first_constant_); }
  /// Registers below all constants, from 0 on.
  int free_registers() const { return first_constant_; }
  Xbyak::Zmm keep(float value);
  Xbyak::Zmm keep_words(const std::vector<std::uint32_t>& words);

  /// Before to_bf16 and to_u8.
  void load_bf16_constants();
  void load_u8_constants();
  /// 32 values rounded to nearest even, in order, in `low`; a NaN stays one. Uses up all four and k4.
  void to_bf16(const Xbyak::Zmm& low, const Xbyak::Zmm& high, const Xbyak::Zmm& spare_low,
               const Xbyak::Zmm& spare_high);
  /// The same values x0, x1 as sums of two bf16: high parts in high0, in x0 what those leave out. Uses up all
  /// six and k4.
  void split_bf16(const Xbyak::Zmm& x0, const Xbyak::Zmm& x1, const Xbyak::Zmm& high0,
                  const Xbyak::Zmm& high1, const Xbyak::Zmm& spare0, const Xbyak::Zmm& spare1);
  /// x -> an integer, from which pack_u8 makes clamp(round(fma(x, scale, offset)), 0, 255), and 0 of a NaN.
  template <class Scale>
  void quantise(const Xbyak::Zmm& x, const Scale& scale, const Xbyak::Zmm& offset) {
    vfmadd213ps(x, scale, offset);
    quantise(x);
  }
  void quantise(const Xbyak::Zmm& x);
  /// Two quantised vectors to 32 bytes, or four to 64, in order, in the first.
  void pack_u8(const Xbyak::Zmm& x0, const Xbyak::Zmm& x1);
  void pack_u8(const Xbyak::Zmm& x0, const Xbyak::Zmm& x1, const Xbyak::Zmm& x2, const Xbyak::Zmm& x3);

 private:
  bool native_bf16_;
  int first_constant_ = 32;
  Xbyak::Zmm one_, half_, quiet_, words_in_order_, most_, bytes_in_order_;
};

}  // namespace replk::jit
