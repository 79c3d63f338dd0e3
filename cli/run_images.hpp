// A network over images on disk, for what is judged of each.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "cli/common.hpp"
#include "cli/dataset.hpp"
#include "model/network.hpp"

namespace replk::cli {

/// Images are read on all threads and run in batches of one size, so that one plan serves all. judge: is
/// given each image's index and logits, in the order of `chosen`; those that cannot be read are reported
/// instead, and counted: how many they are is returned.
std::int64_t run_images(model::Network& network, const Dataset& dataset,
                        const std::vector<std::int64_t>& chosen, Size size, int batch,
                        const std::function<void(std::int64_t index, const float* logits)>& judge);

}  // namespace replk::cli
