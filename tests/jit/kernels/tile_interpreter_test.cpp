// The interpreter of tile instructions, by which AMX code is tested where there is no AMX, against the CPU's
// own.
#include "tests/support/tile_interpreter.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "core/features.hpp"
#include "jit/kernels/tile_product.hpp"
#include "jit/x64/assembler.hpp"
#include "jit/x64/code.hpp"

namespace replk::jit {
namespace {

using Xbyak::Reg64;
using Xbyak::Tmm;

/// Every instruction, every way that generators address memory.
class EveryInstruction : public Assembler {
 public:
  explicit EveryInstruction(bool integers) : Assembler(Isa::avx512), integers_(integers) {}

 private:
  void generate() override {
    const Reg64 palette = rdi, a = rsi, b = rdx, c = rcx, line = r9, far = r13;
    prologue();
    ldtilecfg(ptr[palette]);
    mov(line, tile_line);
    mov(far, c);
    add(far, 4096);
    tileloadd(Tmm(0), ptr[far + line - 4096]);
    tilezero(Tmm(1));
    tileloaddt1(Tmm(4), ptr[a + line]);
    tileloadd(Tmm(6), ptr[b + line]);
    tileloadd(Tmm(7), ptr[b + line + 64]);
    for (const int weights : {6, 7}) {
      if (integers_)
        tdpbusd(Tmm(weights - 6), Tmm(4), Tmm(weights));
      else
        tdpbf16ps(Tmm(weights - 6), Tmm(4), Tmm(weights));
    }
    shr(line, 2);
    tilestored(ptr[c + line * 4], Tmm(0));
    tilestored(ptr[c + line * 4 + tile_rows * tile_line], Tmm(1));
    tilerelease();
    epilogue();
  }
  bool integers_;
};

struct Data {
  std::vector<unsigned char> a, b, c;
};

Data random_data(std::mt19937& random, bool integers) {
  Data d{std::vector<unsigned char>(2048), std::vector<unsigned char>(2048),
         std::vector<unsigned char>(4096)};
  const auto fill = [&](std::vector<unsigned char>& bytes, bool halves) {
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
      auto word = std::uint16_t(random());
      // Of bf16: exponents near 1, and now and then a denormal or one of the smallest numbers.
      if (!integers && halves)
        word =
            std::uint16_t((word & 0x807f) | (random() % 16 == 0 ? random() % 3 : 110 + random() % 30) << 7);
      std::memcpy(bytes.data() + i, &word, 2);
    }
  };
  fill(d.a, true);
  fill(d.b, true);
  fill(d.c, false);
  if (!integers)
    for (std::size_t i = 0; i + 3 < d.c.size(); i += 4) {
      const float sum = float(int(random() % 2001) - 1000) * 1e-3f;
      std::memcpy(d.c.data() + i, &sum, 4);
    }
  return d;
}

std::vector<unsigned char> results(const Code& code, int rows, Data data) {
  const TilePalette palette(rows);
  code.entry<void (*)(const void*, void*, void*, void*)>()(&palette, data.a.data(), data.b.data(),
                                                           data.c.data());
  return data.c;
}

TEST(TileInterpreter, GivesTheBitsOfTheHardware) {
  const Features wanted = Feature::amx_tile | Feature::amx_bf16 | Feature::amx_int8;
  if (!core::hardware_features().has(wanted)) GTEST_SKIP() << "this CPU has no AMX";
  test::interpret_tiles();
  struct Sample {
    bool integers;
    int rows;
    Data data;
    std::vector<unsigned char> wanted;
  };
  std::vector<Sample> samples;
  const Code floats(EveryInstruction(false).take()), integers(EveryInstruction(true).take());
  std::mt19937 random(3);
  for (int i = 0; i < 200; i++) {
    Sample s{i % 2 == 0, 1 + int(random() % 16), random_data(random, i % 2 == 0), {}};
    s.wanted = results(s.integers ? integers : floats, s.rows, s.data);
    samples.push_back(std::move(s));
  }
  const std::int64_t interpreted = test::interpreted_tiles();
  ASSERT_GE(interpreted, 200 * 9) << "the tile instructions did not trap";
  // From here on Linux lets this process use tiles.
  if (!core::features().has(wanted)) GTEST_SKIP() << "this system gives no tiles";
  for (const Sample& s : samples)
    ASSERT_EQ(results(s.integers ? integers : floats, s.rows, s.data), s.wanted)
        << (s.integers ? "tdpbusd" : "tdpbf16ps") << " rows " << s.rows;
  EXPECT_EQ(test::interpreted_tiles(), interpreted);
}

}  // namespace
}  // namespace replk::jit
