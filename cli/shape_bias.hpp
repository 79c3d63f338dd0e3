// Whether a network goes by shape or by texture.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cli/categories.hpp"
#include "cli/common.hpp"
#include "cli/network.hpp"

namespace replk::cli {

/// Of the images whose shape and texture are of two categories: how many were decided for either.
struct ShapeBias {
  std::int64_t images = 0, shape = 0, texture = 0, failed = 0;
  std::int64_t agreeing = 0;  // images of one category in both, which say nothing and are left out

  /// shape / (shape + texture); NaN where neither was chosen.
  double value() const;
};

/// Of the pictures in a folder, at any depth, named as those of Geirhos et al.: cat7-elephant1.png has the
/// shape of a cat and an elephant's texture. Throws bad_file where a name says nothing, or a category that
/// there is not.
ShapeBias shape_bias(LoadedNetwork& network, const std::string& folder, Size size, int batch);

}  // namespace replk::cli
