// What the C API is given of a depthwise problem and of a run, read and checked.
#pragma once
#include <array>
#include <cstddef>
#include <span>

#include "depthwise/problem/problem.hpp"
#include "replk/replk.h"

namespace replk::api {

/// Throws invalid_argument, naming the field.
depthwise::Problem read_problem(const replk_depthwise_problem* given);

/// The spans of a caller's weights; allocates nothing.
struct Given {
  std::array<std::span<const float>, 16> all;
  std::size_t count = 0;
  std::span<const float> bias;

  Given(const depthwise::Problem& problem, const float* const* weights, const float* given_bias);
  std::span<const std::span<const float>> branches() const { return {all.data(), count}; }
};

/// Of a run that needs so many bytes. Throws invalid_argument.
void check_workspace(std::size_t needed, const void* workspace, std::size_t bytes);

/// The same of all that is asked of a run; the defaults where nothing is given.
replk_run_options read_run_options(const replk_run_options* given, std::size_t needed);

}  // namespace replk::api
