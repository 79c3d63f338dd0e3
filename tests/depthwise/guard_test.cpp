// Every tensor between two pages that must not be touched: no algorithm reads or writes outside of one.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cpu.hpp"
#include "jit/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

/// Memory that begins right behind an inaccessible page, or ends right before one.
class Guarded {
 public:
  enum Side { begin, end };
  Guarded(std::size_t bytes, Side side) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inside = core::round_up(std::max<std::size_t>(bytes, 1), page);
    mapped_ = inside + 2 * page;
    memory_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(static_cast<void*>(memory_), MAP_FAILED);
    EXPECT_EQ(mprotect(memory_ + page, inside, PROT_READ | PROT_WRITE), 0);
    data_ = side == begin ? memory_ + page : memory_ + page + inside - bytes;
  }
  ~Guarded() { munmap(memory_, mapped_); }
  Guarded(const Guarded&) = delete;
  char* data() { return data_; }

 private:
  char *memory_, *data_;
  std::size_t mapped_;
};

void run_guarded(const Case& c, const Candidate& candidate, Isa isa, Guarded::Side side) {
  PlanOptions options;
  options.threads = 1;
  options.tiling = candidate.tiling;
  options.isa = isa;
  const Plan plan(c.problem, c.weights, c.bias, options);
  const std::size_t output = static_cast<std::size_t>(c.problem.output_elements()) * size_of(c.problem.type);
  Guarded src(c.src.bytes(), side), dst(output, side), residual(c.residual.bytes(), side);
  std::memcpy(src.data(), c.src.data(), c.src.bytes());
  if (c.residual.bytes() > 0) std::memcpy(residual.data(), c.residual.data(), c.residual.bytes());
  Storage expected(c.problem.type, c.problem.output_elements()),
      got(c.problem.type, c.problem.output_elements());
  plan.run(c.tensors(expected));
  plan.run({src.data(), dst.data(), c.problem.epilogue.residual ? residual.data() : nullptr});
  std::memcpy(got.data(), dst.data(), output);
  EXPECT_EQ(differing(expected, got), 0);
}

TEST(Guard, NoAlgorithmLeavesItsTensors) {
  const Isa isa = jit::code_allowed() ? core::cpu().isa : Isa::portable;
  int runs = 0;
  for (std::uint64_t seed = 0; seed < 150; seed++) {
    Problem p = random_problem(seed);
    p.numerics = Numerics::fast;
    const Case c(p, seed);
    const Kernel geometry = merged_geometry(p);
    for (const Algorithm* algorithm : algorithms()) {
      const auto candidates = algorithm->candidates(p, geometry, isa, 1);
      if (candidates.empty()) continue;
      const Candidate& candidate = candidates[seed % candidates.size()];
      SCOPED_TRACE(to_string(p) + ": " + candidate.tiling.to_string());
      run_guarded(c, candidate, isa, Guarded::begin);
      run_guarded(c, candidate, isa, Guarded::end);
      runs += 2;
    }
  }
  EXPECT_GE(runs, 300);
}

}  // namespace
}  // namespace replk::depthwise
