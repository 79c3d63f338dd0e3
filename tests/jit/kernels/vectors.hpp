// Vectors of channels between inaccessible pages, with data on which errors show, for tests of single
// kernels.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

#include "core/cpu.hpp"
#include "core/features.hpp"
#include "core/half.hpp"
#include "jit/x64/code.hpp"
#include "tests/guarded.hpp"

namespace replk::jit {

/// A constant shows what is left out or taken twice, a box what lies at another place, a large mean what
/// cancels.
enum class Data { noise, constant, box, large_mean };
constexpr Data every_data[] = {Data::noise, Data::constant, Data::box, Data::large_mean};

inline int between(std::mt19937& random, int least, int most) {
  return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
}
inline bool sometimes(std::mt19937& random) {
  return random() % 2 == 0;
}

/// The end of the memory that lies at a page changes with the seed.
class Vectors {
 public:
  Vectors(std::int64_t count, int lanes, std::mt19937& random)
      : lanes_(lanes),
        count_(count),
        memory_(static_cast<std::size_t>(count * lanes) * sizeof(float),
                sometimes(random) ? test::Side::begin : test::Side::end) {}
  Vectors(std::int64_t count, int lanes, Data data, std::mt19937& random) : Vectors(count, lanes, random) {
    std::uniform_real_distribution<float> noise(-1, 1);
    for (std::int64_t i = 0; i < count; i++)
      for (int lane = 0; lane < lanes; lane++)
        at(i, lane) = data == Data::noise        ? noise(random)
                      : data == Data::large_mean ? 100 + noise(random)
                      : data == Data::constant   ? 1.0f
                                                 : static_cast<float>(i >= count / 4 && i < (count + 1) / 2);
  }

  float* data() const { return memory_.as<float>(); }
  float& at(std::int64_t vector, int lane) const { return data()[vector * lanes_ + lane]; }
  std::int64_t count() const { return count_; }
  double largest() const {
    double most = 0;
    for (std::int64_t i = 0; i < count_ * lanes_; i++) most = std::max(most, std::abs(double{data()[i]}));
    return most;
  }
  void copy_from(const Vectors& other) { std::copy_n(other.data(), count_ * lanes_, data()); }
  bool intact() const { return memory_.intact(); }

 private:
  int lanes_;
  std::int64_t count_;
  test::Guarded memory_;
};

/// The same values in a narrower type, between inaccessible pages too; the vectors are rounded to what it
/// holds.
template <class T>
class Narrowed {
 public:
  Narrowed(const Vectors& wide, int lanes, std::mt19937& random)
      : count_(wide.count() * lanes),
        memory_(static_cast<std::size_t>(count_) * sizeof(T),
                sometimes(random) ? test::Side::begin : test::Side::end) {
    for (std::int64_t i = 0; i < count_; i++) {
      data()[i] = core::from_float<T>(wide.data()[i]);
      wide.data()[i] = core::to_float(data()[i]);
    }
  }
  T* data() const { return memory_.as<T>(); }
  std::int64_t count() const { return count_; }
  bool intact() const { return memory_.intact(); }

 private:
  std::int64_t count_;
  test::Guarded memory_;
};

/// A kernel of type Function, with registers and stack full of NaNs when it is called.
template <class Function, class Spec, class... Arguments>
void call(const Spec& spec, Arguments... arguments) {
  const auto code = get_code(spec.text(), [&] { return generate(spec); });
  test::poison();
  code->template entry<Function>()(arguments...);
}

/// Of tests that run kernels of the instruction set in use.
class KernelTest : public testing::Test {
 protected:
  void SetUp() override {
    if (isa_ == Isa::portable) GTEST_SKIP() << "this CPU, or REPLK_MAX_ISA, has no AVX2";
  }
  const Isa isa_ = core::cpu().isa;
};

constexpr double rounding = 0x1p-24;  // of a value of fp32, over the value

}  // namespace replk::jit
