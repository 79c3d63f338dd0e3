// Rows of depthwise comparisons as JSON: what a process hands to another one, a file or a user.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "measure/depthwise.hpp"

namespace replk::bench {

nlohmann::ordered_json to_json(const DepthwiseRow& row);

/// What to_json() wrote. Throws nlohmann's exceptions where anything else is read.
DepthwiseRow row_from_json(const nlohmann::ordered_json& json);

}  // namespace replk::bench
