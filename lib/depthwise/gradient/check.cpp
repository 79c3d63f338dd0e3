#include "depthwise/gradient/check.hpp"

#include "core/error.hpp"

namespace replk::depthwise {

void check_gradient(const Problem& p) {
  const Epilogue& e = p.epilogue;
  const char* const has = e.activation != Activation::none ? "an activation"
                          : e.scale                        ? "a scale"
                          : e.residual                     ? "a residual"
                          : p.output_type() != p.type || p.type == DataType::u8
                              ? "tensors of two types, or of u8"
                              : nullptr;
  if (has)
    core::fail(core::Status::invalid_argument,
               "{} has {}; allowed: none, since a gradient is that of the convolution and its bias alone, in "
               "the type of its tensors",
               to_string(p), has);
}

}  // namespace replk::depthwise
