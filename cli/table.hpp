// Rows of text in aligned columns.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace replk::cli {

class Table {
 public:
  /// alignment: `l` or `r` a column; by default the first to the left and the others, numbers, to the right.
  explicit Table(std::vector<std::string> header, std::string alignment = {});
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void add_rule() { rows_.emplace_back(); }
  void print() const;  // on standard output, indented by two spaces

 private:
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
  std::string alignment_;
};

}  // namespace replk::cli
