// One machine for all predictions, and predictions that a machine alone decides.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "depthwise/cost/direct_cost.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

const Features avx2 = features_of(Isa::avx2), avx512 = features_of(Isa::avx512);

TEST(Machine, IsChosenByVendorAndFeatures) {
  std::set<std::string_view> names;
  for (const char* vendor : {"GenuineIntel", "AuthenticAMD"})
    for (const Features features : {avx2, avx512}) names.insert(machine(vendor, features).name);
  EXPECT_EQ(names.size(), 4u) << "a Zen 4 is neither an Emerald Rapids nor a Zen 3";
  const Features more = avx512 | replk::Feature::avx512_vnni | replk::Feature::avx512_bf16;
  EXPECT_EQ(&machine("AuthenticAMD", more), &machine("AuthenticAMD", avx512));
  EXPECT_EQ(&machine("GenuineIntel", {}), &machine("AuthenticAMD", {}));
  EXPECT_TRUE(machine("AuthenticAMD", avx512).splits);
  EXPECT_FALSE(machine("AuthenticAMD", avx2).splits || machine("GenuineIntel", avx512).splits);
}

TEST(Machine, HasEveryConstant) {
  for (const char* vendor : {"GenuineIntel", "AuthenticAMD"})
    for (const Features features : {Features(), avx2, avx512}) {
      Machine m = machine(vendor, features);
      for (const double needed : {m.clock, m.multiplies, m.operations, m.instructions, m.plain, m.loads,
                                  m.chain, m.row_instruction, m.column[0], m.transform, m.line, m.run[2]})
        EXPECT_GT(needed, 0) << m.name;
      int constants = 0;
      each_constant(m, [&](const char* name, double value) {
        EXPECT_TRUE(std::isfinite(value) && value >= 0) << m.name << ": " << name;
        constants++;
      });
      EXPECT_EQ(constants, 30);
    }
}

/// Measured there: a tile of one pixel reads what comes from beyond the L2 faster than any other.
TEST(Machine, StreamsWholePixelsFaster) {
  DirectCounts c{};
  c.threads = c.busy = c.vectors = 1;
  c.vector_bytes = 64;
  c.tensor_bytes = 1e9;
  c.in_pixels = c.out_pixels = c.stored_pixels = 1000;
  c.group = 24;
  c.every_block = true;
  c.taps = 9;
  c.columns = 1;
  const Machine& m = machine("GenuineIntel", avx512);
  const double apart = seconds(m, c, 0);
  c.whole_pixels = true;
  EXPECT_LT(seconds(m, c, 0), 0.5 * apart);
  c.tensor_bytes = 0;  // it stays in the L2
  const double near = seconds(m, c, 0);
  c.whole_pixels = false;
  EXPECT_EQ(seconds(m, c, 0), near);
}

/// What the enumeration of candidates says and what the variant that is read back says are one formula.
TEST(Machine, PredictsAVariantAsItsCandidate) {
  const Isa isa = core::cpu().isa;
  for (const char* shape : {"n1c40h14w14k13", "n2c17h20w19k5s2+relu+residual", "n1c32h30w30k31x5,5x31,5x5",
                            "n1c64h28w28k7nchw", "n1c24h40w40k9bf16+gelu", "n1c384h32w32k3"})
    for (const int threads : {1, 4}) {
      const Request request = request_of(parse(shape), isa, threads);
      Machine faster = machine(request.features);
      faster.clock *= 2;
      for (const Algorithm* algorithm : algorithms())
        for (const Candidate& candidate : algorithm->candidates(request)) {
          const auto variant = algorithm->read(request, candidate.tiling);
          ASSERT_TRUE(variant) << candidate.tiling.to_string();
          EXPECT_EQ(variant->tiling(), candidate.tiling);
          const double seconds = variant->predict(machine(request.features));
          EXPECT_NEAR(seconds, candidate.predicted_seconds, 1e-9 * seconds) << candidate.tiling.to_string();
          EXPECT_LE(variant->predict(faster), seconds);
        }
    }
}

}  // namespace
}  // namespace replk::depthwise
