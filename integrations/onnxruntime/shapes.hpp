// What is known of the result's sizes before anything runs.
#pragma once
#include "kernel.hpp"

namespace replk_ort {

/// Sets the output's sizes from the input's and the weights', where all are known or have the name of an
/// input's. Throws.
void infer_shape(const OrtApi& api, Kind kind, OrtShapeInferContext* context);

}  // namespace replk_ort
