// Networks as data: one row a network. A row is turned into layers by graph.hpp, which knows families, not
// networks.
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace replk::model {

enum class Family { replknet, slak, convnext, unireplknet, mobilenetv2 };

/// How an image becomes an input, as the official repositories evaluate (PIL bicubic on 8-bit RGB, then /
/// 255).
struct Preprocessing {
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f}, std{0.229f, 0.224f, 0.225f};  // of RGB in 0..1
  int size = 224;  // the default input, a square of this side
  double crop_fraction =
      0.875;            // below warp_from: short side to int(size / crop_fraction), then the central crop
  int warp_from = 384;  // from this size on: resized to size x size, no crop

  bool warps(int input_size) const { return input_size >= warp_from; }
  /// The short side after resizing where it does not warp.
  int resized_short_side(int input_size) const { return static_cast<int>(input_size / crop_fraction); }
};

/// Four stages (MobileNetV2: its seven groups of blocks) of depths[s] blocks with channels[s] channels each.
struct Architecture {
  std::string name;  // as docs/models.md spells it, options included: replknet-31b:k=3,3,3,3
  Family family = Family::replknet;
  std::vector<int> depths;
  std::vector<int> channels;
  std::vector<int> kernels;  // of the large depthwise convolution, one a stage
  int small_kernel = 0;      // of the parallel small one (SLaK: also the short side of the stripes); 0: none
  int base_channels = 0;     // of SLaK's first stage at width 1
  bool grn = false;          // of ConvNeXt: V2, which has it between its pointwise layers and no layer scale
  bool layer_scale =
      true;  // of ConvNeXt, SLaK and UniRepLKNet; a file may lack it (as_stored in network.hpp)
  double head_norm_epsilon = 1e-6;  // of their last norm; transformers' differs, and its files say so
  double depthwise_ratio = 1;       // channels of RepLKNet's depthwise convolution over those of the stage
  int feedforward_ratio = 4;        // hidden channels over those of the stage
  std::array<int, 2> stem_strides{2, 2};  // of RepLKNet's first and last layer before the first stage
  /// UniRepLKNet: in its third stage one block in so many has the large kernel, the others 3x3.
  int third_stage_period = 1;
  int stem_channels = 32, head_channels = 1280;  // of MobileNetV2
  int classes = 1000;
  int smallest_side = 32;  // of an input
  Preprocessing preprocessing;
};

/// The architecture of a name, `replknet-31b`, or with options behind colons, each once:
///   k=N or k=N,N,...   the large kernels, one for all stages or one a stage
///   small=N            RepLKNet's parallel kernel (0: none), or the short side of SLaK's stripes
///   width=X            SLaK's channels over those of ConvNeXt, truncated; 1.3 unless given
/// Throws not_found (naming the names there are) or invalid_argument (an option that the family has not, a
/// kernel that is even or outside 1..63, a wrong number of them).
Architecture find_architecture(std::string_view name);

/// A name without its options: `replknet-31b` of `replknet-31b:k=3`.
std::string_view base_name(std::string_view name);

/// All names, in the order of the table.
std::vector<std::string> architecture_names();

}  // namespace replk::model
