#include "cli/image_files.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <utility>

#include "core/error.hpp"

namespace replk::cli {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

bool has_image_name(const fs::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png";
}

/// What is in a folder, sorted: which of two links to one folder is entered must not depend on the disk.
std::vector<fs::path> entries(const fs::path& folder) try {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
} catch (const fs::filesystem_error& error) {
  core::fail(core::Status::bad_file, "{}: {}", folder.string(), error.code().message());
}

class Walk {
 public:
  void enter(const fs::path& folder) {
    struct stat status;
    if (::stat(folder.c_str(), &status) == 0 && !entered_.emplace(status.st_dev, status.st_ino).second)
      return;
    for (const fs::path& path : entries(folder)) {
      std::error_code ignored;
      const fs::file_status what = fs::status(path, ignored);
      if (fs::is_directory(what)) {
        if (!is_hidden(path)) enter(path);
      } else if (has_image_name(path) && !is_hidden(path) && may_be_read(what)) {
        files.paths.push_back(path.string());
      } else {
        ++files.passed_over;
      }
    }
  }

  ImageFiles files;

 private:
  /// A link to nothing is tried like a file, and reported as one that cannot be read; a pipe would be waited
  /// for.
  static bool may_be_read(const fs::file_status& what) {
    return fs::is_regular_file(what) || !fs::status_known(what) || !fs::exists(what);
  }

  std::set<std::pair<dev_t, ino_t>> entered_;
};

}  // namespace

ImageFiles image_files(const std::string& folder) {
  Walk walk;
  walk.enter(folder);
  std::sort(walk.files.paths.begin(), walk.files.paths.end());
  return std::move(walk.files);
}

Subfolders subfolders(const std::string& folder) {
  Subfolders found;
  for (const fs::path& path : entries(folder)) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored))
      ++found.files;
    else if (!is_hidden(path))
      found.paths.push_back(path.string());
  }
  return found;
}

}  // namespace replk::cli
