// The pictures in a folder.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace replk::cli {

struct ImageFiles {
  std::vector<std::string> paths;  // sorted
  std::int64_t passed_over = 0;  // files that are none of these: of another name, hidden, or no files at all
};

/// The files called .jpg, .jpeg or .png in a folder, at any depth. Hidden folders (a name with a dot in
/// front) are passed over with all they hold. A link to a folder is followed; each folder is entered once,
/// however many links lead to it, so that none leads round in a circle. Throws bad_file where a folder cannot
/// be read.
ImageFiles image_files(const std::string& folder);

/// The folders in a folder that are not hidden, links to folders too, in the order of their names; and how
/// many files there are beside them. Throws bad_file.
struct Subfolders {
  std::vector<std::string> paths;
  std::int64_t files = 0;
};
Subfolders subfolders(const std::string& folder);

}  // namespace replk::cli
