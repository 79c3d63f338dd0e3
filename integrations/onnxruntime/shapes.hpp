// What is known of the result's sizes before anything runs.
#pragma once
#include "api.hpp"

namespace replk_ort {

/// Sets the output's sizes from the input's and the weights'; names of sizes that stay are kept. Throws.
void infer_shape(const OrtApi& api, OrtShapeInferContext* context);

}  // namespace replk_ort
