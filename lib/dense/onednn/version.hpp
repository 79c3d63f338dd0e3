// Which oneDNN this process runs.
#pragma once
#include <string>

namespace replk::dense {

/// Version of the oneDNN that is opened, such as "3.10.2"; "none" where there is none.
std::string onednn_version();

}  // namespace replk::dense
