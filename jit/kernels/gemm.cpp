#include "jit/kernels/gemm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "jit/kernels/gelu.hpp"
#include "jit/x64/assembler.hpp"

namespace replk::jit {
namespace {

using Xbyak::Label;
using Xbyak::Reg64;
using Xbyak::Xmm;

class Gemm : public Assembler {
 public:
  explicit Gemm(const GemmSpec& spec)
      : Assembler(spec.isa), spec_(spec), vectors_((spec.columns + lanes() - 1) / lanes()) {}

 private:
  static constexpr int vectors_of_panel = 2, unroll = gemm_unroll, rows_of_base = 3;

  // rax and k7 belong to load_part and store_part, outside the sum.
  const Reg64 arguments_ = rdi, panel_ = rsi, b_ = rdx, depth_ = rcx, a_stride_ = r8, c_stride_ = r9;
  const Reg64 bases_[4] = {r10, r11, r12, r13};  // of every third row of a
  const Reg64 a_ = rbx, c_ = rbp, prefetch_ = r14, residual_ = r15, later_ = rax;

  Xmm accumulator(int row, int v) const { return vec(row * vectors_ + v); }
  int accumulators() const { return spec_.rows * vectors_; }
  // Behind the accumulators: the panel's vectors and two for the broadcasts of a.
  Xmm weights(int v) const { return vec(registers() - 1 - v); }
  Xmm pixel(int row) const { return vec(registers() - 1 - vectors_of_panel - row % 2); }
  int count(int v) const { return std::min(lanes(), spec_.columns - v * lanes()); }
  Xbyak::Address argument(std::size_t offset) const { return qword[arguments_ + offset]; }

  void generate() override {
    prologue();
    mov(a_, argument(offsetof(GemmArguments, a)));
    mov(panel_, argument(offsetof(GemmArguments, panel)));
    mov(c_, argument(offsetof(GemmArguments, c)));
    mov(residual_, argument(offsetof(GemmArguments, residual)));
    mov(a_stride_, argument(offsetof(GemmArguments, a_stride)));
    mov(c_stride_, argument(offsetof(GemmArguments, c_stride)));
    push(argument(offsetof(GemmArguments, tiles)));
    mov(prefetch_, argument(offsetof(GemmArguments, prefetch)));
    Label tile;
    L(tile);
    call_up_next_rows(c_);
    if (spec_.add_residual || spec_.end_residual) call_up_next_rows(residual_);
    start();
    sum();
    join();
    finish();
    for (int r = 0; r < spec_.rows; r++) add(a_, a_stride_);
    dec(qword[rsp]);
    jnz(tile, T_NEAR);
    add(rsp, 8);
    epilogue();
  }

  /// Runs body(row) with `row` in turn at every row of the tile, and leaves it below the last.
  template <class Body>
  void for_rows(const Reg64& row, Body body) {
    for (int r = 0; r < spec_.rows; r++) {
      body(r);
      add(row, c_stride_);
    }
  }
  void back_to_first_row(const Reg64& row) {
    for (int r = 0; r < spec_.rows; r++) sub(row, c_stride_);
  }

  /// Rows of c lie far apart, which no hardware prefetcher follows: those of the next tile are called up
  /// while this one is summed.
  void call_up_next_rows(const Reg64& row) {
    const Reg64 next = depth_;
    lea(next, ptr[row + c_stride_]);
    for (int r = 1; r < spec_.rows; r++) add(next, c_stride_);
    for_rows(next, [&](int) { prefetchw(ptr[next]); });
  }

  void start() {
    if (!spec_.bias) {
      for (int i = 0; i < accumulators(); i++) zero(vec(i));
      return;
    }
    mov(b_, argument(offsetof(GemmArguments, bias)));
    for (int v = 0; v < vectors_; v++) {
      load(weights(v), ptr[b_ + v * vector_bytes()]);
      for (int r = 0; r < spec_.rows; r++) vmovaps(accumulator(r, v), weights(v));
    }
  }

  /// What is in memory joins the sums.
  void join() {
    if (!spec_.add_c && !spec_.add_residual) return;
    const Reg64& row = spec_.add_c ? c_ : residual_;
    for_rows(row, [&](int r) { add_row(r, row); });
    if (spec_.add_c) back_to_first_row(c_);
  }

  void add_row(int r, const Reg64& row) {
    for (int v = 0; v < vectors_; v++) {
      load_part(weights(v), row, v * vector_bytes(), count(v));
      vaddps(accumulator(r, v), accumulator(r, v), weights(v));
    }
  }

