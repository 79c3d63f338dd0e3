#include "jit/kernels/gemm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "jit/kernels/gelu.hpp"
#include "jit/kernels/product_tile.hpp"

namespace replk::jit {
namespace {

using Xbyak::Reg64;
using Xbyak::Xmm;

class Gemm final : public ProductTile {
 public:
  explicit Gemm(const GemmSpec& spec) : ProductTile(spec.isa, spec.rows, spec.columns), spec_(spec) {}

 private:
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
    loop(qword[rsp], [&] { tile(); });
    add(rsp, 8);
    epilogue();
  }

  void tile() {
    prefetch_next_rows(c_);
    if (spec_.add_residual || spec_.end_residual) prefetch_next_rows(residual_);
    start();
    begin_rows();
    add_products({offsetof(GemmArguments, depth), offsetof(GemmArguments, prefetch_step),
                  offsetof(GemmArguments, later), offsetof(GemmArguments, later_step)});
    join();
    finish();
    end_rows();
  }

  /// Runs body(row) with `row` in turn at every row of the tile, and leaves it below the last.
  template <class Body>
  void for_rows(const Reg64& row, Body body) {
    for (int r = 0; r < rows_; r++) {
      body(r);
      add(row, c_stride_);
    }
  }
  void back_to_first_row(const Reg64& row) {
    for (int r = 0; r < rows_; r++) sub(row, c_stride_);
  }

  /// Rows of c lie far apart, which no hardware prefetcher follows: those of the next tile are
  /// prefetched while this one is summed.
  void prefetch_next_rows(const Reg64& row) {
    const Reg64 next = depth_;
    lea(next, ptr[row + c_stride_]);
    for (int r = 1; r < rows_; r++) add(next, c_stride_);
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
      for (int r = 0; r < rows_; r++) vmovaps(accumulator(r, v), weights(v));
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

  void load_pixel(int r, const Xbyak::Address& from) override { broadcast(pixel(r), from); }
  void multiply_add(int r, int v) override { vfmadd231ps(accumulator(r, v), pixel(r), weights(v)); }

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

  const GemmSpec spec_;
};

}  // namespace

std::string GemmSpec::text() const {
  return fmt::format("gemm {} tile={}x{} add={}{}{} end={}{}", name(isa), rows, columns, add_c ? "c" : "",
                     bias ? "bias" : "", add_residual ? "+residual" : "", static_cast<int>(activation),
                     end_residual ? "+residual" : "");
}

std::vector<GemmSpec> GemmSpec::samples(Features features) {
  const Isa isa = isa_of(features);
  const int rows = gemm_max_rows(isa), panel = gemm_panel(isa);
  return {{.isa = isa, .rows = rows, .columns = panel, .bias = true, .activation = Activation::gelu},
          {.isa = isa,
           .rows = rows,
           .columns = 1,
           .bias = true,
           .activation = Activation::relu,
           .end_residual = true},
          {.isa = isa, .rows = 2, .columns = panel - 1, .bias = true, .add_residual = true},
          {.isa = isa, .rows = 1, .columns = panel, .add_c = true}};
}

std::vector<std::uint8_t> generate(const GemmSpec& spec) {
  return Gemm(spec).take();
}

std::shared_ptr<const Code> gemm_code(const GemmSpec& spec) {
  return get_code(spec.text(), [&] { return generate(spec); });
}

}  // namespace replk::jit
