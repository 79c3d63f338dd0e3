#include "model/architecture.hpp"

#include <algorithm>
#include <charconv>

#include "core/error.hpp"

namespace replk::model {
namespace {

using core::fail;
using core::Status;

constexpr Preprocessing imagenet{};
/// RepLKNet-XL was trained on pixels in -1..1.
constexpr Preprocessing symmetric{{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}, 320};
/// Fashion-MNIST's grey three times, never cropped.
constexpr Preprocessing fashion_mnist{{0.286f, 0.286f, 0.286f}, {0.353f, 0.353f, 0.353f}, 28, 1.0, 1};

Architecture row_of(Family family, std::string name, std::vector<int> depths, std::vector<int> channels,
                    std::vector<int> kernels, int small_kernel) {
  Architecture row;
  row.name = std::move(name);
  row.family = family;
  row.depths = std::move(depths);
  row.channels = std::move(channels);
  row.kernels = std::move(kernels);
  row.small_kernel = small_kernel;
  return row;
}

Architecture replknet(std::string name, std::vector<int> channels, std::vector<int> kernels,
                      int small_kernel) {
  return row_of(Family::replknet, std::move(name), {2, 2, 18, 2}, std::move(channels), std::move(kernels),
                small_kernel);
}

Architecture slak(std::string name, std::vector<int> depths, std::vector<int> channels) {
  return row_of(Family::slak, std::move(name), std::move(depths), std::move(channels), {51, 49, 47, 13}, 5);
}

Architecture convnext(std::string name, std::vector<int> depths, int channels) {
  return row_of(Family::convnext, std::move(name), std::move(depths),
                {channels, 2 * channels, 4 * channels, 8 * channels}, {7, 7, 7, 7}, 0);
}

Architecture unireplknet(std::string name, std::vector<int> depths, int channels, int third_stage_period) {
  Architecture row = row_of(Family::unireplknet, std::move(name), std::move(depths),
                            {channels, 2 * channels, 4 * channels, 8 * channels}, {3, 13, 13, 13}, 0);
  row.third_stage_period = third_stage_period;
  return row;
}

std::vector<Architecture> make_rows() {
  std::vector<Architecture> rows;
  // RepLKNet, arXiv 2203.06717; create_RepLKNet31B, 31L and XL of its repository.
  rows.push_back(replknet("replknet-31b", {128, 256, 512, 1024}, {31, 29, 27, 13}, 5));
  rows.push_back(replknet("replknet-31l", {192, 384, 768, 1536}, {31, 29, 27, 13}, 5));
  rows.push_back(replknet("replknet-xl", {256, 512, 1024, 2048}, {27, 27, 27, 13}, 0));
  rows.back().depthwise_ratio = 1.5;
  rows.back().preprocessing = symmetric;
  // Not in the paper: trained on Fashion-MNIST by python/train_nano.py; and the same layers with 31B's
  // kernels at a size for tests.
  rows.push_back(replknet("replknet-nano", {24, 48, 96, 128}, {13, 13, 7, 3}, 5));
  rows.back().depths = {1, 2, 1, 1};
  rows.back().feedforward_ratio = 2;
  rows.back().stem_strides = {2, 1};
  rows.back().classes = 10;
  rows.back().smallest_side = 16;
  rows.back().preprocessing = fashion_mnist;
  rows.push_back(replknet("replknet-test", {16, 32, 64, 128}, {31, 29, 27, 13}, 5));
  rows.back().depths = {1, 1, 2, 1};
  // SLaK, arXiv 2207.03620: ConvNeXt's sides times 1.3, truncated.
  rows.push_back(slak("slak-t", {3, 3, 9, 3}, {124, 249, 499, 998}));
  rows.push_back(slak("slak-s", {3, 3, 27, 3}, {124, 249, 499, 998}));
  rows.push_back(slak("slak-b", {3, 3, 27, 3}, {166, 332, 665, 1331}));
  rows.push_back(convnext("convnext-t", {3, 3, 9, 3}, 96));
  rows.push_back(convnext("convnext-s", {3, 3, 27, 3}, 96));
  rows.push_back(convnext("convnext-b", {3, 3, 27, 3}, 128));
  rows.push_back(unireplknet("unireplknet-a", {2, 2, 6, 2}, 40, 1));
  rows.push_back(unireplknet("unireplknet-f", {2, 2, 6, 2}, 48, 1));
  rows.push_back(unireplknet("unireplknet-p", {2, 2, 6, 2}, 64, 1));
  rows.push_back(unireplknet("unireplknet-n", {2, 2, 8, 2}, 80, 1));
  rows.push_back(unireplknet("unireplknet-t", {3, 3, 18, 3}, 80, 2));
  rows.push_back(unireplknet("unireplknet-s", {3, 3, 27, 3}, 96, 3));
  rows.push_back(unireplknet("unireplknet-b", {3, 3, 27, 3}, 128, 3));
  rows.push_back(unireplknet("unireplknet-l", {3, 3, 27, 3}, 192, 3));
  rows.push_back(unireplknet("unireplknet-xl", {3, 3, 27, 3}, 256, 3));
  // MobileNetV2, arXiv 1801.04381, table 2; seven groups of inverted residuals.
  rows.push_back(row_of(Family::mobilenetv2, "mobilenetv2", {1, 2, 3, 4, 3, 3, 1},
                        {16, 24, 32, 64, 96, 160, 320}, {3, 3, 3, 3, 3, 3, 3}, 0));
  return rows;
}

const std::vector<Architecture>& rows() {
  static const std::vector<Architecture> table = make_rows();
  return table;
}

std::vector<int> parse_kernels(std::string_view text, std::size_t stages, std::string_view name) {
  std::vector<int> kernels;
  for (const char *at = text.data(), *end = at + text.size();; ++at) {
    int kernel = 0;
    const auto [next, error] = std::from_chars(at, end, kernel);
    if (error != std::errc() || kernel < 1 || kernel > 63 || kernel % 2 == 0)
      fail(Status::invalid_argument,
           "model {}: k={}: kernels are odd numbers from 1 to 63, separated by commas", name, text);
    kernels.push_back(kernel);
    at = next;
    if (at == end) break;
    if (*at != ',')
      fail(Status::invalid_argument, "model {}: k={}: '{}' where a comma is wanted", name, text, *at);
  }
  if (kernels.size() == 1) kernels.resize(stages, kernels[0]);
  if (kernels.size() != stages)
    fail(Status::invalid_argument, "model {}: k={}: {} kernels; {} or 1 are wanted", name, text,
         kernels.size(), stages);
  return kernels;
}

}  // namespace

Architecture find_architecture(std::string_view name) {
  const std::string_view base = base_name(name);
  const auto found =
      std::find_if(rows().begin(), rows().end(), [&](const auto& row) { return row.name == base; });
  if (found == rows().end()) {
    std::string known;
    for (const auto& row : rows()) known += (known.empty() ? "" : ", ") + row.name;
    fail(Status::not_found, "model {}: unknown; there are {}", base.substr(0, 64), known);
  }
  Architecture architecture = *found;
  if (base.size() == name.size()) return architecture;
  const std::string_view override = name.substr(base.size() + 1);
  if (!override.starts_with("k="))
    fail(Status::invalid_argument, "model {}: '{}' after the colon; k=N or k=N,N,... is known", base,
         override.substr(0, 64));
  architecture.kernels = parse_kernels(override.substr(2, 64), architecture.depths.size(), base);
  architecture.name = name;
  return architecture;
}

std::string_view base_name(std::string_view name) {
  return name.substr(0, name.find(':'));
}

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const auto& row : rows()) names.push_back(row.name);
  return names;
}

}  // namespace replk::model
