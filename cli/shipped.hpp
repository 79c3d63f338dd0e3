// The trained weights that come with the program.
#pragma once
#include <string>

#include "model/architecture.hpp"

namespace replk::cli {

/// The weight file of a network that ships with the program; empty where there is none. It is looked for in
/// share/replk/models beside the directory of the program where that is installed, and in models/ beside a
/// program in its build tree.
std::string shipped_weights(const model::Architecture& architecture);

}  // namespace replk::cli
