// Generates code of every kernel class for AVX2 and AVX-512, running none of it: generate_code
// forwards|backwards. With REPLK_DUMP_DIR set the code cache writes each kernel there (same_code_test.py
// compares what two processes write). Prints where this process has its code and its heap.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "jit/kernels/samples.hpp"
#include "jit/x64/code.hpp"
#include "tests/support/code_corpus.hpp"

int main(int count, char** arguments) {
  using namespace replk;
  const bool backwards = count > 1 && std::string_view(arguments[1]) == "backwards";
  std::vector<std::unique_ptr<char[]>> holes;
  if (backwards)  // another heap, too
    for (int i = 1; i < 4000; i++) holes.push_back(std::make_unique<char[]>(i * 37 % 3000));
  for (std::size_t i = 0; i < holes.size(); i += 2) holes[i].reset();

  std::vector<std::function<void()>> all = test::code_corpus();
  for (const Isa isa : {Isa::avx2, Isa::avx512})
    for (const jit::Sample& sample : jit::samples(jit::features_beside(isa)))
      all.push_back([=] { jit::get_code(sample.text, sample.generate); });
  if (backwards) std::reverse(all.begin(), all.end());
  for (const auto& generate : all) generate();
  std::printf("%p %p\n", reinterpret_cast<void*>(&main), static_cast<void*>(all.data()));
}
