#include "depthwise/row_spectral_weights.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

/// Spectra of one block of channels: [taps across][planes][lanes].
class BlockSpectra {
 public:
  BlockSpectra(const RowSpectralGeometry& g, const Kernel& kernel) : g_(g), kernel_(kernel) {
    const int n = g.parameters.transform.n;
    for (int i = 0; i < n; i++) cosine_.push_back(std::cos(2 * std::numbers::pi * i / n));
    for (int i = 0; i < n; i++) sine_.push_back(std::sin(2 * std::numbers::pi * i / n));
    values_.resize(g.across_taps.size() * n * g.lanes);
  }

  void compute(int block) {
    const int n = g_.parameters.transform.n, lanes = g_.lanes, channel = block * lanes;
    const int valid = std::min(lanes, kernel_.channels - channel);
    std::vector<double> line(static_cast<std::size_t>(g_.along.taps) * lanes, 0.0);
    for (std::size_t tap = 0; tap < g_.across_taps.size(); tap++) {
      for (int t = 0; t < g_.along.taps; t++) {
        const float* from =
            g_.parameters.along_h ? kernel_.at(t, g_.across_taps[tap]) : kernel_.at(g_.across_taps[tap], t);
        for (int l = 0; l < valid; l++) line[t * lanes + l] = from[channel + l];
      }
      double* to = &values_[tap * n * lanes];
      const int reals = g_.parameters.transform.reals();
      frequency(line, 0, to, nullptr);
      if (reals == 2) frequency(line, n / 2, to + lanes, nullptr);
      for (int k = 1; k <= g_.parameters.transform.pairs(); k++) {
        double* pair = to + (reals + 2 * (k - 1)) * lanes;
        frequency(line, k, pair, pair + lanes);
      }
    }
  }

  const double* plane(int tap, int plane) const {
    return &values_[(static_cast<std::size_t>(tap) * g_.parameters.transform.n + plane) * g_.lanes];
  }

 private:
  /// sum_t w[t] exp(+2 pi i k (t - shift) / n): the conjugate, because the convolution is a correlation.
  void frequency(const std::vector<double>& line, int k, double* re, double* im) const {
    const int n = g_.parameters.transform.n, lanes = g_.lanes;
    constexpr int most = 16;
    double real[most] = {}, imaginary[most] = {};
    for (int t = 0; t < g_.along.taps; t++) {
      const std::int64_t turn = std::int64_t{k} * (t - g_.shift) % n;
      const int angle = static_cast<int>(turn < 0 ? turn + n : turn);
      const double c = cosine_[angle], s = sine_[angle];
      const double* w = &line[static_cast<std::size_t>(t) * lanes];
      for (int l = 0; l < lanes; l++) {
        real[l] += c * w[l];
        imaginary[l] += s * w[l];
      }
    }
    std::copy_n(real, lanes, re);
    if (im) std::copy_n(imaginary, lanes, im);
  }

  const RowSpectralGeometry& g_;
  const Kernel& kernel_;
  std::vector<double> cosine_, sine_, values_;
};

/// Writes the packed weights of one block.
class Packer {
 public:
  Packer(const RowSpectralGeometry& g, const std::vector<int>& signs) : g_(g), signs_(signs) {
    if (!g.parameters.two_dimensional()) return;
    const int n = g.parameters.columns;
    order_ = jit::fft_weight_order(g.column_fft(g.across_segments[0]));
    for (int i = 0; i < n; i++) cosine_.push_back(std::cos(2 * std::numbers::pi * i / n));
    for (int i = 0; i < n; i++) sine_.push_back(std::sin(2 * std::numbers::pi * i / n));
  }

  void pack(const BlockSpectra& spectra, float* to) const {
    const jit::RowTransform& t = g_.parameters.transform;
    for (int j = 0; j < t.reals(); j++) to = taps(spectra, j, 1, 1.0 / t.n, 0, to);
    for (int j = t.reals(); j < t.planes(); j += 2) {
      // Where the two parts are stored with different signs, both planes are the conjugate's, up to a common
      // sign.
      const double conjugate = signs_[j] * signs_[j + 1], scale = 2.0 / t.n;
      if (g_.parameters.two_dimensional()) {
        to = transform(spectra, j, scale / g_.parameters.columns, conjugate, to);
        continue;
      }
      to = taps(spectra, j, 2, scale, scale * conjugate, to);
    }
  }

 private:
  /// Every tap's values on one plane, or on a pair of planes in turn, times their factors.
  float* taps(const BlockSpectra& spectra, int plane, int planes, double re, double im, float* to) const {
    for (int tap = 0; tap < static_cast<int>(g_.across_taps.size()); tap++)
      for (int j = 0; j < planes; j++)
        for (int l = 0; l < g_.lanes; l++)
          *to++ = static_cast<float>((j == 0 ? re : im) * spectra.plane(tap, plane + j)[l]);
    return to;
  }

  /// The transform of a pair's complex taps along the other axis, in the order of the column program.
  float* transform(const BlockSpectra& spectra, int plane, double scale, double conjugate, float* to) const {
    const int n = g_.parameters.columns, lanes = g_.lanes;
    for (const int k : order_) {
      constexpr int most = 16;
      double re[most] = {}, im[most] = {};
      for (std::size_t tap = 0; tap < g_.across_taps.size(); tap++) {
        const std::int64_t turn = std::int64_t{k} * (g_.across_taps[tap] - g_.column_shift) % n;
        const int angle = static_cast<int>(turn < 0 ? turn + n : turn);
        const double c = scale * cosine_[angle], s = scale * sine_[angle];
        const double* hr = spectra.plane(static_cast<int>(tap), plane);
        const double* hi = spectra.plane(static_cast<int>(tap), plane + 1);
        for (int l = 0; l < lanes; l++) {
          re[l] += c * hr[l] - s * conjugate * hi[l];
          im[l] += s * hr[l] + c * conjugate * hi[l];
        }
      }
      for (int l = 0; l < lanes; l++) *to++ = static_cast<float>(re[l]);
      for (int l = 0; l < lanes; l++) *to++ = static_cast<float>(im[l]);
    }
    return to;
  }

  const RowSpectralGeometry& g_;
  const std::vector<int>& signs_;
  std::vector<int> order_;
  std::vector<double> cosine_, sine_;
};

}  // namespace

PackedSpectra pack_spectra(const RowSpectralGeometry& g, const Kernel& kernel, const std::vector<int>& signs,
                           int threads) {
  const Packer packer(g, signs);
  PackedSpectra packed;
  packed.real = g.real_floats();
  packed.pair = g.pair_floats();
  packed.block = g.weights_floats();
  packed.weights = core::Buffer<float>(static_cast<std::size_t>(packed.block) * g.all_blocks());
  packed.bias = core::Buffer<float>(static_cast<std::size_t>(g.all_blocks()) * g.lanes, true);
  std::copy(kernel.bias.begin(), kernel.bias.end(), packed.bias.begin());
  constexpr int together = 8;  // blocks a task, for one set of tables
  core::parallel_for((g.all_blocks() + together - 1) / together, threads, [&](std::int64_t task, int) {
    BlockSpectra spectra(g, kernel);
    for (int b = static_cast<int>(task) * together;
         b < std::min<std::int64_t>((task + 1) * together, g.all_blocks()); b++) {
      spectra.compute(b);
      packer.pack(spectra, packed.weights.data() + packed.block * b);
    }
  });
  return packed;
}

}  // namespace replk::depthwise
