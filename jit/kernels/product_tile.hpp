// The loop nest that products over packed panels share, in fp32 and with narrow operands: a register tile of
// rows by two vectors of columns.
#pragma once
#include <algorithm>
#include <cstddef>

#include "jit/kernels/gemm.hpp"
#include "jit/x64/assembler.hpp"

namespace replk::jit {

/// Base of generators. A step of the depth is four bytes of a row of a, against two vectors of the panel.
class ProductTile : public Assembler {
 protected:
  ProductTile(Isa isa, int rows, int columns)
      : Assembler(isa), rows_(rows), columns_(columns), vectors_((columns + lanes() - 1) / lanes()) {}

  const Xbyak::Reg64 arguments_ = rdi, panel_ = rsi, b_ = rdx, depth_ = rcx, a_stride_ = r8, c_stride_ = r9;
  const Xbyak::Reg64 bases_[4] = {r10, r11, r12, r13};  // of every third row of a
  const Xbyak::Reg64 a_ = rbx, c_ = rbp, prefetch_ = r14, residual_ = r15;

  Xbyak::Xmm accumulator(int row, int v) const { return vec(row * vectors_ + v); }
  int accumulators() const { return rows_ * vectors_; }
  // Behind the accumulators: the panel's vectors and two for what comes of a.
  Xbyak::Xmm weights(int v) const { return vec(registers() - 1 - v); }
  Xbyak::Xmm pixel(int row) const { return vec(registers() - 1 - vectors_of_panel - row % 2); }
  Xbyak::Address argument(std::size_t offset) const { return qword[arguments_ + offset]; }

  int count(int v) const { return std::min(lanes(), columns_ - v * lanes()); }  // columns in vector v

  /// How a step multiplies. weights(v) are loaded from the panel, pixel(r) from four bytes of a row.
  virtual int weight_bytes() const { return vector_bytes(); }  // of one vector's weights in the panel
  virtual void load_weights(int v, const Xbyak::Address& from) { load(weights(v), from); }
  virtual void load_pixel(int r, const Xbyak::Address& from) = 0;
  virtual void multiply_add(int r, int v) = 0;

  /// b_ at the panel, bases_ at the tile's rows.
  void begin_rows() {
    mov(b_, panel_);
    mov(bases_[0], a_);
    for (int i = 1; i * rows_of_base < rows_; i++) {
      lea(bases_[i], ptr[bases_[i - 1] + a_stride_ * 2]);
      add(bases_[i], a_stride_);
    }
  }
  void end_rows() {
    for (int r = 0; r < rows_; r++) add(a_, a_stride_);
  }

  /// Where the kernel's arguments have these.
  struct Depth {
    std::size_t steps, prefetch_step, later, later_step;
  };
  /// All steps, between begin_rows() and whatever needs the registers.
  void add_products(const Depth& at) {
    mov(depth_, argument(at.steps));
    loop_unrolled(
        depth_, unroll,
        [&] {
          prefetch(at);
          steps(unroll);
        },
        [&] { steps(1); });
  }

  const int rows_, columns_, vectors_;

 private:
  static constexpr int vectors_of_panel = 2, unroll = gemm_unroll, rows_of_base = 3, step_bytes = 4;

  void prefetch(const Depth& at) {
    prefetcht1(ptr[prefetch_]);
    add(prefetch_, argument(at.prefetch_step));
    mov(scratch_, argument(at.later));
    prefetcht1(ptr[scratch_]);
    add(scratch_, argument(at.later_step));
    mov(argument(at.later), scratch_);
  }

  void steps(int count) {
    for (int k = 0; k < count; k++) step(k);
    add(b_, count * vectors_of_panel * weight_bytes());
    for (int i = 0; i * rows_of_base < rows_; i++) add(bases_[i], count * step_bytes);
  }

  /// Step k of every row against step k of the panel.
  void step(int k) {
    for (int v = 0; v < vectors_; v++) load_weights(v, ptr[b_ + (k * vectors_of_panel + v) * weight_bytes()]);
    for (int r = 0; r < rows_; r++) {
      const Xbyak::Reg64& base = bases_[r / rows_of_base];
      const int displacement = k * step_bytes;
      switch (r % rows_of_base) {
        case 0:
          load_pixel(r, ptr[base + displacement]);
          break;
        case 1:
          load_pixel(r, ptr[base + a_stride_ + displacement]);
          break;
        default:
          load_pixel(r, ptr[base + a_stride_ * 2 + displacement]);
      }
      for (int v = 0; v < vectors_; v++) multiply_add(r, v);
    }
  }
};

}  // namespace replk::jit
