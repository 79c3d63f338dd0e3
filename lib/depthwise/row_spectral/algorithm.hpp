// What row-spectral and spectral have in common: a real transform along one axis of the map
// (docs/algorithms.md).
#pragma once
#include <optional>
#include <vector>

#include "depthwise/algorithm.hpp"
#include "depthwise/row_spectral/geometry.hpp"

namespace replk::depthwise {

/// Class fast. What an algorithm says besides is its column pass.
class SpectralAlgorithm : public Algorithm {
 public:
  bool exact() const final { return false; }
  std::span<const std::int32_t> constants() const final;
  /// Of a tiling of this algorithm; empty where a field is unknown, missing or out of range.
  std::optional<RowSpectralParameters> parameters(const Tiling& tiling) const;

 protected:
  /// Reads the fields of the column pass; false where one is missing or out of range.
  virtual bool read_columns(const Tiling& tiling, RowSpectralParameters& parameters) const = 0;
  /// Adds a candidate for each column pass worth trying behind these rows.
  virtual void add_columns(std::vector<Candidate>& found, const Request& request,
                           RowSpectralParameters rows) const = 0;

  /// The candidates with these parameters, one for each way to bring rows in.
  static void add_candidate(std::vector<Candidate>& found, const Request& request, RowSpectralParameters p);
  /// Vectors of channels that may share scratch.
  static std::vector<int> block_counts(const Request& request);
  /// The whole axis, where code and scratch allow it, and segments for larger ones.
  static std::vector<int> segment_sizes(int outputs, int taps);
  /// Lengths of at least `least` with cheap codelets, ascending: products of small primes, at most a sixth
  /// longer.
  static std::vector<int> good_lengths(int least);

 private:
  std::unique_ptr<Variant> read_fields(const Request& request, const Tiling& tiling) const final;
  std::vector<Candidate> every_candidate(const Request& request) const final;
  void keep_best(std::vector<Candidate>& sorted, std::size_t most) const final;
  /// The transform goes along the longer side of the kernel.
  void add_axis(std::vector<Candidate>& found, const Request& request, bool along_h) const;
};

}  // namespace replk::depthwise
