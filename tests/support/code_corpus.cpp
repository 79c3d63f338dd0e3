#include "tests/support/code_corpus.hpp"

#include "depthwise/algorithm.hpp"
#include "depthwise/gradient/weight_algorithm.hpp"
#include "jit/kernels/gemm.hpp"
#include "jit/kernels/narrow_product.hpp"
#include "jit/kernels/samples.hpp"
#include "jit/kernels/tile_operand.hpp"
#include "jit/kernels/tile_product.hpp"

namespace replk::test {
namespace {

using Makers = std::vector<std::function<void()>>;

/// All candidates of all algorithms: row passes, both kinds of column passes, direct.
void add_depthwise(Makers& all, const char* shape, Isa isa) {
  const depthwise::Problem problem = depthwise::parse(shape);
  const depthwise::Request request(problem, depthwise::Pass::forward, features_of(isa), 1);
  for (const depthwise::Algorithm* algorithm : depthwise::algorithms())
    for (const depthwise::Candidate& candidate : algorithm->candidates(request))
      all.push_back([=] { algorithm->read(request, candidate.tiling)->prepare(); });
}

/// The same of the weight gradient.
void add_gradients(Makers& all, const char* shape, Isa isa) {
  const depthwise::Problem problem = depthwise::parse(shape);
  const depthwise::Kernel kernel = depthwise::merged_geometry(problem);
  for (const depthwise::WeightAlgorithm* algorithm : depthwise::weight_algorithms())
    for (const depthwise::Candidate& candidate : algorithm->candidates(problem, kernel, isa, 1))
      all.push_back([=] { algorithm->prepare(problem, kernel, candidate.tiling, isa); });
}

constexpr Activation activations[] = {Activation::none, Activation::relu, Activation::gelu};

void add_gemm(Makers& all, Isa isa) {
  for (const int rows : {1, 2, jit::gemm_max_rows(isa)})
    for (const int columns : {1, 3, jit::gemm_panel(isa) - 1, jit::gemm_panel(isa)})
      for (const Activation activation : activations)
        for (int sum = 0; sum < 4; sum++) {  // what it starts from, and the residual
          jit::GemmSpec spec{.isa = isa, .rows = rows, .columns = columns, .activation = activation};
          spec.add_c = sum == 3;
          spec.bias = sum == 1 || sum == 2;
          spec.add_residual = sum == 2 && activation == Activation::none;
          spec.end_residual = sum == 2 && activation != Activation::none;
          all.push_back([=] { jit::gemm_code(spec); });
        }
}

void add_narrow(Makers& all, Isa isa) {
  using enum jit::NarrowDot;
  std::vector<jit::NarrowDot> dots{vpmaddwd, fma};
  if (isa == Isa::avx2) dots.push_back(vpdpbusd_vex);
  if (isa == Isa::avx512) dots.insert(dots.end(), {vpdpbusd, vdpbf16ps});
  for (const jit::NarrowDot dot : dots)
    for (const int columns : {1, jit::gemm_panel(isa) / 2 + 5, jit::gemm_panel(isa)})
      for (const Activation activation : activations)
        for (const Element copy : {Element::f32, Element::bf16, Element::u8})
          for (const bool both : {false, true}) {
            jit::NarrowProductSpec spec{isa, dot, both ? jit::gemm_max_rows(isa) : 1, columns};
            spec.first = both || sums_integers(dot);
            spec.last = spec.first || copy != Element::f32;
            spec.outputs = {sums_integers(dot), activation, both, both || copy == Element::f32, copy};
            all.push_back([=] { jit::narrow_product_code(spec); });
          }
}

void add_tiles(Makers& all) {
  for (const Precision precision : {Precision::bf16, Precision::bf16x3, Precision::int8})
    for (const bool native : {false, true}) {
      for (const int inputs : {1, 30, 64, 150})
        for (const bool from_fp32 : {false, true}) {
          if (!from_fp32 && precision == Precision::bf16x3) continue;
          all.push_back([=] { jit::tile_operand_code({precision, from_fp32, inputs, native}); });
        }
      for (const Activation activation : activations)
        for (const Element copy : {Element::f32, Element::bf16, Element::u8, Element::bf16x2_tiles})
          for (const bool both : {false, true})
            all.push_back([=] {
              jit::tile_product_code({precision, both ? 3 : 1, activation, both, both || copy == Element::f32,
                                      copy, native, both ? 2 : 0});
            });
    }
}

}  // namespace

std::vector<std::function<void()>> code_corpus() {
  Makers all;
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    for (const char* shape :
         {"n1c32h14w14k27", "n1c20h7w7k13+relu", "n1c16h56w56k31", "n1c16h20w9k51x5,5x51,5x5+residual",
          "n1c16h19w16k11s2x1p3x0", "n1c24h12w13k5d2nchw+gelu", "n1c19h9w9k3bf16+gelu+residual",
          "n1c12h15w15k7exact+gelu+residual"})
      add_depthwise(all, shape, isa);
    for (const char* shape :
         {"n2c32h14w14k27nobias", "n1c20h56w56k5", "n1c16h19w16k7s2x1p1x0", "n1c24h12w13k3d2nchw"})
      add_gradients(all, shape, isa);
    add_gemm(all, isa);
    add_narrow(all, isa);
  }
  add_tiles(all);
  return all;
}

}  // namespace replk::test
