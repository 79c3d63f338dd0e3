#include "cli/dataset.hpp"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "cli/idx.hpp"
#include "cli/image_files.hpp"
#include "core/error.hpp"
#include "image/decode.hpp"

namespace replk::cli {
namespace {

using core::Status;
namespace fs = std::filesystem;

class ImageFolder : public Dataset {
 public:
  explicit ImageFolder(const std::string& path) {
    const Subfolders folders = subfolders(path);
    passed_over_ = folders.files;
    for (const std::string& folder : folders.paths) {
      ImageFiles files = image_files(folder);
      // torchvision refuses it as well. Left out, it would give the classes behind it other numbers.
      if (files.paths.empty())
        core::fail(Status::bad_file, "{}: a class without .jpg, .jpeg or .png files", folder);
      for (std::string& file : files.paths) items_.push_back({std::move(file), classes_});
      passed_over_ += files.passed_over;
      ++classes_;
    }
    if (items_.empty()) {
      core::fail(Status::bad_file, "{}: no .jpg, .jpeg or .png files in folders below it, one a class", path);
    }
  }
  std::int64_t size() const override { return std::ssize(items_); }
  int classes() const override { return classes_; }
  int label(std::int64_t index) const override { return items_[index].label; }
  std::string name(std::int64_t index) const override { return items_[index].path; }
  image::Image read(std::int64_t index) const override { return image::read_image(items_[index].path); }
  std::int64_t passed_over() const override { return passed_over_; }

 private:
  struct Item {
    std::string path;
    int label;
  };
  std::vector<Item> items_;
  std::int64_t passed_over_ = 0;
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

std::unique_ptr<Dataset> open_dataset(const std::string& path) try {
  if (fs::is_directory(path)) return std::make_unique<ImageFolder>(path);
  return std::make_unique<IdxImages>(path);
} catch (const fs::filesystem_error& error) {
  core::fail(Status::bad_file, "{}: {}", path, error.code().message());
}

}  // namespace replk::cli
