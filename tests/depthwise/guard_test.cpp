// A sweep in which nothing can hide: every tensor, the weights, the bias, the workspace and what a plan packs
// lie between inaccessible pages, at every alignment, first at the one then at the other; what is around them
// is full of NaNs, and so are all registers and the stack when a run begins. Results are those of portable
// (class exact) or of the double reference.
//
// REPLK_SWEEP: quick (the default), long, or emulated, which is small enough for an emulated CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>

#include "core/cpu.hpp"
#include "core/memory.hpp"
#include "jit/x64/code.hpp"
#include "tests/depthwise/case.hpp"
#include "tests/guarded.hpp"

namespace replk::depthwise {
namespace {

using test::Guarded;
using test::Side;

struct Sweep {
  int shapes;            // seeded ones
  int most_side;         // of their maps' height
  bool every_algorithm;  // for each shape, or one of them only
};

Sweep sweep() {
  const char* given = std::getenv("REPLK_SWEEP");
  const std::string name = given ? given : "quick";
  if (name == "long") return {5000, 29, true};
  if (name == "emulated") return {480, 16, false};
  return {400, 29, true};
}

Isa isa() {
  return jit::code_allowed() ? core::cpu().isa : Isa::portable;
}

/// A tensor's copy, guarded.
std::unique_ptr<Guarded> guarded(const void* data, std::size_t bytes, Side side, std::size_t gap) {
  auto memory = std::make_unique<Guarded>(bytes, side, gap);
  if (bytes > 0) std::memcpy(memory->as(), data, bytes);
  return memory;
}

class Guard : public testing::Test {
 protected:
  /// What the results must be, by the problem's class.
  struct Wanted {
    Storage exact;
    std::vector<Sample> samples;
    std::vector<double> fast;
  };
  static Wanted wanted(const Case& c) {
    Wanted w{c.run(portable_options()), sampled_outputs(c.problem, 400, 3), {}};
    w.fast = reference(c.problem, c.weights, c.bias, c.tensors(w.exact), w.samples, c.scale);
    return w;
  }

  void check(const Case& c, const Wanted& wanted, const Storage& got, bool exact) {
    if (exact) {
      EXPECT_EQ(differing(wanted.exact, got), 0);
      return;
    }
    const Tensors tensors{c.src.data(), const_cast<void*>(got.data()), c.residual.data()};
    const double of_allowed =
        compare(c.problem, c.weights, c.bias, tensors, wanted.samples, wanted.fast, c.scale).max_of_allowed;
    EXPECT_LE(of_allowed, 1);
    if (c.problem.output_type() == DataType::f32)
      worst_ = std::max(worst_, of_allowed);  // elsewhere rounding fills it
  }

  /// Plans and runs with everything at `side`, each tensor `gap` or a few more elements away from its page.
  void run(const Case& c, const Wanted& wanted, const Tiling& tiling, Side side, int gap, int threads = 1) {
    const Problem& p = c.problem;
    const std::size_t size = size_of(p.output_type()),
                      output = static_cast<std::size_t>(p.output_elements()) * size;
    const auto away = [&](int more, std::size_t unit) { return gap == 0 ? 0 : (gap + more) % 16 * unit; };

    std::vector<std::unique_ptr<Guarded>> weights;
    std::vector<std::span<const float>> spans;
    for (const auto& w : c.branch_weights) {
      weights.push_back(guarded(w.data(), 4 * w.size(), side, away(2, 4)));
      spans.emplace_back(weights.back()->as<const float>(), w.size());
    }
    const auto bias = guarded(c.bias.data(), 4 * c.bias.size(), side, away(3, 4));
    test::guard_heap(side);
    PlanOptions options;
    options.threads = threads;
    options.tiling = tiling;
    options.scale = c.scale;
    Problem planned = p;  // the batch is the run's
    planned.batch = 1 + plans_ % 3;
    const Plan plan(planned, spans, {bias->as<const float>(), c.bias.size()}, options);

    const auto src = guarded(c.src.data(), c.src.bytes(), side, away(0, size_of(p.type)));
    const auto residual = guarded(c.residual.data(), c.residual.bytes(), side, away(7, size));
    const Guarded dst(output, side, away(5, size));
    const std::size_t scratch = core::round_up(plan.workspace_bytes(), core::alignment);
    const Guarded workspace(scratch, side);
    test::poison();
    plan.run({src->as(), dst.as(), p.epilogue.residual ? residual->as() : nullptr},
             {p.batch, workspace.as()});

    Storage got(p.output_type(), p.output_elements());
    std::memcpy(got.data(), dst.as(), output);
    check(c, wanted, got, p.numerics == Numerics::exact);
    EXPECT_TRUE(dst.intact()) << "around dst";
    EXPECT_TRUE(workspace.intact()) << "around the workspace";
    for (std::size_t i = plan.workspace_bytes(); i < scratch; i++)
      ASSERT_EQ(workspace.as<const unsigned char>()[i], 0xff) << "behind the workspace";
    EXPECT_EQ(std::memcmp(src->as(), c.src.data(), c.src.bytes()), 0) << "src changed";
  }

