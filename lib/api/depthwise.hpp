// What a handle of the C API stands for.
#pragma once
#include <string>

#include "depthwise/plan.hpp"
#include "replk/replk.h"

struct replk_depthwise {
  replk::depthwise::Plan plan;
  std::string shape, tiling;
};
