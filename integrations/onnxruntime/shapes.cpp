#include "shapes.hpp"

#include <algorithm>
#include <memory>

namespace replk_ort {
namespace {

struct Sizes {
  std::vector<std::int64_t> values;  // -1: not known
  std::vector<std::string> names;    // "": none
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
};

Sizes read_input(const OrtApi& api, OrtShapeInferContext* context, std::size_t index) {
  OrtTensorTypeAndShapeInfo* info = nullptr;  // belongs to the context
  check(api, api.ShapeInferContext_GetInputTypeShape(context, index, &info));
  std::size_t rank = 0;
  check(api, api.GetDimensionsCount(info, &rank));
  Sizes sizes{std::vector<std::int64_t>(rank), std::vector<std::string>(rank)};
  check(api, api.GetTensorElementType(info, &sizes.type));
  std::vector<const char*> names(rank, nullptr);
  check(api, api.GetDimensions(info, sizes.values.data(), rank));
  check(api, api.GetSymbolicDimensions(info, names.data(), rank));
  for (std::size_t i = 0; i < rank; i++) sizes.names[i] = names[i] ? names[i] : "";
  return sizes;
}

const OrtOpAttr* attribute(const OrtApi& api, OrtShapeInferContext* context, const char* name) {
  const OrtOpAttr* found = nullptr;
  check(api, api.ShapeInferContext_GetAttribute(context, name, &found));
  if (!found) throw Failure(std::string("the attribute ") + name + " is missing");
  return found;
}

std::vector<std::int64_t> integers(const OrtApi& api, OrtShapeInferContext* context, const char* name) {
  const OrtOpAttr* found = attribute(api, context, name);
  // Asked for the length first: with no room it fails, and says how much it wants.
  std::size_t bytes = 0;
  if (OrtStatus* status = api.ReadOpAttr(found, ORT_OP_ATTR_INTS, nullptr, 0, &bytes))
    api.ReleaseStatus(status);
  std::vector<std::int64_t> values(bytes / sizeof(std::int64_t));
  check(api, api.ReadOpAttr(found, ORT_OP_ATTR_INTS, values.data(), bytes, &bytes));
  return values;
}

replk_layout layout(const OrtApi& api, OrtShapeInferContext* context, const char* name) {
  char word[8] = {};
  std::size_t length = 0;
  check(api,
        api.ReadOpAttr(attribute(api, context, name), ORT_OP_ATTR_STRING, word, sizeof word - 1, &length));
  return replk_layer::read_layout(word);
}

/// A size and its name, "" where it has none.
struct Side {
  std::int64_t size;
  std::string name;
};

/// An output's side from an input's.
Side side(const Side& input, std::int64_t before, std::int64_t after, std::int64_t span,
          std::int64_t stride) {
  if (input.size >= 0) return {replk_layer::output_side(input.size, before, after, span, stride), ""};
  return {-1, stride == 1 && before + after == span - 1 ? input.name : ""};
}

}  // namespace

void infer_shape(const OrtApi& api, Kind kind, OrtShapeInferContext* context) {
  const std::size_t weight = Inputs(kind).weight;
  std::size_t count = 0;
  check(api, api.ShapeInferContext_GetInputCount(context, &count));
  if (count <= weight) throw Failure("a weight is missing");
  const Sizes in = read_input(api, context, Inputs(kind).map);
  const std::size_t rank = in.values.size();
  if (rank != 3 && rank != 4) return;  // not known, or refused when the session is made
  const auto strides = integers(api, context, "strides"), pads = integers(api, context, "pads"),
             dilations = integers(api, context, "dilations"), channels = integers(api, context, "channels");
  if (strides.size() != 2 || pads.size() != 4 || dilations.size() != 2 * (count - weight) ||
      channels.size() != 2 || strides[0] < 1 || strides[1] < 1)
    return;  // refused when the session is made
  std::int64_t spans[2] = {};
  for (std::size_t i = weight; i < count; i++) {
    const Sizes kernel = read_input(api, context, i);
    if (kernel.values.size() != 4) return;
    for (std::size_t axis = 0; axis < 2; axis++)
      spans[axis] =
          std::max(spans[axis], dilations[2 * (i - weight) + axis] * (kernel.values[2 + axis] - 1) + 1);
  }
  const replk_layout from = layout(api, context, "input_layout"), to = layout(api, context, "output_layout");
  const auto input = [&](std::size_t channels_first, std::size_t channels_last) {
    const std::size_t axis = from == REPLK_NCHW ? channels_first : channels_last;
    return Side{in.values[axis], in.names[axis]};
  };
  const Side height = rank == 3 ? Side{1, ""} : side(input(2, 1), pads[0], pads[2], spans[0], strides[0]);
  const Side width = side(input(rank - 1, rank - 2), pads[1], pads[3], spans[1], strides[1]);
  std::vector<Side> all{{in.values[0], in.names[0]}, {channels[0] * channels[1], ""}, height, width};
  if (rank == 3) all.erase(all.begin() + 2);
  if (to == REPLK_NHWC) std::rotate(all.begin() + 1, all.begin() + 2, all.end());
  std::vector<std::int64_t> sizes;
  std::vector<const char*> names;
  for (const Side& s : all) {
    if (s.size < 0 && s.name.empty()) return;  // a size without a name would be taken for one of -1
    sizes.push_back(s.size);
    names.push_back(s.name.c_str());
  }
  OrtTensorTypeAndShapeInfo* made = nullptr;
  check(api, api.CreateTensorTypeAndShapeInfo(&made));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> owned(
      made, api.ReleaseTensorTypeAndShapeInfo);
  check(api, api.SetTensorElementType(made, in.type));
  check(api, api.SetDimensions(made, sizes.data(), rank));
  check(api, api.SetSymbolicDimensions(made, names.data(), rank));
  check(api, api.ShapeInferContext_SetOutputTypeShape(context, 0, made));
}

}  // namespace replk_ort
