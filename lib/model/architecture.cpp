#include "model/architecture.hpp"

#include <algorithm>
#include <charconv>
#include <set>

#include "core/error.hpp"

namespace replk::model {
namespace {

using core::fail;
using core::Status;

/// RepLKNet-XL was trained on pixels in -1..1.
constexpr Preprocessing symmetric{{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}, 320};

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

/// Of four stages, as SLaK's official code widens ConvNeXt: each side times the factor, truncated.
std::vector<int> widened(int channels, double factor) {
  std::vector<int> sides;
  for (int times : {1, 2, 4, 8}) sides.push_back(static_cast<int>(channels * times * factor));
  return sides;
}

constexpr double slak_width = 1.3;

/// channels: of the first stage at width 1, ConvNeXt's.
Architecture slak(std::string name, std::vector<int> depths, int channels) {
  Architecture row = row_of(Family::slak, std::move(name), std::move(depths), widened(channels, slak_width),
                            {51, 49, 47, 13}, 5);
  row.base_channels = channels;
  return row;
}

Architecture convnext(std::string name, std::vector<int> depths, int channels) {
  return row_of(Family::convnext, std::move(name), std::move(depths),
                {channels, 2 * channels, 4 * channels, 8 * channels}, {7, 7, 7, 7}, 0);
}

Architecture convnextv2(std::string name, std::vector<int> depths, int channels) {
  Architecture row = convnext(std::move(name), std::move(depths), channels);
  row.grn = true;
  row.layer_scale = false;
  return row;
}

/// Its ten classes; its grey three times, size x size, never cropped.
Architecture of_fashion_mnist(Architecture row, int size) {
  row.classes = 10;
  row.preprocessing = {{0.286f, 0.286f, 0.286f}, {0.353f, 0.353f, 0.353f}, size, 1.0, 1};
  return row;
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
  rows.push_back(of_fashion_mnist(replknet("replknet-nano", {24, 48, 96, 128}, {13, 13, 7, 3}, 5), 28));
  rows.back().depths = {1, 2, 1, 1};
  rows.back().feedforward_ratio = 2;
  rows.back().stem_strides = {2, 1};
  rows.back().smallest_side = 16;
  rows.push_back(replknet("replknet-test", {16, 32, 64, 128}, {31, 29, 27, 13}, 5));
  rows.back().depths = {1, 1, 2, 1};
  // SLaK, arXiv 2207.03620.
  rows.push_back(slak("slak-t", {3, 3, 9, 3}, 96));
  rows.push_back(slak("slak-s", {3, 3, 27, 3}, 96));
  rows.push_back(slak("slak-b", {3, 3, 27, 3}, 128));
  rows.push_back(slak("slak-l", {3, 3, 27, 3}, 192));
  // ConvNeXt, arXiv 2201.03545, from T on; the smaller ones are timm's.
  rows.push_back(convnext("convnext-a", {2, 2, 6, 2}, 40));
  rows.push_back(convnext("convnext-f", {2, 2, 6, 2}, 48));
  rows.push_back(convnext("convnext-p", {2, 2, 6, 2}, 64));
  rows.push_back(convnext("convnext-n", {2, 2, 8, 2}, 80));
  rows.push_back(convnext("convnext-t", {3, 3, 9, 3}, 96));
  rows.push_back(convnext("convnext-s", {3, 3, 27, 3}, 96));
  rows.push_back(convnext("convnext-b", {3, 3, 27, 3}, 128));
  rows.push_back(convnext("convnext-l", {3, 3, 27, 3}, 192));
  rows.push_back(convnext("convnext-xl", {3, 3, 27, 3}, 256));
  // ConvNeXt V2, arXiv 2301.00808; S is timm's.
  rows.push_back(convnextv2("convnextv2-a", {2, 2, 6, 2}, 40));
  rows.push_back(convnextv2("convnextv2-f", {2, 2, 6, 2}, 48));
  rows.push_back(convnextv2("convnextv2-p", {2, 2, 6, 2}, 64));
  rows.push_back(convnextv2("convnextv2-n", {2, 2, 8, 2}, 80));
  rows.push_back(convnextv2("convnextv2-t", {3, 3, 9, 3}, 96));
  rows.push_back(convnextv2("convnextv2-s", {3, 3, 27, 3}, 96));
  rows.push_back(convnextv2("convnextv2-b", {3, 3, 27, 3}, 128));
  rows.push_back(convnextv2("convnextv2-l", {3, 3, 27, 3}, 192));
  rows.push_back(convnextv2("convnextv2-h", {3, 3, 27, 3}, 352));
  // Not in the paper: trained on Fashion-MNIST by python/train_convnext.py.
  rows.push_back(of_fashion_mnist(convnextv2("convnextv2-mini", {1, 1, 2, 1}, 24), 56));
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

/// A number that is all of the text.
template <class T>
bool parse_number(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

/// Sets one option of a name; false where the family has none of this key.
bool set_option(Architecture& row, std::string_view key, std::string_view text, std::string_view name) {
  const bool replknet = row.family == Family::replknet, slak = row.family == Family::slak;
  if (key == "k") {
    row.kernels = parse_kernels(text, row.depths.size(), name);
  } else if (key == "small" && (replknet || slak)) {
    const int least = replknet ? 0 : 1;
    if (!parse_number(text, row.small_kernel) || row.small_kernel < least || row.small_kernel > 63 ||
        (row.small_kernel != 0 && row.small_kernel % 2 == 0))
      fail(Status::invalid_argument, "model {}: small={}: allowed: odd numbers from 1 to 63{}", name, text,
           replknet ? ", and 0 for none" : "");
  } else if (key == "width" && slak) {
    double width = 0;
    if (!parse_number(text, width) || !(width >= 0.1 && width <= 4))
      fail(Status::invalid_argument, "model {}: width={}: allowed: numbers from 0.1 to 4", name, text);
    row.channels = widened(row.base_channels, width);
  } else {
    return false;
  }
  return true;
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
  architecture.name = name;
  std::set<std::string_view> keys;
  for (std::size_t begin = base.size(); begin < name.size();) {
    const std::size_t end = std::min(name.find(':', begin + 1), name.size());
    const std::string_view option = name.substr(begin + 1, std::min(end - begin - 1, std::size_t{64}));
    const std::size_t equals = std::min(option.find('='), option.size());
    const std::string_view key = option.substr(0, equals);
    if (!keys.insert(key).second) fail(Status::invalid_argument, "model {}: {} is given twice", base, key);
    if (equals == option.size() || !set_option(architecture, key, option.substr(equals + 1), base))
      fail(Status::invalid_argument,
           "model {}: '{}' after the colon; k=N and k=N,N,... are known, RepLKNet has small=N, SLaK small=N "
           "and width=X",
           base, option);
    begin = end;
  }
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
