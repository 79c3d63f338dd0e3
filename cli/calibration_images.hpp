// The images that `replk quantize` calibrates with.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/common.hpp"
#include "cli/dataset.hpp"
#include "image/image.hpp"
#include "model/architecture.hpp"
#include "model/quantise.hpp"
#include "model/weight_source.hpp"

namespace replk::cli {

/// Any in a folder, at any depth, or those of an IDX file; `count` of them, evenly spread.
class CalibrationImages {
 public:
  /// Throws not_found where there are none; bad_file where folder or file cannot be read.
  CalibrationImages(const std::string& path, int count);

  int size() const { return static_cast<int>(count_); }
  /// i from 0 to size() - 1. Throws not_found or bad_file, with the file's name.
  image::Image read(int i) const;

 private:
  std::vector<std::string> files_;
  std::unique_ptr<Dataset> dataset_;
  std::int64_t all_ = 0, count_ = 0;
};

/// What they say of the inputs of the network's layers, by their index in the graph. Shows progress on a
/// terminal. Throws as reading them and loading the network do.
std::map<int, model::InputKnowledge> calibrate(const CalibrationImages& images,
                                               const model::WeightSource& source,
                                               const model::Architecture& architecture, const Size& size,
                                               int threads);

}  // namespace replk::cli
