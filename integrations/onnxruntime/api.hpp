// ONNX Runtime's C API, version 17, as this library uses it: errors are thrown inside and become an OrtStatus
// at the door.
#pragma once
#include <onnxruntime/onnxruntime_c_api.h>

#include <array>
#include <cstdint>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace replk_ort {

/// The oldest API that has all that is needed. A newer runtime offers it as well.
inline constexpr std::uint32_t api_version = 17;

/// A call of the API that failed: its message.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check(const OrtApi& api, OrtStatus* status);

/// Runs what may throw; what it throws becomes a status.
template <class Work>
OrtStatus* guarded(const OrtApi& api, Work work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return api.CreateStatus(ORT_FAIL, "replk: out of memory");
  } catch (const std::exception& error) {
    try {
      return api.CreateStatus(ORT_INVALID_ARGUMENT, (std::string("replk: ") + error.what()).c_str());
    } catch (...) {
      return api.CreateStatus(ORT_FAIL, "replk: out of memory");
    }
  }
}

/// Attributes and constants of a node.
class Node {
 public:
  Node(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {}
  std::size_t inputs() const;
  /// Sizes of an input as far as the graph knows them: -1 elsewhere; empty where nothing is known.
  std::vector<std::int64_t> known_sizes(std::size_t index) const;
  /// A constant fp32 input; `what` names it in an error where it is none.
  std::vector<float> constant(std::size_t index, const char* what, std::vector<std::int64_t>& sizes) const;
  std::vector<std::int64_t> integers(const char* name) const;
  std::string text(const char* name) const;

 private:
  const OrtApi& api_;
  const OrtKernelInfo* info_;
};

std::vector<std::int64_t> sizes_of(const OrtApi& api, const OrtValue* value);

}  // namespace replk_ort
