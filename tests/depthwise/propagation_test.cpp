// Where a NaN, an infinity and a denormal go, and that the caller's floating-point modes stay his
// (docs/algorithms.md, Numerics).
#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <array>
#include <cmath>
#include <limits>

#include "core/cpu.hpp"
#include "jit/x64/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

Isa isa() {
  return jit::code_allowed() ? core::cpu().isa : Isa::portable;
}

PlanOptions with(const Tiling& tiling, int threads = 1) {
  PlanOptions options;
  options.tiling = tiling;
  options.threads = threads;
  return options;
}

/// Up to three tilings of each algorithm that can do the problem: the one predicted best, the middle and the
/// worst.
std::vector<Tiling> tilings(const Problem& p, bool exact) {
  std::vector<Tiling> all;
  for (const Algorithm* a : algorithms()) {
    if (a->exact() != exact) continue;
    const auto found = a->candidates(request_of(p, isa()));
    if (found.empty()) continue;
    all.push_back(found.front().tiling);
    if (found.size() > 1) all.push_back(found.back().tiling);
    if (found.size() > 2) all.push_back(found[found.size() / 2].tiling);
  }
  return all;
}

std::int64_t input_index(const Problem& p, std::int64_t image, int channel, int row, int column) {
  const Strides s = p.input_strides();
  return image * s.image + channel * s.channel + row * s.row + column * s.pixel;
}

struct Place {
  std::int64_t image;
  int channel, row, column;
};
Place output_place(const Problem& p, std::int64_t i) {
  const int height = p.out_height(), width = p.out_width();
  const auto take = [&i](int count) {
    const auto part = static_cast<int>(i % count);
    i /= count;
    return part;
  };
  Place at{};
  if (p.output_layout() == Layout::nhwc) at.channel = take(p.channels);
  at.column = take(width);
  at.row = take(height);
  if (p.output_layout() == Layout::nchw) at.channel = take(p.channels);
  at.image = i;
  return at;
}

/// Whether some tap of the problem, as its branches define it, brings this input into this output.
bool reaches(const Problem& p, int row, int column, int out_row, int out_column) {
  Problem standard = p;
  set_default_padding(standard);
  for (const Branch& b : p.branches) {
    const int top = p.pad_h.before - standard.pad_h.before + b.dilation_h * (b.kernel_h - 1) / 2;
    const int left = p.pad_w.before - standard.pad_w.before + b.dilation_w * (b.kernel_w - 1) / 2;
    const int down = row - (out_row * p.stride_h - top), right = column - (out_column * p.stride_w - left);
    if (down >= 0 && right >= 0 && down % b.dilation_h == 0 && right % b.dilation_w == 0 &&
        down / b.dilation_h < b.kernel_h && right / b.dilation_w < b.kernel_w)
      return true;
  }
  return false;
}

constexpr std::array shapes{
    "n2c3h6w7k3",
    "n1c19h5w6k5",
    "n1c9h8w7k3s2",
    "n1c5h7w7k4p2",
    "n1c9h9w8k3d2",
    "n1c3h6w5k11",
    "n2c10h5w5k3nchw",
    "n1c4h7w9k5x1p0",
    "n1c17h6w6k7x3,3x7",
    "n1c8h7w6k5s2x1p1",
    "n1c9h6w6k3bf16",
    "n1c9h6w6k3nchwfp16",
    "n1c3h12w12k13x3,3x13",
    "n1c5h7w7k3p-1:3x2:0",
    "n1c9h4w5k3p5:4",
    "n1c3h14w9k5s5x3",
    "n1c9h1w20k1x67",
    "n2c9h6w5k5nchw>nhwc",
    "n2c9h6w5k5nhwc>nchwi11x60x400",
    "n1c17h6w7k5i20x150x1000"};  // one input channel a channel: a special value marks one of them

