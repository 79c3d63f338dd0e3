#include "jit/kernels/weight_transform.hpp"

#include <fmt/format.h>

#include <utility>

#include "jit/kernels/column_fft.hpp"
#include "jit/x64/codelet.hpp"

namespace replk::jit {
namespace {

enum Stream { taps, planes };

Listing row_listing(const RowWeightsSpec& spec) {
  const RowTransform& t = spec.transform;
  Program program;
  std::vector<Complex> x(t.n);
  for (int i = 0; i < spec.taps; i++) {
    const int place = ((i - spec.shift) % t.n + t.n) % t.n;
    x[place].re = x[place].re + program.input(taps, i);
  }
  const std::vector<Complex> spectrum = dft(x, t.factors);
  program.output(planes, 0, 1.0 / t.n * spectrum[0].re);
  if (t.reals() == 2) program.output(planes, 1, 1.0 / t.n * spectrum[t.n / 2].re);
  for (int k = 1, plane = t.reals(); k <= t.pairs(); k++, plane += 2) {
    // Where the two parts are stored with different signs, both planes are the conjugate's, up to a common
    // sign.
    const double scale = 2.0 / t.n, conjugate = spec.signs[plane] * spec.signs[plane + 1];
    program.output(planes, plane, scale * spectrum[k].re);
    program.output(planes, plane + 1, -scale * conjugate * spectrum[k].im);
  }
  return lower(program);
}

Listing column_listing(const ColumnWeightsSpec& spec) {
  Program program;
  std::vector<Complex> x(spec.n);
  // The conjugate of the transform of the conjugate.
  for (int i = 0; i < static_cast<int>(spec.places.size()); i++)
    x[spec.places[i]] = {program.input(taps, 2 * i), -program.input(taps, 2 * i + 1)};
  const std::vector<Complex> spectrum = dft(x, spec.factors);
  const double scale = 1.0 / spec.n;
  for (int i = 0; i < spec.n; i++) {
    program.output(planes, 2 * i, scale * spectrum[spec.order[i]].re);
    program.output(planes, 2 * i + 1, -scale * spectrum[spec.order[i]].im);
  }
  return lower(program);
}

/// for each row: the codelet
class WeightKernel : public CodeletKernel {
 public:
  WeightKernel(Isa isa, const Listing& list, int row_taps, int reals, std::int64_t real_stride,
               std::int64_t pair_stride)
      : CodeletKernel(isa),
        code_(assign_registers(list, {vector_registers(isa), 1u << planes})),
        row_taps_(row_taps),
        reals_(reals),
        real_stride_(real_stride),
        pair_stride_(pair_stride) {}

 private:
  void generate() override {
    with_frame(code_.slots, [&] {
      loop(rows_, [&] {
        emit(code_, [this](const Operand& o) { return address(o); });
        add(taps_, row_taps_ * vector_bytes());
        add(real_, vector_bytes());
        add(pair_, 2 * vector_bytes());
      });
    });
  }

  Xbyak::Address address(const Operand& o) const {
    if (o.kind == Operand::Kind::slot) return ptr[rsp + o.index * vector_bytes()];
    if (o.stream == taps) return ptr[taps_ + o.index * vector_bytes()];
    if (o.index < reals_) return ptr[real_ + o.index * real_stride_];
    const int i = o.index - reals_;
    return ptr[pair_ + i / 2 * pair_stride_ + i % 2 * vector_bytes()];
  }

  const Allocation code_;
  const int row_taps_, reals_;
  const std::int64_t real_stride_, pair_stride_;
  const Xbyak::Reg64 taps_ = rdi, real_ = rsi, pair_ = rdx, rows_ = rcx;
};

std::string list_text(const std::vector<int>& values) {
  std::string text;
  for (const int value : values) text += fmt::format("{}{}", text.empty() ? "" : ",", value);
  return text;
}

}  // namespace

std::string RowWeightsSpec::text() const {
  std::string conjugated;  // the pairs whose two planes have different signs
  for (int j = transform.reals(); j < transform.planes(); j += 2)
    if (signs[j] != signs[j + 1]) conjugated += fmt::format("{},", j);
  return fmt::format("row-weights {} {} taps={}-{} strides={},{} conjugated={}", name(isa), transform.text(),
                     taps, shift, real_stride, pair_stride, conjugated);
}
std::string ColumnWeightsSpec::text() const {
  return fmt::format("column-weights {} n={} factors={} places={} order={}", name(isa), n, to_string(factors),
                     list_text(places), list_text(order));
}

std::vector<RowWeightsSpec> RowWeightsSpec::samples(Features features) {
  const Isa isa = isa_of(features);
  const std::int64_t vector = 4 * vector_floats(isa);
  std::vector<RowWeightsSpec> all;
  for (const RowForwardSpec& forward : RowForwardSpec::samples(features))
    if (forward.type == DataType::f32)  // the others transform alike
      all.push_back({isa, forward.transform, 5, 2, row_signs(forward), 16 * vector, 32 * vector});
  return all;
}
std::vector<ColumnWeightsSpec> ColumnWeightsSpec::samples(Features features) {
  std::vector<ColumnWeightsSpec> all;
  for (const ColumnFftSpec& fft : ColumnFftSpec::samples(features))
    all.push_back({fft.isa, fft.n, fft.factors, {6, 7, 0, 1}, fft_weight_order(fft)});
  return all;
}

std::vector<std::uint8_t> generate(const RowWeightsSpec& spec) {
  return WeightKernel(spec.isa, row_listing(spec), spec.taps, spec.transform.reals(), spec.real_stride,
                      spec.pair_stride)
      .take();
}
std::vector<std::uint8_t> generate(const ColumnWeightsSpec& spec) {
  const int vector = 4 * vector_floats(spec.isa);
  return WeightKernel(spec.isa, column_listing(spec), 2 * static_cast<int>(spec.places.size()), 0, 0,
                      2 * vector)
      .take();
}

}  // namespace replk::jit
