#include "cli/shipped.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace replk::cli {
namespace {

namespace fs = std::filesystem;

// Empty for a network that never ships: replknet-nano.safetensors; with other kernels
// replknet-nano-3x3.safetensors or -13-13-7-3.
std::string file_name(const model::Architecture& architecture) {
  const std::string base = architecture.name.substr(0, architecture.name.find(':'));
  const auto& kernels = architecture.kernels;
  const model::Architecture usual = model::find_architecture(base);
  if (architecture.small_kernel != usual.small_kernel) return {};  // none ships
  if (kernels == usual.kernels) return base + ".safetensors";
  const bool one = std::all_of(kernels.begin(), kernels.end(), [&](int k) { return k == kernels[0]; });
  return one ? fmt::format("{}-{}x{}.safetensors", base, kernels[0], kernels[0])
             : fmt::format("{}-{}.safetensors", base, fmt::join(kernels, "-"));
}

}  // namespace

std::string shipped_weights(const model::Architecture& architecture) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return {};
  for (const char* folder : {REPLK_MODELS_FROM_PROGRAM, "models"}) {
    const fs::path path = (program.parent_path() / folder / file_name(architecture)).lexically_normal();
    if (fs::is_regular_file(path, error)) return path.string();
  }
  return {};
}

}  // namespace replk::cli
