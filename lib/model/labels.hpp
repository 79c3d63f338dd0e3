// Names of classes.
#pragma once
#include <string>
#include <vector>

namespace replk::model {

/// The rules, which python/convert.py goes by too. The text is UTF-8, or UTF-16 with a byte-order mark; the
/// mark is no part of a name. Where its first character, blanks aside, is [ or {, it is JSON: an array of
/// names, or an object that has a name for each index from "0" on. Otherwise each line is a name, with LF or
/// CR LF behind it; empty lines at the end do not count. Control characters in names become spaces. `source`
/// names the text in messages. Throws bad_file where it breaks a rule.
std::vector<std::string> parse_labels(std::string text, const std::string& source);

/// The same from a file of at most 16 MiB.
std::vector<std::string> read_labels(const std::string& path);

}  // namespace replk::model
