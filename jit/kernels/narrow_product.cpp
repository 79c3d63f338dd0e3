#include "jit/kernels/narrow_product.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "jit/kernels/gemm.hpp"

namespace replk::jit {
namespace {

using Xbyak::Reg64;
using Xbyak::Xmm;

class NarrowProduct : public NarrowEpilogue {
 public:
  explicit NarrowProduct(const NarrowProductSpec& spec)
      : NarrowEpilogue(spec.isa, spec.outputs, gemm_panel(spec.isa)),
        spec_(spec),
        vectors_((spec.columns + lanes() - 1) / lanes()) {}

 private:
  static constexpr int vectors_of_panel = 2, unroll = gemm_unroll, rows_of_base = 3, step_bytes = 4;

  const Reg64 arguments_ = rdi, panel_ = rsi, b_ = rdx, depth_ = rcx, a_stride_ = r8, dst_stride_ = r9;
  const Reg64 bases_[4] = {r10, r11, r12, r13};  // of every third row of a
  const Reg64 a_ = rbx, dst_ = rbp, prefetch_ = r14, residual_ = r15;

  Xmm accumulator(int row, int v) const { return vec(row * vectors_ + v); }
  int accumulators() const { return spec_.rows * vectors_; }
  // Behind the accumulators: the panel's vectors and two more.
  Xmm weights(int v) const { return vec(registers() - 1 - v); }
  Xmm pixel(int row) const { return vec(registers() - 1 - vectors_of_panel - row % 2); }
  Xbyak::Address argument(std::size_t offset) const { return qword[arguments_ + offset]; }
  Xbyak::Address waiting(int i) const { return ptr[b_ + i * vector_bytes()]; }
  /// Of one vector's weights in a panel.
  int weight_bytes() const { return spec_.dot == NarrowDot::vpmaddwd ? vector_bytes() / 2 : vector_bytes(); }

  void generate() override {
    prologue();
    mov(a_, argument(offsetof(NarrowProductArguments, a)));
    mov(panel_, argument(offsetof(NarrowProductArguments, panel)));
    mov(dst_, argument(offsetof(NarrowProductArguments, dst)));
    mov(residual_, argument(offsetof(NarrowProductArguments, residual)));
    mov(a_stride_, argument(offsetof(NarrowProductArguments, a_stride)));
    mov(dst_stride_, argument(offsetof(NarrowProductArguments, dst_stride)));
    mov(prefetch_, argument(offsetof(NarrowProductArguments, prefetch)));
    loop(argument(offsetof(NarrowProductArguments, tiles)), [&] { tile(); });
    epilogue();
  }

  void tile() {
    if (spec_.last) prefetch_next_rows();
    start();
    sum();
    join();
    if (spec_.last) finish_tile();
    for (int r = 0; r < spec_.rows; r++) add(a_, a_stride_);
  }

  /// Rows of the results lie far apart, which no hardware prefetcher follows: those of the next tile are
  /// prefetched while this one is summed.
  void prefetch_next_rows() {
    const auto prefetch_rows = [&](const Reg64& stride) {
      const Reg64 next = depth_;
      for (int r = 0; r < spec_.rows; r++) add(next, stride);
      for (int r = 0; r < spec_.rows; r++) {
        prefetchw(ptr[next]);
        add(next, stride);
      }
    };
    if (spec_.outputs.result || spec_.outputs.residual) {
      mov(depth_, spec_.outputs.result ? dst_ : residual_);
      prefetch_rows(dst_stride_);
    }
    if (spec_.outputs.result && spec_.outputs.residual) {
      mov(depth_, residual_);
      prefetch_rows(dst_stride_);
    }
    if (spec_.outputs.copy != Element::f32) {
      mov(depth_, argument(offsetof(NarrowProductArguments, copy)));
      mov(b_, argument(offsetof(NarrowProductArguments, copy_stride)));
      prefetch_rows(b_);
    }
  }

  void start() {
    mov(b_, panel_);
    mov(bases_[0], a_);
    for (int i = 1; i * rows_of_base < spec_.rows; i++) {
      lea(bases_[i], ptr[bases_[i - 1] + a_stride_ * 2]);
      add(bases_[i], a_stride_);
    }
  }

  /// The parts before join the sums; what is not the last waits again.
  void join() {
    if (spec_.first && spec_.last) return;
    mov(b_, argument(offsetof(NarrowProductArguments, waiting)));
    for (int i = 0; !spec_.first && i < accumulators(); i++) vaddps(vec(i), vec(i), waiting(i));
    for (int i = 0; !spec_.last && i < accumulators(); i++) store(waiting(i), vec(i));
    add(b_, accumulators() * vector_bytes());
    mov(argument(offsetof(NarrowProductArguments, waiting)), b_);
  }

  void sum() {
    for (int i = 0; i < accumulators(); i++) zero(vec(i));
    mov(depth_, argument(offsetof(NarrowProductArguments, steps)));
    loop_unrolled(
        depth_, unroll,
        [&] {
          prefetch();
          steps(unroll);
        },
        [&] { steps(1); });
  }

  void prefetch() {
    prefetcht1(ptr[prefetch_]);
    add(prefetch_, argument(offsetof(NarrowProductArguments, prefetch_step)));
    mov(scratch_, argument(offsetof(NarrowProductArguments, later)));
    prefetcht1(ptr[scratch_]);
    add(scratch_, argument(offsetof(NarrowProductArguments, later_step)));
    mov(argument(offsetof(NarrowProductArguments, later)), scratch_);
  }