  void sum() {
    mov(b_, panel_);
    mov(bases_[0], a_);
    for (int i = 1; i * rows_of_base < spec_.rows; i++) {
      lea(bases_[i], ptr[bases_[i - 1] + a_stride_ * 2]);
      add(bases_[i], a_stride_);
    }
    Label steps, rest, single, done;
    mov(depth_, argument(offsetof(GemmArguments, depth)));
    sub(depth_, unroll);
    jl(rest, T_NEAR);
    align(32);
    L(steps);
    prefetcht1(ptr[prefetch_]);
    add(prefetch_, argument(offsetof(GemmArguments, prefetch_step)));
    mov(later_, argument(offsetof(GemmArguments, later)));
    prefetcht1(ptr[later_]);
    add(later_, argument(offsetof(GemmArguments, later_step)));
    mov(argument(offsetof(GemmArguments, later)), later_);
    for (int k = 0; k < unroll; k++) step(k);
    advance(unroll);
    sub(depth_, unroll);
    jge(steps, T_NEAR);
    L(rest);
    add(depth_, unroll);
    jz(done, T_NEAR);
    L(single);
    step(0);
    advance(1);
    dec(depth_);
    jnz(single, T_NEAR);
    L(done);
  }

  /// Element k of every row against row k of the panel.
  void step(int k) {
    for (int v = 0; v < vectors_; v++)
      load(weights(v), ptr[b_ + (k * vectors_of_panel + v) * vector_bytes()]);
    for (int r = 0; r < spec_.rows; r++) {
      const Reg64& base = bases_[r / rows_of_base];
      const int displacement = k * int(sizeof(float));
      switch (r % rows_of_base) {
        case 0:
          broadcast(pixel(r), ptr[base + displacement]);
          break;
        case 1:
          broadcast(pixel(r), ptr[base + a_stride_ + displacement]);
          break;
        default:
          broadcast(pixel(r), ptr[base + a_stride_ * 2 + displacement]);
      }
      for (int v = 0; v < vectors_; v++) vfmadd231ps(accumulator(r, v), pixel(r), weights(v));
    }
  }

  void advance(int steps) {
    add(b_, steps * vectors_of_panel * vector_bytes());
    for (int i = 0; i * rows_of_base < spec_.rows; i++) add(bases_[i], steps * int(sizeof(float)));
  }

  void finish() {
    if (spec_.activation == Activation::relu) {
      const Xmm zeros = weights(0);
      zero(zeros);
      for (int i = 0; i < accumulators(); i++)
        vmaxps(vec(i), zeros, vec(i));  // the second operand where it is a NaN
    }
    if (spec_.activation == Activation::gelu) gelu();
    if (spec_.end_residual) for_rows(residual_, [&](int r) { add_row(r, residual_); });
    for_rows(c_, [&](int r) {
      for (int v = 0; v < vectors_; v++) store_part(c_, v * vector_bytes(), accumulator(r, v), count(v));
    });
  }

  /// The sums wait on the stack. Six chains at a time: one alone would wait for its own latency.
  void gelu() {
    const int group = wide() ? 12 : 6;
    const auto u = [&](int i) { return vec(2 * i); };
    const auto p = [&](int i) { return vec(2 * i + 1); };
    const auto slot = [&](int i) { return ptr[rsp + i * vector_bytes()]; };
    const Xmm shared = vec(registers() - 1);
    const int bytes = accumulators() * vector_bytes();
    sub(rsp, bytes);
    for (int i = 0; i < accumulators(); i++) store(slot(i), vec(i));
    for (int first = 0; first < accumulators(); first += group) {
      const int n = std::min(group, accumulators() - first);
      load(shared, table(std::vector<std::uint32_t>(lanes(), 0x7fffffffu)));
      for (int i = 0; i < n; i++) vandps(u(i), shared, slot(first + i));
      load(shared, constant(gelu_limit));
      for (int i = 0; i < n; i++) vminps(u(i), shared, u(i));  // a NaN stays
      load(shared, constant(gelu_limit / 2));
      for (int i = 0; i < n; i++) vsubps(u(i), u(i), shared);
      int coefficient = std::size(gelu_coefficients) - 1;
      load(p(0), constant(gelu_coefficients[coefficient]));
      for (int i = 1; i < n; i++) vmovaps(p(i), p(0));
      while (coefficient-- > 0) {
        load(shared, constant(gelu_coefficients[coefficient]));
        for (int i = 0; i < n; i++) vfmadd213ps(p(i), u(i), shared);
      }
      load(shared, constant(gelu_limit * gelu_limit / 4));
      for (int i = 0; i < n; i++) vfnmadd213ps(u(i), u(i), shared);
      zero(shared);
      for (int i = 0; i < n; i++) {
        const Xmm x = vec(registers() - 2 - i % 2);
        vmaxps(x, shared, slot(first + i));
        vfnmadd231ps(x, u(i), p(i));
        store(slot(first + i), x);
      }
    }
    for (int i = 0; i < accumulators(); i++) load(vec(i), slot(i));
    add(rsp, bytes);
  }

  GemmSpec spec_;
  int vectors_;
};

}  // namespace

std::string GemmSpec::text() const {
  return fmt::format("gemm {} tile={}x{} add={}{}{} end={}{}", name(isa), rows, columns, add_c ? "c" : "",
                     bias ? "bias" : "", add_residual ? "+residual" : "", static_cast<int>(activation),
                     end_residual ? "+residual" : "");
}

std::vector<std::uint8_t> generate(const GemmSpec& spec) {
  return Gemm(spec).take();
}

std::shared_ptr<const Code> gemm_code(const GemmSpec& spec) {
  return get_code(spec.text(), [&] { return generate(spec); });
}

}  // namespace replk::jit