/// One special value at every position of the input in turn, in a middle channel of the last image.
template <class Judge>  // void(const Storage& clean, const Storage& got, int row, int column, Place marked)
void at_every_position(const Problem& p, const Tiling& tiling, float value, const Judge& judge) {
  Case c(p, 3);
  PlanOptions options = with(tiling);
  options.scale = c.scale;
  const Plan plan(p, c.weights, c.bias, options);
  Storage clean(p.output_type(), p.output_elements()), got(p.output_type(), p.output_elements());
  plan.run(c.tensors(clean));
  const std::int64_t image = p.batch - 1;
  const int channel = p.channels / 2;
  for (int row = 0; row < p.height; row++)
    for (int column = 0; column < p.width; column++) {
      const std::int64_t at = input_index(p, image, channel, row, column);
      const float kept = c.src.get(at);
      c.src.set(at, value);
      plan.run(c.tensors(got));
      c.src.set(at, kept);
      for (std::int64_t i = 0; i < got.elements(); i++) {
        const Place place = output_place(p, i);
        const bool same_channel = place.image == image && place.channel == channel;
        const bool reached = same_channel && reaches(p, row, column, place.row, place.column);
        judge(clean.get(i), got.get(i), same_channel, reached);
        if (testing::Test::HasFailure()) {
          ADD_FAILURE() << to_string(p) << ": " << tiling.to_string() << ": " << value << " at " << row << ","
                        << column << ", output " << place.row << "," << place.column << " of channel "
                        << place.channel;
          return;
        }
      }
    }
}

constexpr std::array specials{std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity()};

TEST(Propagation, ExactReachesTheReceptiveFieldAndNothingElse) {
  for (const char* shape : shapes) {
    Problem p = parse(shape);
    p.numerics = Numerics::exact;
    for (const Tiling& tiling : tilings(p, true))
      for (const float value : specials)
        at_every_position(p, tiling, value, [](float clean, float got, bool, bool reached) {
          if (reached)
            EXPECT_FALSE(std::isfinite(got));
          else
            EXPECT_EQ(std::bit_cast<std::uint32_t>(clean), std::bit_cast<std::uint32_t>(got));
        });
  }
}

TEST(Propagation, ActivationsPassANaNOn) {
  for (const char* shape :
       {"n1c9h6w7k3+relu", "n1c9h6w7k3+gelu", "n1c9h6w7k3+silu", "n1c17h6w7k5nchw+hardswish+scale",
        "n1c9h6w7k5+silu+scale+residual", "n1c9h6w7k5nchw+relu", "n1c9h6w7k5+gelu+residual",
        "n1c17h6w7k5bf16+relu", "n1c16h6w7k5+relu+residual"})
    for (const bool exact : {true, false}) {
      Problem p = parse(shape);
      p.numerics = exact ? Numerics::exact : Numerics::fast;
      for (const Tiling& tiling : tilings(p, exact))
        at_every_position(p, tiling, specials[0],
                          [=](float clean, float got, bool same_channel, bool reached) {
                            EXPECT_TRUE(!reached || std::isnan(got));
                            EXPECT_TRUE(reached || (same_channel && !exact) || clean == got);
                          });
    }
}

TEST(Propagation, FastStaysInTheChannelAndCoversTheReceptiveField) {
  if (isa() == Isa::portable) GTEST_SKIP() << "no code is generated here";
  int transforms = 0;
  for (const char* shape : shapes) {
    const Problem p = parse(shape);
    for (const Tiling& tiling : tilings(p, false)) {
      transforms++;
      for (const float value : specials)
        at_every_position(p, tiling, value, [](float clean, float got, bool same_channel, bool reached) {
          EXPECT_FALSE(reached && std::isfinite(got));
          EXPECT_TRUE(same_channel ||
                      std::bit_cast<std::uint32_t>(clean) == std::bit_cast<std::uint32_t>(got));
        });
    }
  }
  EXPECT_GE(transforms, 20);
}

TEST(Propagation, AWeightThatIsNoNumberStaysInItsChannel) {
  for (const char* shape : {"n1c19h8w9k5", "n1c19h8w9k5exact", "n1c11h9w9k7nchw"}) {
    const Problem p = parse(shape);
    for (const bool exact : {true, false})
      for (const Tiling& tiling : tilings(p, exact)) {
        if (p.numerics == Numerics::exact && !exact) continue;
        Case c(p, 5);
        const Storage clean = c.run(with(tiling));
        const int channel = p.channels - 2, taps = p.branches[0].taps();
        c.branch_weights[0][static_cast<std::size_t>(channel) * taps + taps / 2] = specials[0];
        const Storage got = c.run(with(tiling));
        for (std::int64_t i = 0; i < got.elements(); i++)
          if (output_place(p, i).channel == channel)
            ASSERT_TRUE(std::isnan(got.get(i))) << tiling.to_string();
          else
            ASSERT_EQ(clean.get(i), got.get(i)) << tiling.to_string();
      }
  }
}