  void steps(int count) {
    for (int k = 0; k < count; k++) step(k);
    advance(count);
  }

  /// Step k of every row against step k of the panel.
  void step(int k) {
    for (int v = 0; v < vectors_; v++) {
      const Xbyak::Address from = ptr[b_ + (k * vectors_of_panel + v) * weight_bytes()];
      if (spec_.dot == NarrowDot::vpmaddwd)
        vpmovsxbw(weights(v), from);
      else
        load(weights(v), from);
    }
    for (int r = 0; r < spec_.rows; r++) {
      const Reg64& base = bases_[r / rows_of_base];
      const int displacement = k * step_bytes;
      switch (r % rows_of_base) {
        case 0:
          vpbroadcastd(pixel(r), ptr[base + displacement]);
          break;
        case 1:
          vpbroadcastd(pixel(r), ptr[base + a_stride_ + displacement]);
          break;
        default:
          vpbroadcastd(pixel(r), ptr[base + a_stride_ * 2 + displacement]);
      }
      for (int v = 0; v < vectors_; v++) multiply_add(r, v);
    }
  }

  void multiply_add(int r, int v) {
    const Xmm sum = accumulator(r, v);
    switch (spec_.dot) {
      case NarrowDot::vpdpbusd:
        return vpdpbusd(sum, pixel(r), weights(v), Xbyak::EvexEncoding);
      case NarrowDot::vpdpbusd_vex:
        return vpdpbusd(sum, pixel(r), weights(v), Xbyak::VexEncoding);
      case NarrowDot::vdpbf16ps:
        return vdpbf16ps(sum, pixel(r), weights(v));
      case NarrowDot::fma:
        return vfmadd231ps(sum, pixel(r), weights(v));
      case NarrowDot::vpmaddwd:
        // The last product may take the pixel's place.
        const Xmm product = v + 1 == vectors_ ? pixel(r) : pixel(r + 1);
        vpmaddwd(product, pixel(r), weights(v));
        return vpaddd(sum, sum, product);
    }
  }

  void advance(int steps) {
    add(b_, steps * vectors_of_panel * weight_bytes());
    for (int i = 0; i * rows_of_base < spec_.rows; i++) add(bases_[i], steps * step_bytes);
  }

  void finish_tile() {
    const Reg64 copy = bases_[0], copy_stride = bases_[1];
    mov(b_, argument(offsetof(NarrowProductArguments, channels)));
    mov(copy, argument(offsetof(NarrowProductArguments, copy)));
    mov(copy_stride, argument(offsetof(NarrowProductArguments, copy_stride)));
    std::vector<Xmm> temporaries;
    for (int i = accumulators(); i < registers(); i++) temporaries.push_back(vec(i));
    temporaries.resize(std::min<std::size_t>(temporaries.size(), 16) / 2 * 2);
    finish(spec_.rows, spec_.columns, [&](int r, int v) { return accumulator(r, v); }, temporaries,
           {b_, dst_, residual_, copy, dst_stride_, copy_stride});
    mov(argument(offsetof(NarrowProductArguments, copy)), copy);
  }

  NarrowProductSpec spec_;
  int vectors_;
};

}  // namespace

std::string NarrowProductSpec::text() const {
  static const char* const dots[] = {"vpdpbusd", "vpdpbusd-vex", "vpmaddwd", "vdpbf16ps", "fma"};
  return fmt::format("narrow {} {} tile={}x{} part={}{} {}", name(isa), dots[static_cast<int>(dot)], rows,
                     columns, first ? "first" : "", last ? "last" : "", outputs.text());
}

std::vector<NarrowProductSpec> NarrowProductSpec::samples(Features features) {
  const Isa isa = isa_of(features);
  const int rows = gemm_max_rows(isa), panel = gemm_panel(isa);
  std::vector<NarrowProductSpec> all;
  const auto add = [&](NarrowDot dot, int tile_rows, int columns, NarrowOutputs outputs, bool first = true,
                       bool last = true) {
    outputs.integers = sums_integers(dot);
    NarrowProductSpec spec{isa, dot, tile_rows, columns, first, last, outputs};
    all.push_back(spec);
  };
  using enum Activation;
  add(NarrowDot::vpmaddwd, rows, panel - 1, {false, gelu, true, true, Element::u8});
  add(NarrowDot::vpmaddwd, 2, panel, {false, relu, false, false, Element::u8});
  add(NarrowDot::vpmaddwd, 1, 1, {false, none, true, false, Element::bf16});
  add(NarrowDot::fma, rows, panel, {false, gelu, false, false, Element::bf16}, false);
  add(NarrowDot::fma, rows, panel / 2 + 3, {false, none, false, true, Element::f32}, true, false);
  add(NarrowDot::fma, 2, panel / 2 + 5, {false, relu, false, true, Element::bf16});
  if (features.has(Feature::avx_vnni))
    add(NarrowDot::vpdpbusd_vex, rows, panel, {false, none, false, true, Element::f32});
  if (features.has(Feature::avx512_vnni))
    add(NarrowDot::vpdpbusd, rows, panel, {false, none, false, true, Element::f32});
  if (features.has(Feature::avx512_bf16))
    add(NarrowDot::vdpbf16ps, rows, panel, {false, none, false, true, Element::f32});
  return all;
}

std::vector<std::uint8_t> generate(const NarrowProductSpec& spec) {
  return NarrowProduct(spec).take();
}

std::shared_ptr<const Code> narrow_product_code(const NarrowProductSpec& spec) {
  return get_code(spec.text(), [&] { return generate(spec); });
}

}  // namespace replk::jit
