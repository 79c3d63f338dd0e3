#include "cli/calibration_images.hpp"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "cli/image_files.hpp"
#include "core/error.hpp"
#include "image/decode.hpp"
#include "model/calibrate.hpp"
#include "model/network.hpp"
#include "model/picture.hpp"

namespace replk::cli {

CalibrationImages::CalibrationImages(const std::string& path, int count) {
  std::error_code unreadable;  // open_dataset says why
  if (std::filesystem::is_directory(path, unreadable))
    files_ = image_files(path).paths;
  else
    dataset_ = open_dataset(path);
  all_ = dataset_ ? dataset_->size() : std::ssize(files_);
  if (all_ == 0) core::fail(core::Status::not_found, "{}: no JPEG or PNG files", path);
  count_ = std::min<std::int64_t>(count, all_);
}

image::Image CalibrationImages::read(int i) const {
  const std::int64_t index = i * all_ / count_;
  return dataset_ ? dataset_->read(index) : image::read_image(files_[static_cast<std::size_t>(index)]);
}

std::map<int, model::InputKnowledge> calibrate(const CalibrationImages& images,
                                               const model::WeightSource& source,
                                               const model::Architecture& architecture, const Size& size,
                                               int threads) {
  model::NetworkOptions options;
  options.threads = threads;
  options.precision = Precision::fp32;
  model::Network network(architecture, source, options);
  std::vector<float> pixels(static_cast<std::size_t>(size.height) * size.width * 3);
  model::Calibration calibration(network, source, images.size());
  Progress progress(images.size(), "images");
  for (int i = 0; i < images.size(); ++i) {
    model::prepare_picture(images.read(i), architecture.preprocessing, size.height, size.width,
                           pixels.data());
    calibration.add({pixels.data(), 1, size.height, size.width});
    progress.advance();
  }
  return calibration.result();
}

}  // namespace replk::cli
