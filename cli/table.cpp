#include "cli/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace replk::cli {

void Table::print() const {
  std::vector<std::size_t> widths(rows_[0].size());
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::size_t total = 0;
  for (std::size_t width : widths) total += width + 2;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    std::string line = "  ";
    for (std::size_t i = 0; i < rows_[r].size(); ++i) {
      line += i == 0 ? fmt::format("{:<{}}", rows_[r][i], widths[i])
                     : fmt::format("  {:>{}}", rows_[r][i], widths[i]);
    }
    const std::string rule = "  " + std::string(total - 2, '-');
    fmt::print("{}\n", rows_[r].empty() ? rule : line);
    if (r == 0) fmt::print("{}\n", rule);
  }
}

}  // namespace replk::cli
