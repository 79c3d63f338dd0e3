// Which basic blocks of the generators real code runs through and the samples do not. The generators are
// compiled once more for this program, with a call of __sanitizer_cov_trace_pc in every basic block; prints
// each such block's address in the program's file, for sampled_branches_test.py to find its line.
#include <dlfcn.h>

#include <cinttypes>
#include <cstdio>
#include <string>
#include <unordered_set>

#include "jit/kernels/samples.hpp"
#include "tests/support/code_corpus.hpp"

namespace {

std::unordered_set<void*>* reached = nullptr;

/// The blocks that run through `run`.
template <class Run>
std::unordered_set<void*> blocks_of(const Run& run) {
  std::unordered_set<void*> blocks;
  reached = &blocks;
  run();
  reached = nullptr;
  return blocks;
}

}  // namespace

extern "C" void __sanitizer_cov_trace_pc() {
  if (reached) reached->insert(__builtin_return_address(0));
}

/// sampled_branches [PART]: only samples without PART in their text.
int main(int count, char** arguments) {
  using namespace replk;
  const char* without = count > 1 ? arguments[1] : nullptr;
  const auto corpus = test::code_corpus();

  int samples = 0;
  const auto sampled = blocks_of([&] {
    for (const Isa isa : {Isa::avx2, Isa::avx512})
      for (const jit::Sample& sample : jit::samples(jit::features_beside(isa)))
        if (!without || sample.text.find(without) == std::string::npos) {
          sample.generate();
          samples++;
        }
  });
  const auto real = blocks_of([&] {
    for (const auto& generate : corpus) generate();
  });
  std::printf("%d samples run %zu blocks, real code %zu\n", samples, sampled.size(), real.size());
  Dl_info here{};
  dladdr(reinterpret_cast<void*>(&main), &here);
  for (void* block : real)
    if (!sampled.contains(block))  // less one: an address within the call
      std::printf("0x%" PRIxPTR "\n", reinterpret_cast<std::uintptr_t>(block) -
                                          reinterpret_cast<std::uintptr_t>(here.dli_fbase) - 1);
}
