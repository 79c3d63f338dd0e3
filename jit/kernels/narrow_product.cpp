#include "jit/kernels/narrow_product.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "jit/kernels/gemm.hpp"

namespace replk::jit {
namespace {

using Xbyak::Reg64;
using Xbyak::Xmm;

class NarrowProduct final : public NarrowEpilogue {
 public:
  explicit NarrowProduct(const NarrowProductSpec& spec)
      : NarrowEpilogue(spec.isa, spec.rows, spec.columns, spec.outputs), spec_(spec) {}

 private:
  Xbyak::Address waiting(int i) const { return ptr[b_ + i * vector_bytes()]; }

  void generate() override {
    prologue();
    mov(a_, argument(offsetof(NarrowProductArguments, a)));
    mov(panel_, argument(offsetof(NarrowProductArguments, panel)));
    mov(c_, argument(offsetof(NarrowProductArguments, dst)));
    mov(residual_, argument(offsetof(NarrowProductArguments, residual)));
    mov(a_stride_, argument(offsetof(NarrowProductArguments, a_stride)));
    mov(c_stride_, argument(offsetof(NarrowProductArguments, dst_stride)));
    mov(prefetch_, argument(offsetof(NarrowProductArguments, prefetch)));
    loop(argument(offsetof(NarrowProductArguments, tiles)), [&] { tile(); });
    epilogue();
  }

  void tile() {
    if (spec_.last) prefetch_next_rows();
    begin_rows();
    for (int i = 0; i < accumulators(); i++) zero(vec(i));
    add_products({offsetof(NarrowProductArguments, steps), offsetof(NarrowProductArguments, prefetch_step),
                  offsetof(NarrowProductArguments, later), offsetof(NarrowProductArguments, later_step)});
    join();
    if (spec_.last) finish_tile();
    end_rows();
  }

  /// Rows of the results lie far apart, which no hardware prefetcher follows: those of the next tile are
  /// prefetched while this one is summed.
  void prefetch_next_rows() {
    const auto prefetch_rows = [&](const Reg64& stride) {
      const Reg64 next = depth_;
      for (int r = 0; r < rows_; r++) add(next, stride);
      for (int r = 0; r < rows_; r++) {
        prefetchw(ptr[next]);
        add(next, stride);
      }
    };
    if (spec_.outputs.result || spec_.outputs.residual) {
      mov(depth_, spec_.outputs.result ? c_ : residual_);
      prefetch_rows(c_stride_);
    }
    if (spec_.outputs.result && spec_.outputs.residual) {
      mov(depth_, residual_);
      prefetch_rows(c_stride_);
    }
    if (spec_.outputs.copy != Element::f32) {
      mov(depth_, argument(offsetof(NarrowProductArguments, copy)));
      mov(b_, argument(offsetof(NarrowProductArguments, copy_stride)));
      prefetch_rows(b_);
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

  int weight_bytes() const override {
    return spec_.dot == NarrowDot::vpmaddwd ? vector_bytes() / 2 : vector_bytes();
  }
  void load_weights(int v, const Xbyak::Address& from) override {
    if (spec_.dot == NarrowDot::vpmaddwd)
      vpmovsxbw(weights(v), from);
    else
      load(weights(v), from);
  }
  void load_pixel(int r, const Xbyak::Address& from) override { vpbroadcastd(pixel(r), from); }

  void multiply_add(int r, int v) override {
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

  void finish_tile() {
    const Reg64 copy = bases_[0], copy_stride = bases_[1];
    mov(b_, argument(offsetof(NarrowProductArguments, channels)));
    mov(copy, argument(offsetof(NarrowProductArguments, copy)));
    mov(copy_stride, argument(offsetof(NarrowProductArguments, copy_stride)));
    std::vector<Xmm> temporaries;
    for (int i = accumulators(); i < registers(); i++) temporaries.push_back(vec(i));
    temporaries.resize(std::min<std::size_t>(temporaries.size(), 16) / 2 * 2);
    finish(temporaries, {b_, c_, residual_, copy, c_stride_, copy_stride});
    mov(argument(offsetof(NarrowProductArguments, copy)), copy);
  }

  const NarrowProductSpec spec_;
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
