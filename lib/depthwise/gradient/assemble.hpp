// dx from the results of its parts: zeros where no tap reaches, and the sums of what was computed apart.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "depthwise/gradient/turned.hpp"

namespace replk::depthwise {

/// Thread-safe. All functions allocate nothing.
class Assembly {
 public:
  /// problem: the layer. parts: turned_parts(problem), whose results lie one after another, each dense in
  /// dx's layout.
  Assembly(const Problem& problem, const std::vector<Part>& parts);

  /// Whether some pixel of dx belongs to several parts, and whether, where none does, some belongs to none.
  bool overlap() const { return overlap_; }
  bool has_holes() const { return holes_; }
  /// Elements of an image's results, and where those of a part begin.
  std::int64_t elements() const { return elements_; }
  std::int64_t offset(std::size_t part) const { return places_[part].offset; }

  /// Zeroes the pixels of so many images that belong to no part; the others are neither read nor written.
  void fill_holes(void* dx, std::int64_t batch, int threads) const;
  /// An image of dx: at every pixel, for every input channel, the sum over the parts and over the channel's
  /// outputs, in double and rounded once. results: floats where `wide`, else of the problem's type.
  void sum(const void* results, bool wide, void* dx, int threads) const;
  /// An image of dy as floats, dense in dy's layout.
  void widen(const void* dy, float* to, int threads) const;

 private:
  struct Place {
    int row, column, rows, columns;  // of dx: the first, and how many, a stride of the layer apart
    std::int64_t offset;
    Strides at;  // of the results
  };
  /// A place that has a pixel, and where it lies there.
  struct Found {
    const Place* place;
    std::int64_t at;
  };
  using FoundPlaces = std::array<Found, 16>;  // one a branch
  int find(int y, int x, FoundPlaces& found) const;
  template <class T>
  void fill_row(T* dx, int y, int channel, int channels) const;
  template <class S, class T>
  void sum_row(const S* results, T* dx, int y, int channel, int channels) const;
  template <class Row>
  void for_rows(std::int64_t images, int threads, const Row& row) const;

  Problem problem_;
  std::vector<Place> places_;
  std::vector<std::vector<int>> classes_;  // the places of each class of pixels: [row][column]
  std::int64_t elements_ = 0;
  bool overlap_ = false, holes_ = false;
};

}  // namespace replk::depthwise
