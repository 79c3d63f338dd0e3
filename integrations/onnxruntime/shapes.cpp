#include "shapes.hpp"

#include <algorithm>
#include <memory>

#include "kernel.hpp"

namespace replk_ort {
namespace {

struct Sizes {
  std::vector<std::int64_t> values;  // -1: not known
  std::vector<std::string> names;    // "": none
};

Sizes read_input(const OrtApi& api, OrtShapeInferContext* context, std::size_t index) {
  OrtTensorTypeAndShapeInfo* info = nullptr;  // belongs to the context
  check(api, api.ShapeInferContext_GetInputTypeShape(context, index, &info));
  std::size_t rank = 0;
  check(api, api.GetDimensionsCount(info, &rank));
  Sizes sizes{std::vector<std::int64_t>(rank), std::vector<std::string>(rank)};
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

/// One output side from an input's; -1 where that is not known.
std::int64_t side(std::int64_t input, std::int64_t before, std::int64_t after, std::int64_t span,
                  std::int64_t stride) {
  return input < 0 ? -1 : replk_layer::output_side(input, before, after, span, stride);
}

}  // namespace

void infer_shape(const OrtApi& api, OrtShapeInferContext* context) {
  std::size_t count = 0;
  check(api, api.ShapeInferContext_GetInputCount(context, &count));
  if (count <= weight) throw Failure("a weight is missing");
  const Sizes in = read_input(api, context, map);
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
  const replk_layer::Map input = replk_layer::read_map(in.values, from);
  const std::vector<std::int64_t> sizes = replk_layer::sizes_of(
      {input.batch, channels[0] * channels[1], side(input.height, pads[0], pads[2], spans[0], strides[0]),
       side(input.width, pads[1], pads[3], spans[1], strides[1])},
      to, rank);
  std::vector<const char*> names(rank, "");
  names[0] = in.names[0].c_str();
  OrtTensorTypeAndShapeInfo* made = nullptr;
  check(api, api.CreateTensorTypeAndShapeInfo(&made));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> owned(
      made, api.ReleaseTensorTypeAndShapeInfo);
  check(api, api.SetDimensions(made, sizes.data(), rank));
  check(api, api.SetSymbolicDimensions(made, names.data(), rank));
  check(api, api.ShapeInferContext_SetOutputTypeShape(context, 0, made));
}

}  // namespace replk_ort
