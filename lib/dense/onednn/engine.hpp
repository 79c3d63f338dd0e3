// The process's one oneDNN engine: for lib/dense/onednn and measure/onednn.
#pragma once
#include "dense/onednn/loaded.hpp"

namespace replk::dense {

/// Held to what REPLK_MAX_ISA leaves of the CPU. Throws unsupported where oneDNN cannot be opened.
const dnnl::engine& onednn_engine();

}  // namespace replk::dense
