#include "cli/heat_map.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace replk::cli {
namespace {

using Colour = std::array<std::uint8_t, 3>;
constexpr Colour white{255, 255, 255}, ink{64, 64, 64};

// Magma, by van der Walt and Smith (matplotlib, CC0), at tenths: lightness grows evenly, in print and for the
// colour-blind too.
constexpr std::array<Colour, 10> magma{{{0, 0, 4},
                                        {24, 15, 61},
                                        {68, 15, 118},
                                        {114, 31, 129},
                                        {158, 47, 127},
                                        {205, 64, 113},
                                        {241, 96, 93},
                                        {253, 150, 104},
                                        {254, 202, 141},
                                        {252, 253, 191}}};

Colour colour_of(double value) {
  const double at = std::clamp(value, 0.0, 1.0) * (magma.size() - 1);
  const std::size_t below = std::min<std::size_t>(static_cast<std::size_t>(at), magma.size() - 2);
  Colour colour;
  for (int c = 0; c < 3; ++c) {
    const double mixed = magma[below][c] + (at - below) * (magma[below + 1][c] - magma[below][c]);
    colour[c] = static_cast<std::uint8_t>(std::lround(mixed));
  }
  return colour;
}

// Characters of 5 x 7 points, a row a number, its highest of five bits to the left.
constexpr std::string_view characters = "0123456789.%";
constexpr int glyph_width = 5, glyph_height = 7;
constexpr std::uint8_t glyphs[][glyph_height] = {
    {14, 17, 19, 21, 25, 17, 14}, {4, 12, 4, 4, 4, 4, 14},  {14, 17, 1, 2, 4, 8, 31},
    {31, 2, 4, 2, 1, 17, 14},     {2, 6, 10, 18, 31, 2, 2}, {31, 16, 30, 1, 1, 17, 14},
    {6, 8, 16, 30, 17, 17, 14},   {31, 1, 2, 4, 8, 8, 8},   {14, 17, 17, 14, 17, 17, 14},
    {14, 17, 17, 15, 1, 2, 12},   {0, 0, 0, 0, 0, 12, 12},  {24, 25, 2, 4, 8, 19, 3},
};

class Canvas {
 public:
  Canvas(int height, int width) : image(height, width) {
    std::fill(image.pixels.begin(), image.pixels.end(), std::uint8_t{255});
  }
  image::Image image;

  void fill(int top, int left, int height, int width, Colour colour) {
    for (int y = std::max(top, 0); y < std::min(top + height, image.height); ++y)
      for (int x = std::max(left, 0); x < std::min(left + width, image.width); ++x)
        std::copy(colour.begin(), colour.end(), image.row(y) + 3 * x);
  }
  /// Lines of 2 pixels, inside the rectangle.
  void outline(int top, int left, int height, int width, Colour colour) {
    fill(top, left, 2, width, colour);
    fill(top + height - 2, left, 2, width, colour);
    fill(top, left, height, 2, colour);
    fill(top, left + width - 2, height, 2, colour);
  }
  void write(int top, int left, std::string_view text, Colour colour) {
    for (char character : text) {
      const std::size_t glyph = characters.find(character);
      if (glyph == std::string_view::npos) continue;
      for (int y = 0; y < glyph_height; ++y)
        for (int x = 0; x < glyph_width; ++x)
          if (glyphs[glyph][y] >> (glyph_width - 1 - x) & 1)
            fill(top + y * point, left + x * point, point, point, colour);
      left += (glyph_width + 1) * point;
    }
  }
  static int text_width(std::string_view text) {
    return static_cast<int>(text.size()) * (glyph_width + 1) * point - point;
  }
  static constexpr int point = 2, text_height = glyph_height * point;
};

/// How the map meets the picture's pixels: one of the two is 1.
struct Scale {
  int enlarge = 1, reduce = 1;
  int of(int pixels) const { return (pixels + reduce - 1) / reduce * enlarge; }
};

Scale scale_of(Size size) {
  const int longest = std::max(size.height, size.width);
  if (longest < 500) return {std::max(1, (500 + longest / 2) / longest), 1};
  return {1, (longest + 250) / 500};
}

double mean_of(std::span<const double> values, Size size, int top, int left, int side) {
  double sum = 0;
  int count = 0;
  for (int y = top; y < std::min(top + side, size.height); ++y)
    for (int x = left; x < std::min(left + side, size.width); ++x, ++count)
      sum += values[static_cast<std::size_t>(y) * size.width + x];
  return sum / count;
}

constexpr int margin = 12, gap = 14, bar_width = 18;

void draw_bar(Canvas& canvas, int top, int left, int height) {
  for (int y = 0; y < height; ++y)
    canvas.fill(top + y, left, 1, bar_width, colour_of(1 - double(y) / (height - 1)));
  for (const auto& [value, label] : {std::pair{1.0, "1"}, {0.5, "0.5"}, {0.0, "0"}}) {
    const int y = top + static_cast<int>(std::lround((1 - value) * (height - 2)));
    canvas.fill(y, left + bar_width, 2, 5, ink);
    const int text = std::clamp(y + 1 - Canvas::text_height / 2, top, top + height - Canvas::text_height);
    canvas.write(text, left + bar_width + 9, label, ink);
  }
}

void draw_frame(Canvas& canvas, const Frame& frame, Size size, Scale scale) {
  const auto edge = [&](int side, int from) {
    return margin + std::clamp(from, 0, side) * scale.enlarge / scale.reduce;
  };
  const int half = frame.side / 2, y = size.height / 2, x = size.width / 2;
  const int top = edge(size.height, y - half), bottom = edge(size.height, y + half + 1),
            left = edge(size.width, x - half), right = edge(size.width, x + half + 1);
  canvas.outline(top, left, bottom - top, right - left, white);
  const int text_width = Canvas::text_width(frame.label);
  if (right - left > text_width + 12 && bottom - top > Canvas::text_height + 12)
    canvas.write(top + 7, left + 7, frame.label, white);
}

}  // namespace

image::Image draw_heat_map(std::span<const double> values, Size size, const std::vector<Frame>& frames) {
  const Scale scale = scale_of(size);
  const int height = scale.of(size.height), width = scale.of(size.width);
  Canvas canvas(height + 2 * margin, width + 2 * margin + gap + bar_width + 9 + Canvas::text_width("0.5"));
  for (int y = 0; y < size.height; y += scale.reduce)
    for (int x = 0; x < size.width; x += scale.reduce)
      canvas.fill(margin + y / scale.reduce * scale.enlarge, margin + x / scale.reduce * scale.enlarge,
                  scale.enlarge, scale.enlarge, colour_of(mean_of(values, size, y, x, scale.reduce)));
  for (const Frame& frame : frames) draw_frame(canvas, frame, size, scale);
  draw_bar(canvas, margin, margin + width + gap, height);
  return std::move(canvas.image);
}

}  // namespace replk::cli
