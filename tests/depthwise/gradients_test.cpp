// Both gradients and the forward pass against each other: a convolution is linear in its input and in its
// weights, so <dy, conv(x, w)> = <dx, x> = <dw, w> for any x, w and dy. No reference is needed, on any
// instruction set.
//
// REPLK_SWEEP: quick (the default) or long, which takes 5,000 shapes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "depthwise/problem/reader.hpp"
#include "tests/depthwise/training_case.hpp"

namespace replk::depthwise {
namespace {

/// A scalar product and how far it may be off.
struct Product {
  double value = 0, error = 0;
};

/// What every value of a channel may be off by: class fast's bound, or a rounding a product in class exact.
double bound(const Problem& p, double largest, double norms, double products) {
  return p.numerics == Numerics::fast ? std::max(1e-6 * largest, std::ldexp(norms, -24))
                                      : products * std::ldexp(norms, -24);
}

/// A tensor's channel, image by image.
struct Channel {
  std::vector<double> values;
  double largest = 0, squares = 0;
  double norm() const { return std::sqrt(squares); }
};
Channel read(const Reader& tensor, std::int64_t image, int channel, int height, int width) {
  Channel c;
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      const double value = tensor(image, channel, y, x);
      c.values.push_back(value);
      c.largest = std::max(c.largest, std::fabs(value));
      c.squares += value * value;
    }
  return c;
}

double sum_of_squares(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * v;
  return sum;
}

/// Adds <computed, other>, where `computed` may be off by `each` and by its own rounding.
void add(const Problem& p, const Channel& computed, const Channel& other, double each, Product& to) {
  for (std::size_t i = 0; i < computed.values.size(); i++) {
    to.value += computed.values[i] * other.values[i];
    to.error += std::fabs(other.values[i]) * (each + half_ulp(computed.values[i], p.type));
  }
}

/// The three products of one input channel: with y, with dx, with dw.
class Products {
 public:
  Products(const TrainingCase& c, const Storage& y, const Storage& dx,
           const std::vector<std::vector<float>>& dw, int channel)
      : c_(c), p_(c.problem) {
    const Reader input(p_.type, p_.input_strides(), c.src.data()),
        output(p_.type, p_.output_strides(), y.data()), dys(p_.type, p_.output_strides(), c.dy.data()),
        dxs(p_.type, p_.input_strides(), dx.data());
    for (const Branch& b : p_.branches) taps_ += b.taps();
    for (std::int64_t n = 0; n < p_.batch; n++) {
      const Channel x = read(input, n, channel, p_.height, p_.width),
                    gradient = read(dxs, n, channel, p_.height, p_.width);
      double norms = 0;  // of dx: over the channel's outputs
      for (int o = channel * p_.multiplier; o < (channel + 1) * p_.multiplier; o++) {
        const Channel computed = read(output, n, o, p_.out_height(), p_.out_width()),
                      dy = read(dys, n, o, p_.out_height(), p_.out_width());
        const double w = norm_of_weights(o);
        add(p_, computed, dy, bound(p_, computed.largest, w * x.norm(), taps_), with_y);
        norms += w * dy.norm();
      }
      add(p_, gradient, x, bound(p_, gradient.largest, norms, taps_ * p_.multiplier), with_dx);
    }
    for (int o = channel * p_.multiplier; o < (channel + 1) * p_.multiplier; o++)
      add_weights(dw, o, input, dys, channel);
  }

  Product with_y, with_dx, with_dw;

 private:
  std::span<const float> of_channel(std::span<const float> branch, int i, int o) const {
    const auto taps = static_cast<std::size_t>(p_.branches[i].taps());
    return branch.subspan(o * taps, taps);
  }
  double norm_of_weights(int o) const {
    double sum = 0;
    for (std::size_t i = 0; i < p_.branches.size(); i++)
      sum += sum_of_squares(of_channel(c_.weights[i], static_cast<int>(i), o));
    return std::sqrt(sum);
  }
  void add_weights(const std::vector<std::vector<float>>& dw, int o, const Reader& input, const Reader& dys,
                   int channel) {
    double largest = 0, x2 = 0, y2 = 0, norm1 = 0;
    for (std::int64_t n = 0; n < p_.batch; n++) {
      x2 += read(input, n, channel, p_.height, p_.width).squares;
      y2 += read(dys, n, o, p_.out_height(), p_.out_width()).squares;
    }
    for (std::size_t i = 0; i < p_.branches.size(); i++) {
      const auto w = of_channel(c_.weights[i], static_cast<int>(i), o),
                 gradient = of_channel(dw[i], static_cast<int>(i), o);
      for (std::size_t t = 0; t < w.size(); t++) {
        largest = std::max(largest, std::fabs(double{gradient[t]}));
        with_dw.value += double{w[t]} * gradient[t];
        norm1 += std::fabs(double{w[t]});
      }
    }
    // Class exact sums in double and rounds once.
    with_dw.error += norm1 * (p_.numerics == Numerics::exact
                                  ? std::ldexp(largest, -23)
                                  : std::max(1e-6 * largest, std::ldexp(std::sqrt(x2 * y2), -24)));
  }

  const TrainingCase& c_;
  const Problem& p_;
  double taps_ = 0;
};

class Gradients : public testing::Test {
 protected:
  void check(const Problem& problem, std::uint64_t seed, const PlanOptions& options) {
    SCOPED_TRACE(to_string(problem));
    const TrainingCase c(problem, seed, seed % 5 == 0 ? 2.0f : 0.0f);
    const Problem& p = c.problem;
    const Plan forward(p, c.weights, {}, options);
    Storage y(p.output_type(), p.output_elements());
    forward.run(c.tensors(y));
    const Storage dx = c.input_gradient(options);
    const auto dw = c.weight_gradients(options);
    for (int channel = 0; channel < p.input_channels(); channel++) {
      const Products all(c, y, dx, dw, channel);
      ASSERT_TRUE(equal(all.with_y, all.with_dx)) << "channel " << channel << ": <dy, y> and <dx, x>";
      ASSERT_TRUE(equal(all.with_y, all.with_dw)) << "channel " << channel << ": <dy, y> and <dw, w>";
    }
    shapes_++;
  }

  testing::AssertionResult equal(const Product& a, const Product& b) {
    const double apart = std::fabs(a.value - b.value), allowed = a.error + b.error;
    if (!(apart <= allowed))
      return testing::AssertionFailure()
             << a.value << " and " << b.value << ", apart by " << apart << "; allowed: " << allowed;
    if (allowed > 0) worst_ = std::max(worst_, apart / allowed);
    return testing::AssertionSuccess();
  }

  int shapes_ = 0;
  double worst_ = 0;
};

TEST_F(Gradients, ScalarProductsAgree) {
  const char* given = std::getenv("REPLK_SWEEP");
  const int count = given && std::string(given) == "long" ? 5000 : 300;
  for (int seed = 0; seed < count; seed++) {
    Problem p = plain(random_problem_with(static_cast<unsigned>(seed) * 53 % 128, 9000 + seed, 11, 14));
    p.numerics = seed % 3 ? Numerics::fast : Numerics::exact;
    p.epilogue.bias = false;
    PlanOptions options;
    options.threads = 1 + seed % 2;
    if (seed % 4 == 3) options.isa = Isa::avx2;
    check(p, seed, options);
    if (HasFatalFailure()) return;
  }
  EXPECT_EQ(shapes_, count);
  std::printf("%d shapes, scalar products apart by up to %.2f of what their errors allow\n", shapes_, worst_);
}

}  // namespace
}  // namespace replk::depthwise
