#include "depthwise/spectral/transformed_columns.hpp"

#include <algorithm>

#include "depthwise/row_spectral/counts.hpp"
#include "depthwise/row_spectral/geometry.hpp"
#include "depthwise/row_spectral/toeplitz_columns.hpp"

namespace replk::depthwise {
namespace {

constexpr const RowSpectralConstants& constants = row_spectral_constants;
constexpr int max_column_length = 160;  // a limit of what is legal: code grows with it

class TransformedCode final : public ColumnCode {
 public:
  TransformedCode(const RowSpectralGeometry& g, const jit::ToeplitzSpec& real, const jit::ColumnFftSpec& pair)
      : real_(real),
        pair_(jit::get_code(pair.text(), [&] { return jit::generate(pair); })),
        scratch_bytes_(std::max(real_.scratch_bytes(), jit::scratch_bytes(pair))),
        plane_stride_(g.plane_stride),
        real_bytes_(g.real_floats() * g.weight_bytes()) {}

  void run(const char* in, char* out, const void* weights, std::int64_t reals, std::int64_t pairs,
           void* scratch) const override {
    real_.run(in, out, weights, reals, 0, scratch);
    if (pairs > 0)
      pair_->entry<jit::ColumnFft>()(in + reals * plane_stride_, out + reals * plane_stride_,
                                     static_cast<const char*>(weights) + reals * real_bytes_, pairs, scratch);
  }
  std::size_t scratch_bytes() const override { return scratch_bytes_; }
  std::vector<const jit::Code*> code() const override {
    std::vector<const jit::Code*> all = real_.code();
    all.push_back(pair_.get());
    return all;
  }

 private:
  ToeplitzCode real_;
  std::shared_ptr<const jit::Code> pair_;
  std::size_t scratch_bytes_;
  std::int64_t plane_stride_, real_bytes_;
};

}  // namespace

std::shared_ptr<const TransformedColumns> TransformedColumns::read(const Tiling& tiling) {
  const int n = tiling.number("columns", 0);
  if (n < 4 || n > max_column_length) return nullptr;
  jit::Factors factors = jit::parse_factors(tiling.word("column-factors"), n);
  if (factors.size() < 2) return nullptr;
  return std::make_shared<const TransformedColumns>(n, std::move(factors));
}

void TransformedColumns::add_fields(const RowSpectralParameters&, Tiling& tiling) const {
  tiling.set("columns", n_).set("column-factors", jit::to_string(factors_));
}

bool TransformedColumns::feasible(const RowSpectralGeometry& g) const {
  return g.across.output >= least_transformed &&
         n_ >= std::max(g.across_segments.least_length(), g.across.taps);
}

// The few real planes have the same form in all segments: they share weights.
int TransformedColumns::levels(const RowSpectralGeometry& g) const {
  if (g.across.stride != 1 || static_cast<int>(g.across_taps.size()) < constants.split_taps)
    return g.parameters.karatsuba;
  const int outputs = g.across_segments[0].outs;
  return outputs >= constants.split_twice ? 2 : outputs >= constants.split_once ? 1 : 0;
}

std::int64_t TransformedColumns::pair_floats(const RowSpectralGeometry& g) const {
  return 2 * std::int64_t{n_} * g.lanes;
}

jit::ColumnFftSpec TransformedColumns::transform(const RowSpectralGeometry& g, const Segment& segment) const {
  jit::ColumnFftSpec spec;
  spec.isa = g.isa;
  spec.n = n_;
  spec.factors = factors_;
  spec.first = segment.first - g.column_shift;
  spec.inputs = segment.ins;
  spec.outputs = segment.outs;
  spec.step = g.across.stride;
  spec.chunk = n_ < constants.short_columns ? constants.short_chunk : constants.chunk;
  spec.plane_stride = g.plane_stride;
  spec.half_weights = g.parameters.half_weights;
  return spec;
}

std::shared_ptr<const jit::Code> TransformedColumns::weights_code(const RowSpectralGeometry& g) const {
  jit::ColumnWeightsSpec spec;
  spec.isa = g.isa;
  spec.n = n_;
  spec.factors = factors_;
  for (const int tap : g.across_taps) spec.places.push_back(((tap - g.column_shift) % n_ + n_) % n_);
  spec.order = jit::fft_weight_order(transform(g, g.across_segments[0]));
  return jit::get_code(spec.text(), [&] { return jit::generate(spec); });
}

std::unique_ptr<ColumnCode> TransformedColumns::code(const RowSpectralGeometry& g,
                                                     const Segment& segment) const {
  return std::make_unique<TransformedCode>(g, g.toeplitz(segment), transform(g, segment));
}

SpectralCounts::Columns TransformedColumns::pair(const RowSpectralGeometry& g, const Segment& segment) const {
  return {known_counts().pair(transform(g, segment)), 1, -1};
}

}  // namespace replk::depthwise
