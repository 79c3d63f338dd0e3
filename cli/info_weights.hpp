// What a file of weights holds.
#pragma once
#include <string>

#include "cli/common.hpp"

namespace replk::cli {

/// model: empty for the one that the file names. Throws not_found, bad_file or invalid_argument.
ExitCode show_weights(const std::string& file, const std::string& model, bool json);

}  // namespace replk::cli
