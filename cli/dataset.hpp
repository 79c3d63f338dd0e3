// Labelled images on disk.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "image/image.hpp"

namespace replk::cli {

/// Every count-th image, from the index-th on (0-based).
struct Shard {
  int index = 0, count = 1;
};

/// const and thread-safe.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  /// Labels are 0..classes() - 1.
  virtual int classes() const = 0;
  virtual int label(std::int64_t index) const = 0;
  /// A file's path, or the number of an image among others in a file.
  virtual std::string name(std::int64_t index) const = 0;
  /// Throws not_found or bad_file.
  virtual image::Image read(std::int64_t index) const = 0;
  /// Files that lie among the images and are none.
  virtual std::int64_t passed_over() const { return 0; }
};

/// A folder (as torchvision's ImageFolder: the sub-folders in sorted order are the classes, and JPEG and PNG
/// files at any depth below them the images, sorted too; a class without images is an error; hidden folders,
/// which torchvision takes for classes, are skipped) or an IDX file of MNIST's kind (bytes, N x H x W
/// grey or N x H x W x 3, gzipped or not), whose labels are in the file of the same name with `labels-idx1`
/// instead of `images-idx3`. Throws not_found, bad_file or invalid_argument.
std::unique_ptr<Dataset> open_dataset(const std::string& path);

}  // namespace replk::cli
