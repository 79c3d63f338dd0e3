// What `replk bench` does with several shapes.
#pragma once
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/common.hpp"
#include "core/error.hpp"

namespace replk::cli {

/// Measures each problem and prints its row, or all rows as one JSON object. A wrong result is reported and
/// not timed; the other problems go on, and the exit code shows it. Other errors end it.
template <class Problem, class Measure, class ToJson, class Print>
ExitCode report_each(const std::vector<Problem>& problems, bool json, const Measure& measure,
                     const ToJson& to_json, const Print& print) {
  ExitCode code = exit_done;
  auto rows = nlohmann::ordered_json::array();
  for (const Problem& problem : problems) {
    try {
      const auto row = measure(problem);
      if (json)
        rows.push_back(to_json(row));
      else
        print(row);
    } catch (const core::Error& error) {
      if (error.status() != core::Status::internal) throw;
      report_failure(error.what());
      code = exit_failures;
    }
  }
  if (json) print_json({{"rows", rows}});
  return code;
}

}  // namespace replk::cli