TEST(Denormals, ExactHasTheBitsOfPortable) {
  int denormal_outputs = 0;
  for (const char* shape : {"n1c19h8w9k5exact", "n2c9h7w7k3nchwexact+residual", "n1c16h9w9k7exact+relu",
                            "n1c9h8w8k3s2exact+gelu", "n1c9h8w8k3exact+silu+scale",
                            "n1c9h8w8k3exact+hardswish", "n1c9h6w6k3fp16exact", "n1c9h6w6k3bf16exact"})
    for (const int exponent : {-126, -135, -145}) {
      Case c(shape, 7);
      const float scale = std::ldexp(1.0f, exponent / 2);
      for (auto& branch : c.branch_weights)
        for (float& w : branch) w *= scale;
      for (float& b : c.bias) b = std::ldexp(b, exponent);
      for (std::int64_t i = 0; i < c.src.elements(); i++) c.src.set(i, c.src.get(i) * scale);
      for (std::int64_t i = 0; i < c.residual.elements(); i++)
        c.residual.set(i, std::ldexp(c.residual.get(i), exponent));
      const Storage expected = c.run(portable_options());
      for (std::int64_t i = 0; i < expected.elements(); i++)
        denormal_outputs += std::fpclassify(expected.get(i)) == FP_SUBNORMAL;
      for (const Tiling& tiling : tilings(c.problem, true))
        for (const int threads : {1, 2})
          EXPECT_EQ(differing(expected, c.run(with(tiling, threads))), 0)
              << shape << ": " << tiling.to_string();
    }
  EXPECT_GT(denormal_outputs, 1000);
}

/// Sets the caller's modes (rounding, flush to zero, denormals are zero, exception masks) for a scope.
class Modes {
 public:
  static constexpr unsigned flags = 0x3f, flush_to_zero = 0x8000, denormals_are_zero = 0x40, down = 0x2000,
                            up = 0x4000, to_zero = 0x6000;
  explicit Modes(unsigned modes) { _mm_setcsr((before_ & ~(flags | 0xe040u)) | modes); }
  ~Modes() { _mm_setcsr(before_); }
  static unsigned now() { return _mm_getcsr() & ~flags; }

 private:
  const unsigned before_ = _mm_getcsr();
};

TEST(Modes, StayTheCallersWhateverTheyAre) {
  for (const char* shape : {"n1c19h9w9k5", "n1c19h9w9k5exact+gelu", "n1c9h12w12k9nchwbf16+gelu+residual",
                            "n1c9h30w30k21x3,3x21"}) {
    const Problem p = parse(shape);
    const Case c(p, 9);
    const auto samples = all_outputs(p);
    Storage clean = c.run(portable_options());
    const auto expected = reference(p, c.weights, c.bias, c.tensors(clean), samples);
    for (const bool exact : {true, false}) {
      if (p.numerics == Numerics::exact && !exact) continue;
      for (const Tiling& tiling : tilings(p, exact))
        for (const unsigned modes : {0u, Modes::flush_to_zero | Modes::denormals_are_zero, Modes::down,
                                     Modes::up, Modes::to_zero, Modes::to_zero | Modes::flush_to_zero}) {
          Storage got(p.output_type(), p.output_elements());
          {
            const Modes scope(modes);
            const unsigned before = Modes::now();
            const Plan plan(p, c.weights, c.bias, with(tiling));
            ASSERT_EQ(Modes::now(), before) << "planning " << shape << ": " << tiling.to_string();
            plan.run(c.tensors(got));
            ASSERT_EQ(Modes::now(), before) << "running " << shape << ": " << tiling.to_string();
          }
          // Other modes cost accuracy, no more: each operation errs by twice as much, and all in one
          // direction.
          EXPECT_LE(compare(p, c.weights, c.bias, c.tensors(got), samples, expected).max_of_allowed,
                    modes == 0 ? 1.13 : 16)
              << shape << ": " << tiling.to_string() << " modes " << modes;
        }
    }
  }
}

}  // namespace
}  // namespace replk::depthwise
