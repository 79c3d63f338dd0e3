// oneDNN's depthwise convolutions, as a well-advised user would call them: what ours is timed against.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "depthwise/algorithm.hpp"
#include "depthwise/problem/problem.hpp"

namespace replk::bench {

/// A forward_inference primitive with weights `any` and source and destination in one layout, its tensors
/// reordered before anything is timed. The destination is kept apart from the residual, so runs repeat.
class OnednnDepthwise {
 public:
  virtual ~OnednnDepthwise() = default;
  virtual const std::string& name() const = 0;            // onednn nhwc, onednn blocked, onednn nchw
  virtual const std::string& implementation() const = 0;  // brgdmm_dw:avx2, jit_dw:avx2, ref:any, none
  /// False for the reference code, which takes minutes, and where oneDNN has nothing for the layout.
  virtual bool runnable() const = 0;
  virtual double create_ms() const = 0;  // descriptor and primitive, without packing
  virtual void run() = 0;
  /// The destination of the last run, in the problem's layout and type.
  virtual void result(void* dst) const = 0;
};

/// One for each layout. The problem has one branch. weights: [channels][kernel_h][kernel_w]; tensors.dst is
/// not used. They run on `threads` threads.
std::vector<std::unique_ptr<OnednnDepthwise>> onednn_depthwise(const depthwise::Problem& problem,
                                                               std::span<const float> weights,
                                                               std::span<const float> bias,
                                                               const depthwise::Tensors& tensors,
                                                               int threads);

}  // namespace replk::bench
