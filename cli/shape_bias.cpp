#include "cli/shape_bias.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <limits>
#include <numeric>
#include <regex>

#include "cli/dataset.hpp"
#include "cli/image_files.hpp"
#include "cli/run_images.hpp"
#include "core/error.hpp"
#include "image/decode.hpp"
#include "model/labels.hpp"

namespace replk::cli {
namespace {

/// Pictures with a category for their shape and one for their texture.
class CueConflicts final : public Dataset {
 public:
  CueConflicts(const std::string& folder, const Categories& categories)
      : classes_(static_cast<int>(categories.words.size())) {
    ImageFiles files = image_files(folder);
    if (files.paths.empty()) core::fail(core::Status::bad_file, "{}: no .jpg, .jpeg or .png files", folder);
    passed_over_ = files.passed_over;
    for (std::string& path : files.paths) {
      const Item item = read_name(path, categories);
      if (item.shape == item.texture)
        ++agreeing_;
      else
        items_.push_back(item);
    }
  }
  std::int64_t size() const override { return std::ssize(items_); }
  int classes() const override { return classes_; }
  int label(std::int64_t index) const override { return items_[static_cast<std::size_t>(index)].shape; }
  int texture(std::int64_t index) const { return items_[static_cast<std::size_t>(index)].texture; }
  std::string name(std::int64_t index) const override { return items_[static_cast<std::size_t>(index)].path; }
  image::Image read(std::int64_t index) const override { return image::read_image(name(index)); }
  std::int64_t passed_over() const override { return passed_over_; }
  std::int64_t agreeing() const { return agreeing_; }

 private:
  struct Item {
    std::string path;
    int shape, texture;
  };
  static Item read_name(const std::string& path, const Categories& categories) {
    static const std::regex form("([a-z]+)[0-9]*-([a-z]+)[0-9]*\\.[A-Za-z]+");
    const std::string name = std::filesystem::path(path).filename().string();
    std::smatch words;
    if (name.size() > 255 || !std::regex_match(name, words, form))
      core::fail(core::Status::bad_file,
                 "{}: the name is not that of shape and texture, such as cat7-elephant1.png", path);
    const int shape = categories.find(words[1]), texture = categories.find(words[2]);
    if (shape < 0 || texture < 0)
      core::fail(core::Status::bad_file, "{}: there is no category '{}'; allowed: {}", path,
                 words[shape < 0 ? 1 : 2].str(), fmt::join(categories.words, ", "));
    return {path, shape, texture};
  }

  std::vector<Item> items_;
  int classes_;
  std::int64_t passed_over_ = 0, agreeing_ = 0;
};

}  // namespace

double ShapeBias::value() const {
  return shape + texture == 0 ? std::numeric_limits<double>::quiet_NaN()
                              : static_cast<double>(shape) / static_cast<double>(shape + texture);
}

ShapeBias shape_bias(LoadedNetwork& loaded, const std::string& folder, Size size, int batch) {
  model::Network& network = loaded.network;
  const std::string metadata = loaded.weights.source->metadata("labels");
  const Categories categories = categories_of(
      network.classes(), metadata.empty() ? std::vector<std::string>()
                                          : model::parse_labels(metadata, loaded.weights.source->describe()));
  const CueConflicts images(folder, categories);
  ShapeBias found;
  found.agreeing = images.agreeing();
  std::vector<std::int64_t> all(static_cast<std::size_t>(images.size()));
  std::iota(all.begin(), all.end(), 0);
  found.failed = run_images(network, images, all, size, batch, [&](std::int64_t index, const float* logits) {
    const int decided = categories.decide(logits);
    ++found.images;
    found.shape += decided == images.label(index);
    found.texture += decided == images.texture(index);
  });
  return found;
}

}  // namespace replk::cli
