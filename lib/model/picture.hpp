// From a picture to a network's input, as the network's own evaluation prepares it.
#pragma once
#include "image/image.hpp"
#include "model/architecture.hpp"

namespace replk::model {

/// A square below the size from which the network warps: resized, cropped to the middle, normalised. Any
/// other size: warped. destination: [height][width][3].
void prepare_picture(const image::Image& picture, const Preprocessing& preprocessing, int height, int width,
                     float* destination);

/// Resized to exactly this size, whatever its aspect, and normalised.
void prepare_warped(const image::Image& picture, const Preprocessing& preprocessing, int height, int width,
                    float* destination);

}  // namespace replk::model
