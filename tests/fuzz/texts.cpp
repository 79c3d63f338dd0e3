// Files that a user gives beside weights and pictures: labels, predictions of an earlier run, IDX files. The
// first byte says which.
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/categories.hpp"
#include "cli/dataset.hpp"
#include "cli/idx.hpp"
#include "cli/predictions.hpp"
#include "core/error.hpp"
#include "model/labels.hpp"
#include "tests/fuzz/limits.hpp"
#include "tests/fuzz/memory_file.hpp"

using namespace replk;

namespace {

void check_labels(const std::string& text) {
  const std::vector<std::string> labels = model::parse_labels(text, "fuzz");
  for (const std::string& label : labels)
    for (const unsigned char c : label)
      if (c < 0x20 || c == 0x7f) std::abort();
  const cli::Categories categories = cli::categories_of(static_cast<int>(labels.size()), labels);
  for (const std::string& word : categories.words)
    if (word.empty() || categories.find(word) < 0) std::abort();
}

/// Three images with names that a CSV file must quote.
class Three final : public cli::Dataset {
 public:
  std::int64_t size() const override { return 3; }
  int classes() const override { return 10; }
  int label(std::int64_t index) const override { return static_cast<int>(index) + 4; }
  std::string name(std::int64_t index) const override {
    return index == 0 ? "a" : index == 1 ? "b,\"c\"" : "d\ne";
  }
  image::Image read(std::int64_t) const override { std::abort(); }
};

/// What was accepted is there again when the file is opened anew, with what was added.
void check_predictions(const std::string& text) {
  const Three images;
  const fuzz::MemoryFile memory(text.data(), text.size());
  std::size_t done = 0;
  {
    cli::PredictionsFile file(memory.path(), "made", images);
    for (const auto& [index, prediction] : file.done())
      if (index < 0 || index >= 3 || prediction.predicted < 0 || prediction.rank < 0) std::abort();
    done = file.done().size() + !file.done().contains(1);
    file.add(1, {7, 2});
  }
  try {
    const cli::PredictionsFile again(memory.path(), "made", images);
    if (again.done().size() != done || again.done().at(1).predicted != 7) std::abort();
  } catch (const core::Error&) {
    std::abort();
  }
}

void check_idx(const std::string& text) {
  const fuzz::MemoryFile memory(text.data(), text.size());
  const cli::IdxFile file(memory.path(), 1, 4);
  std::int64_t values = 1;
  for (const std::int64_t size : file.sizes()) values *= size;
  if (static_cast<std::size_t>(values) != file.values().size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const fuzz::Limits limits;
  try {
    switch (data[0] % 3) {
      case 0:
        check_labels(text);
        break;
      case 1:
        check_predictions(text);
        break;
      default:
        check_idx(text);
    }
  } catch (const core::Error& error) {
    if (!*error.what()) std::abort();
  }
  return 0;
}
