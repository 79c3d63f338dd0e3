// What `replk quantize --images` is given: a folder in which are pictures with changed bytes, other files,
// empty ones, folders, hidden ones and links (to nothing, to themselves, round in circles), or an IDX file.
// The input is a byte that says which, and then steps of six bytes. What can be read is calibrated with, and
// must give ranges that are finite and a network that can be loaded.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cli/calibration_images.hpp"
#include "cli/image_files.hpp"
#include "core/error.hpp"
#include "model/network.hpp"
#include "model/quantise_network.hpp"
#include "tests/fuzz/limits.hpp"
#include "tests/fuzz/small_network.hpp"

using namespace replk;
namespace fs = std::filesystem;

namespace {

constexpr int side = fuzz::small_side, most_images = 2;

const model::Architecture& architecture() {
  static const model::Architecture row = fuzz::small_architecture(model::Family::convnext);
  return row;
}

const model::WeightSource& weights() {
  static const auto source = model::seeded_weights(architecture(), 1);
  return *source;
}

/// The small ones among the decoders' goldens.
const std::vector<std::string>& pictures() {
  static const std::vector<std::string> all = [] {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(REPLK_IMAGES))
      if (entry.path().extension() != ".txt" && entry.file_size() < 6000) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    std::vector<std::string> files;
    for (const fs::path& path : paths) {
      std::ifstream stream(path, std::ios::binary);
      files.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    }
    if (files.empty()) std::abort();
    return files;
  }();
  return all;
}

/// A folder of this process, emptied when an input has been read.
class Scratch {
 public:
  Scratch() : path_(fs::temp_directory_path() / ("replk_fuzz_" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directory(path_);
  }
  ~Scratch() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string name_of(std::uint8_t byte) {
  static constexpr std::array endings{".jpg", ".png", ".jpeg", ".PNG", ".txt", "", ".gz", ".jpg.png"};
  return std::string(byte & 0x40 ? "." : "") + static_cast<char>('a' + (byte >> 3) % 8) +
         endings[byte % endings.size()];
}

void write(const fs::path& path, const std::string& content) {
  // O_EXCL: a name that is taken, by a link too, keeps what it has.
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (file < 0) return;
  if (::write(file, content.data(), content.size()) != static_cast<ssize_t>(content.size())) std::abort();
  ::close(file);
}

/// A golden in which one byte is another, or of which only the beginning is there.
std::string picture(const std::uint8_t* how) {
  std::string file = pictures()[how[0] % pictures().size()];
  const std::size_t at = (how[1] | how[2] << 8) % file.size();
  if (how[3] == 0)
    file.resize(at);
  else
    file[at] = static_cast<char>(how[3]);
  return file;
}

/// One step; `here` is the folder that the next ones fill.
void step(const fs::path& root, fs::path& here, const std::uint8_t* how) {
  const fs::path path = here / name_of(how[1]);
  std::error_code taken;
  switch (how[0] % 8) {
    default:
      write(path, picture(how + 2));
      break;
    case 4:
      if (fs::create_directory(path, taken)) here = path;
      break;
    case 5:
      if (here != root) here = here.parent_path();
      break;
    case 6: {
      static constexpr std::array targets{".", "..", "nothing", "a.jpg", "b", "./c.png/"};
      if (how[2] % 8 == 1 && here == root) break;  // not out of the folder
      const bool itself = how[2] % 8 >= targets.size();
      fs::create_symlink(itself ? path.filename().string() : targets[how[2] % 8], path, taken);
      break;
    }
    case 7:
      if (how[2] % 2 == 0) ::mkfifo(path.c_str(), 0600);
      break;
  }
}

/// The file, and its labels: the header's 16 bytes, of which some are small for the most part, and so many
/// values.
fs::path idx(const fs::path& root, const std::uint8_t* data, std::size_t size) {
  std::string images{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 4}, labels{0, 0, 8, 1, 0, 0, 0, 2, 3, 1};
  images.resize(16 + 40, '\x7f');
  for (std::size_t at = 0; at + 3 <= size; at += 3) {
    std::string& file = data[at] % 4 ? images : labels;
    if (data[at] % 16 == 15)
      file.resize(data[at + 1]);
    else if (!file.empty())
      file[data[at + 1] % file.size()] = static_cast<char>(data[at + 2]);
  }
  write(root / "t-images-idx3-ubyte", images);
  write(root / "t-labels-idx1-ubyte", labels);
  return root / "t-images-idx3-ubyte";
}

void check_files(const fs::path& root) {
  const cli::ImageFiles files = cli::image_files(root.string());
  if (!std::is_sorted(files.paths.begin(), files.paths.end()) || files.passed_over < 0) std::abort();
  for (const std::string& path : files.paths)
    if (!path.starts_with(root.string() + "/") || path.find("/.") != std::string::npos) std::abort();
}

void check(const std::map<int, model::InputKnowledge>& seen) {
  if (seen.empty()) std::abort();
  for (const auto& [layer, knowledge] : seen) {
    const model::ChannelStatistics& c = knowledge.channels;
    for (std::size_t i = 0; i < c.mean.size(); i++)
      if (!std::isfinite(c.mean[i]) || !std::isfinite(c.deviation[i]) || !std::isfinite(c.low[i]) ||
          !std::isfinite(c.high[i]) || c.low[i] > c.high[i])
        std::abort();
  }
}

void use(const std::map<int, model::InputKnowledge>& seen) {
  model::QuantiseOptions quantise;
  quantise.threads = 1;
  quantise.seen = seen;
  model::NetworkOptions options;
  options.threads = 1;
  const model::Network network(architecture(),
                               model::quantise_network(architecture(), weights(), quantise).tensors, options);
  if (network.classes() != architecture().classes) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  fuzz::use_portable_code();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  weights();
  pictures();
  const Scratch scratch;
  const fs::path& root = scratch.path();
  fs::path given = root, here = root;
  if (data[0] % 4 == 3)
    given = idx(root, data + 1, size - 1);
  else
    for (std::size_t at = 1; at + 6 <= size; at += 6) step(root, here, data + at);
  const fuzz::Limits limits(2);  // pictures are decoded, a network is planned
  try {
    if (given == root) check_files(root);
    const cli::CalibrationImages images(given.string(), most_images);
    if (images.size() < 1 || images.size() > most_images) std::abort();
    const auto seen = cli::calibrate(images, weights(), architecture(), {side, side}, 1);
    check(seen);
    use(seen);
  } catch (const core::Error& error) {
    if (!*error.what()) std::abort();
  }
  return 0;
}