  void both_sides(const Case& c, const Wanted& wanted, const Tiling& tiling, int gap) {
    SCOPED_TRACE(to_string(c.problem) + ": " + tiling.to_string());
    for (const Side side : {Side::begin, Side::end}) {
      run(c, wanted, tiling, side, 0);
      run(c, wanted, tiling, side, gap);
    }
    if (plans_ % 8 == 0) run(c, wanted, tiling, Side::end, 0, 3);  // each thread in its part of the workspace
    classes_[tiling.algorithm]++;
    plans_++;
  }

  void TearDown() override {
    std::string text;
    for (const auto& [name, count] : classes_) text += " " + name + " " + std::to_string(count) + ",";
    std::printf("%s: %d plans on both sides:%s %lld packed blocks, errors up to %.2f of what fast allows\n",
                std::string(name(isa())).c_str(), plans_, text.c_str(),
                static_cast<long long>(test::guarded_blocks()), worst_);
  }

  std::map<std::string, int> classes_;
  int plans_ = 0;
  double worst_ = 0;
};

/// A legal tiling of direct, worth trying or not: quicker to find than the best one.
std::optional<Tiling> any_direct(const Request& request, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (int tries = 0; tries < 200; tries++) {
    Tiling t{"direct", {}};
    t.set("rows", 1 + static_cast<int>(random() % 6)).set("columns", 1 + static_cast<int>(random() % 30));
    t.set("ring", static_cast<int>(random() % 2)).set("blocks", 1 + static_cast<int>(random() % 6));
    if (legal(request, t)) return t;
  }
  return std::nullopt;
}

TEST_F(Guard, SeededShapes) {
  const Sweep s = sweep();
  int shapes = 0;
  for (std::uint64_t seed = 0; shapes < s.shapes; seed++) {
    // Every other one has something beside a kernel and an epilogue.
    const unsigned features = seed % 2 ? static_cast<unsigned>(seed / 2 % 128) : 0;
    Problem p = random_problem_with(features & ~gaps, seed, std::min(17, s.most_side), s.most_side);
    p.numerics = seed % 3 ? Numerics::fast : Numerics::exact;
    p.channels = 1 + static_cast<int>(seed % 49);  // every tail of every vector
    p.channels *= p.multiplier;
    if (features & gaps) {
      std::mt19937_64 random(seed);
      p.src_strides = gapped(random, p.layout, p.input_channels(), p.height, p.width);
      p.dst_strides = gapped(random, p.output_layout(), p.channels, p.out_height(), p.out_width());
    }
    const Case c(p, seed);
    const Wanted expected = wanted(c);
    const int gap = 1 + static_cast<int>(seed % 15);
    Problem either = p;  // direct sums otherwise in class exact
    if (seed % 2 == 0) either.numerics = Numerics::exact;
    const Case own(either, seed);
    const auto direct = any_direct(request_of(either, isa()), seed);
    both_sides(own, wanted(own), direct ? *direct : Tiling::parse("portable"), gap);
    for (const Algorithm* algorithm : algorithms()) {
      if (!s.every_algorithm || algorithm->exact()) continue;
      const auto candidates = algorithm->candidates(request_of(p, isa()));
      if (!candidates.empty()) both_sides(c, expected, candidates[seed % candidates.size()].tiling, gap);
    }
    shapes++;
    if (HasFatalFailure() || HasFailure()) break;
  }
  EXPECT_GE(plans_, s.shapes);
}

/// Every kind of code that transforms emit, each for three kinds of channels.
TEST_F(Guard, EveryKindOfTransform) {
  struct Named {
    const char *shape, *tiling;
  };
  static constexpr std::array named{
      Named{"h9w10k7", "row-spectral n=14 factors=2x7 axis=w rows=8 karatsuba=0 gauss=1 blocks=1"},
      Named{"h9w10k7+relu", "row-spectral n=15 factors=3x5 axis=w rows=4 karatsuba=1 gauss=1 blocks=2"},
      Named{"h16w12k5x9+gelu+residual",
            "row-spectral n=16 factors=4x4 axis=w rows=10 karatsuba=0 gauss=0 blocks=1"},
      Named{"h12w11k13x3", "row-spectral n=18 factors=2x9 axis=h rows=8 karatsuba=0 gauss=1 blocks=4"},
      Named{"h12w11k9x7+relu+residual",
            "row-spectral n=16 factors=16 axis=h rows=14 karatsuba=2 gauss=1 blocks=1"},
      Named{"h14w14k13s2", "row-spectral n=27 factors=27 axis=w rows=7 karatsuba=0 gauss=1 blocks=2"},
      Named{"h14w15k9nchw+residual",
            "row-spectral n=20 factors=4x5 axis=w rows=8 karatsuba=1 gauss=1 blocks=2"},
      Named{"h13w13k9bf16+relu", "row-spectral n=18 factors=18 axis=w rows=8 karatsuba=0 gauss=1 blocks=2"},
      Named{"h13w13k9fp16+gelu", "row-spectral n=18 factors=2x9 axis=h rows=8 karatsuba=1 gauss=1 blocks=1"},
      Named{"h16w16k7",
            "row-spectral n=12 factors=3x4 axis=w rows=8 karatsuba=0 gauss=1 blocks=1 along=6 across=5"},
      Named{"h12w12k11x3,3x11", "row-spectral n=18 factors=2x9 axis=w rows=8 karatsuba=0 gauss=1 blocks=1"},
      Named{"h10w10k3d3+relu", "row-spectral n=14 factors=2x7 axis=w rows=8 karatsuba=0 gauss=1 blocks=1"},
      Named{"h14w14k13", "spectral n=20 factors=4x5 axis=w columns=20 column-factors=4x5 blocks=1"},
      Named{"h13w14k11x13+gelu", "spectral n=20 factors=4x5 axis=w columns=18 column-factors=2x9 blocks=2"},
      Named{"h14w14k13nchw+residual",
            "spectral n=21 factors=3x7 axis=h columns=20 column-factors=4x5 blocks=1"},
      Named{
          "h14w14k13x3,3x13",
          "stripes v=row-spectral v.n=20 v.factors=4x5 v.axis=h v.rows=8 v.karatsuba=0 v.gauss=1 v.blocks=1 "
          "h=direct h.rows=2 h.columns=4 h.ring=1 h.blocks=1"},
  };
  if (isa() == Isa::portable) GTEST_SKIP() << "no code is generated here";
  std::uint64_t seed = 0;
  for (const Named& each : named)
    for (const int channels : {9, 16, 35}) {
      const Case c("n1c" + std::to_string(channels) + each.shape, ++seed, 1);
      const Tiling tiling = Tiling::parse(each.tiling);
      ASSERT_TRUE(legal(request_of(c.problem, isa()), tiling)) << each.shape << ": " << each.tiling;
      both_sides(c, wanted(c), tiling, 1 + static_cast<int>(seed % 15));
    }
  EXPECT_EQ(plans_, 48);
}

}  // namespace
}  // namespace replk::depthwise
