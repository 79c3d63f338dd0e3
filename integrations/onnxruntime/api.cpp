#include "api.hpp"

#include <memory>

namespace replk_ort {
namespace {

std::vector<std::int64_t> read_sizes(const OrtApi& api, const OrtTensorTypeAndShapeInfo* info) {
  std::size_t rank = 0;
  check(api, api.GetDimensionsCount(info, &rank));
  std::vector<std::int64_t> sizes(rank);
  check(api, api.GetDimensions(info, sizes.data(), rank));
  return sizes;
}

using ShapeInfo = std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)>;

ShapeInfo shape_info(const OrtApi& api, const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api, api.GetTensorTypeAndShape(value, &info));
  return {info, api.ReleaseTensorTypeAndShapeInfo};
}

}  // namespace

void check(const OrtApi& api, OrtStatus* status) {
  if (!status) return;
  const std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw Failure(message);
}

std::size_t Node::inputs() const {
  std::size_t count = 0;
  check(api_, api_.KernelInfo_GetInputCount(info_, &count));
  return count;
}

std::vector<std::int64_t> Node::known_sizes(std::size_t index) const {
  OrtTypeInfo* type = nullptr;
  check(api_, api_.KernelInfo_GetInputTypeInfo(info_, index, &type));
  const std::unique_ptr<OrtTypeInfo, void (*)(OrtTypeInfo*)> owned(type, api_.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* shape = nullptr;  // belongs to the type
  check(api_, api_.CastTypeInfoToTensorInfo(type, &shape));
  return shape ? read_sizes(api_, shape) : std::vector<std::int64_t>{};
}

std::vector<float> Node::constant(std::size_t index, const char* what,
                                  std::vector<std::int64_t>& sizes) const {
  int constant = 0;
  const OrtValue* value = nullptr;
  check(api_, api_.KernelInfoGetConstantInput_tensor(info_, index, &constant, &value));
  if (!constant || !value) throw Failure(std::string(what) + " is no constant of the graph");
  const ShapeInfo info = shape_info(api_, value);
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  check(api_, api_.GetTensorElementType(info.get(), &type));
  if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) throw Failure(std::string(what) + " is not float32");
  sizes = read_sizes(api_, info.get());
  std::size_t count = 0;
  check(api_, api_.GetTensorShapeElementCount(info.get(), &count));
  const void* data = nullptr;
  check(api_, api_.GetTensorMutableData(const_cast<OrtValue*>(value), const_cast<void**>(&data)));
  const auto* from = static_cast<const float*>(data);
  return {from, from + count};
}

std::vector<std::int64_t> Node::integers(const char* name) const {
  std::size_t count = 0;
  check(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &count));
  std::vector<std::int64_t> values(count);
  check(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, values.data(), &count));
  return values;
}

std::string Node::text(const char* name) const {
  std::size_t length = 0;
  check(api_, api_.KernelInfoGetAttribute_string(info_, name, nullptr, &length));
  std::string word(length, '\0');
  check(api_, api_.KernelInfoGetAttribute_string(info_, name, word.data(), &length));
  while (!word.empty() && word.back() == '\0') word.pop_back();
  return word;
}

std::vector<std::int64_t> sizes_of(const OrtApi& api, const OrtValue* value) {
  return read_sizes(api, shape_info(api, value).get());
}

}  // namespace replk_ort
