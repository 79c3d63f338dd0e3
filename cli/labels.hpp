// Names of classes.
#pragma once
#include <string>
#include <vector>

namespace replk::cli {

/// A JSON array of strings, or one label a line; `source` names it in messages. Throws bad_file unless there
/// are `classes` of them. Control characters become spaces.
std::vector<std::string> parse_labels(const std::string& text, const std::string& source, int classes);

/// The same from a file of at most 16 MiB.
std::vector<std::string> read_labels(const std::string& path, int classes);

}  // namespace replk::cli
