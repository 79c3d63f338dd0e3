// Which oneDNN this process runs.
#pragma once
#include <string>

namespace replk::dense {

/// Version of the oneDNN that is loaded, such as "3.10.2".
std::string onednn_version();

}  // namespace replk::dense
