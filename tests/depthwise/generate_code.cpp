// Generates code of every kernel class for AVX2 and AVX-512, running none of it: generate_code
// forwards|backwards. With REPLK_DUMP_DIR set the code cache writes each kernel there (same_code_test.py
// compares what two processes write). Prints where this process has its code and its heap.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "depthwise/algorithm.hpp"
#include "jit/kernels/gemm.hpp"

namespace {

using namespace replk;

/// All candidates of all algorithms: row passes, both kinds of column passes, direct.
void add_depthwise(std::vector<std::function<void()>>& all, const char* shape, Isa isa) {
  const depthwise::Problem problem = depthwise::parse(shape);
  const depthwise::Request request(problem, depthwise::Pass::forward, features_of(isa), 1);
  for (const depthwise::Algorithm* algorithm : depthwise::algorithms())
    for (const auto& [tiling, seconds] : algorithm->candidates(request))
      all.push_back([=] { algorithm->read(request, tiling)->prepare(); });
}

void add_gemm(std::vector<std::function<void()>>& all, Isa isa) {
  for (const int rows : {1, jit::gemm_max_rows(isa)})
    for (const int columns : {3, jit::gemm_panel(isa)})
      for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu}) {
        const jit::GemmSpec spec{
            .isa = isa, .rows = rows, .columns = columns, .bias = true, .activation = activation};
        all.push_back([=] { jit::gemm_code(spec); });
      }
}

}  // namespace

int main(int count, char** arguments) {
  const bool backwards = count > 1 && std::string_view(arguments[1]) == "backwards";
  std::vector<std::unique_ptr<char[]>> holes;
  if (backwards)  // another heap, too
    for (int i = 1; i < 4000; i++) holes.push_back(std::make_unique<char[]>(i * 37 % 3000));
  for (std::size_t i = 0; i < holes.size(); i += 2) holes[i].reset();

  std::vector<std::function<void()>> all;
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    for (const char* shape :
         {"n1c32h14w14k27", "n1c20h7w7k13+relu", "n1c16h56w56k31", "n1c16h20w9k51x5,5x51,5x5+residual",
          "n1c16h19w16k11s2x1p3x0", "n1c24h12w13k5d2nchw+gelu", "n1c19h9w9k3bf16+gelu+residual",
          "n1c12h15w15k7exact+gelu+residual"})
      add_depthwise(all, shape, isa);
    add_gemm(all, isa);
  }
  if (backwards) std::reverse(all.begin(), all.end());
  for (const auto& generate : all) generate();
  std::printf("%p %p\n", reinterpret_cast<void*>(&main), static_cast<void*>(all.data()));
}
