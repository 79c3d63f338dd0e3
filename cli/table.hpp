// Rows of text in aligned columns.
#pragma once
#include <string>
#include <vector>

namespace replk::cli {

/// The first column is aligned to the left, the others to the right; numbers come formatted.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void add_rule() { rows_.emplace_back(); }
  void print() const;  // on standard output, indented by two spaces

 private:
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
};

}  // namespace replk::cli
