// What `replk eval` has found so far, in a CSV file that a later run goes on from.
#pragma once
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "cli/dataset.hpp"

namespace replk::cli {

struct Prediction {
  int predicted = 0;
  int rank = 0;  // of the label among the logits, best first: 0 is a hit
};

/// Lines of `index,image,label,predicted,rank` below one that says what made them. A line is written whole
/// and at once when its image is done, so that a run that was killed loses at most the images of one batch;
/// what it left unfinished at the end is cut off. Images that could not be read have no line: the next run
/// tries them again.
class PredictionsFile {
 public:
  /// Opens `path`, or makes it. `made_by`: model, size, weights and images, without a line end. Throws
  /// bad_file where the file was made by something else, is damaged, or names images or labels that
  /// `dataset` has not; not_found where it cannot be opened.
  PredictionsFile(const std::string& path, const std::string& made_by, const Dataset& dataset);

  /// By the image's index: those that earlier runs left.
  const std::map<std::int64_t, Prediction>& done() const { return done_; }
  /// Throws bad_file where it cannot be written.
  void add(std::int64_t index, const Prediction& prediction);

 private:
  void read(const std::string& text, const std::string& made_by);

  std::string path_;
  const Dataset& dataset_;
  std::map<std::int64_t, Prediction> done_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, std::fclose};
};

}  // namespace replk::cli
