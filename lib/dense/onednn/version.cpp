#include "dense/onednn/version.hpp"

#include <fmt/format.h>

#include "dense/onednn/loaded.hpp"

namespace replk::dense {

std::string onednn_version() {
  if (!onednn_available()) return "none";
  const dnnl_version_t* version = dnnl::version();
  return fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
}

}  // namespace replk::dense
