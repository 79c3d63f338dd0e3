#include "cli/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>

namespace replk::cli {

Table::Table(std::vector<std::string> header, std::string alignment)
    : rows_{std::move(header)}, alignment_(std::move(alignment)) {
  if (alignment_.empty()) alignment_ = "l";
  alignment_.resize(rows_[0].size(), 'r');
}

void Table::print() const {
  std::vector<std::size_t> widths(alignment_.size());
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::size_t total = 0;
  for (std::size_t width : widths) total += width + 2;
  const std::string rule(total - 2, '-');

  for (std::size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (std::size_t i = 0; i < rows_[r].size(); ++i) {
      const std::string_view gap = i == 0 ? "" : "  ";
      line += alignment_[i] == 'l' ? fmt::format("{}{:<{}}", gap, rows_[r][i], widths[i])
                                   : fmt::format("{}{:>{}}", gap, rows_[r][i], widths[i]);
    }
    while (line.ends_with(' ')) line.pop_back();
    fmt::print("  {}\n", rows_[r].empty() ? rule : line);
    if (r == 0) fmt::print("  {}\n", rule);
  }
}

}  // namespace replk::cli
