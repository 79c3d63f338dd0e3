#include "dense/onednn_version.hpp"

#include <fmt/format.h>

#include <oneapi/dnnl/dnnl.hpp>

namespace replk::dense {

std::string onednn_version() {
  const dnnl_version_t* version = dnnl::version();
  return fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
}

}  // namespace replk::dense
