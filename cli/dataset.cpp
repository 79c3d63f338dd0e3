#include "cli/dataset.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <vector>

#include "cli/idx.hpp"
#include "core/error.hpp"
#include "image/decode.hpp"

namespace replk::cli {
namespace {

using core::Status;
namespace fs = std::filesystem;

bool is_image(const fs::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png";
}

class ImageFolder : public Dataset {
 public:
  explicit ImageFolder(const std::string& path) {
    std::vector<fs::path> folders;
    for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
      if (entry.is_directory()) folders.push_back(entry.path());
    }
    std::sort(folders.begin(), folders.end());
    classes_ = static_cast<int>(folders.size());
    for (int label = 0; label < classes_; ++label) add_folder(folders[label], label);
    if (items_.empty()) {
      core::fail(Status::bad_file, "{}: no .jpg, .jpeg or .png files in folders below it, one a class", path);
    }
  }
  std::int64_t size() const override { return std::ssize(items_); }
  int classes() const override { return classes_; }
  int label(std::int64_t index) const override { return items_[index].label; }
  std::string name(std::int64_t index) const override { return items_[index].path; }
  image::Image read(std::int64_t index) const override { return image::read_image(items_[index].path); }

 private:
  void add_folder(const fs::path& folder, int label) {
    for (std::string& path : image_files(folder.string())) items_.push_back({std::move(path), label});
  }

  struct Item {
    std::string path;
    int label;
  };
  std::vector<Item> items_;
  int classes_ = 0;
};

// `...images-idx3-ubyte` to `...labels-idx1-ubyte`, whatever stands between and around.
std::string labels_path(const std::string& path) {
  fs::path result(path);
  std::string name = result.filename().string();
  const std::size_t images = name.find("images");
  const std::size_t rank = name.find("idx");
  if (images == std::string::npos || rank == std::string::npos || rank + 3 >= name.size()) {
    core::fail(Status::invalid_argument,
               "{}: an IDX file of images has a name like t10k-images-idx3-ubyte, with "
               "t10k-labels-idx1-ubyte beside it",
               path);
  }
  name[rank + 3] = '1';
  name.replace(images, 6, "labels");
  return result.replace_filename(name).string();
}

class IdxImages : public Dataset {
 public:
  explicit IdxImages(const std::string& path) : images_(path, 3, 4), labels_(labels_path(path), 1, 1) {
    const auto& sizes = images_.sizes();
    if (labels_.sizes()[0] != sizes[0]) {
      core::fail(Status::bad_file, "{}: {} images, but {} labels beside it", path, sizes[0],
                 labels_.sizes()[0]);
    }
    if (sizes[1] > image::max_side || sizes[2] > image::max_side || (sizes.size() == 4 && sizes[3] != 3)) {
      core::fail(Status::bad_file, "{}: IDX images must be N x H x W or N x H x W x 3, with sides of 1..{}",
                 path, image::max_side);
    }
    classes_ = 1 + *std::max_element(labels_.values().begin(), labels_.values().end());
  }
  std::int64_t size() const override { return images_.sizes()[0]; }
  int classes() const override { return classes_; }
  int label(std::int64_t index) const override { return labels_.values()[index]; }
  std::string name(std::int64_t index) const override { return std::to_string(index); }
  image::Image read(std::int64_t index) const override {
    const auto& sizes = images_.sizes();
    image::Image image(static_cast<int>(sizes[1]), static_cast<int>(sizes[2]));
    const std::size_t channels = sizes.size() == 4 ? 3 : 1;
    const std::size_t pixels = image.pixels.size() / 3;
    const unsigned char* from = &images_.values()[index * pixels * channels];
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
      image.pixels[i] = channels == 3 ? from[i] : from[i / 3];
    return image;
  }

 private:
  IdxFile images_, labels_;
  int classes_ = 0;
};

}  // namespace

std::vector<std::string> image_files(const std::string& folder) try {
  std::vector<std::string> paths;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && is_image(entry.path())) paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
} catch (const fs::filesystem_error& error) {
  core::fail(Status::bad_file, "{}: {}", folder, error.code().message());
}

std::unique_ptr<Dataset> open_dataset(const std::string& path) try {
  if (fs::is_directory(path)) return std::make_unique<ImageFolder>(path);
  return std::make_unique<IdxImages>(path);
} catch (const fs::filesystem_error& error) {
  core::fail(Status::bad_file, "{}: {}", path, error.code().message());
}

}  // namespace replk::cli
