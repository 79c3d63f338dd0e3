// The ops com.replk.Depthwise and DepthwiseAdd for ONNX Runtime, over its C API and the C API of the library
// alone. Registered by SessionOptions.register_custom_ops_library, which calls RegisterCustomOps.
#include <climits>

#include "kernel.hpp"
#include "shapes.hpp"

namespace replk_ort {
namespace {

/// One for each type of map. ONNX Runtime makes one op of those that share a name.
struct Op : OrtCustomOp {
  Kind kind;
  ONNXTensorElementDataType element;
  replk_type type;
};

const Op& self(const OrtCustomOp* op) {
  return *static_cast<const Op*>(op);
}

const OrtApi* api = nullptr;  // of the runtime that loaded this library: one a process

ONNXTensorElementDataType input_type(const OrtCustomOp* op, std::size_t index) {
  return index < Inputs(self(op).kind).bias ? self(op).element : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

OrtCustomOpInputOutputCharacteristic input_kind(const OrtCustomOp* op, std::size_t index) {
  return index == Inputs(self(op).kind).weight ? INPUT_OUTPUT_VARIADIC : INPUT_OUTPUT_REQUIRED;
}

OrtStatus* create(const OrtCustomOp* op, const OrtApi* of, const OrtKernelInfo* info, void** kernel) {
  return guarded(*of, [&] { *kernel = new Kernel(*of, info, self(op).kind, self(op).type); });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  auto& k = *static_cast<Kernel*>(kernel);
  return guarded(k.api(), [&] { k.compute(context); });
}

OrtStatus* infer(const OrtCustomOp* op, OrtShapeInferContext* context) {
  return guarded(*api, [&] { infer_shape(*api, self(op).kind, context); });
}

Op make(Kind kind, ONNXTensorElementDataType element, replk_type type) {
  Op op{};
  op.version = api_version;
  op.GetName = [](const OrtCustomOp* o) { return self(o).kind == Kind::add ? "DepthwiseAdd" : "Depthwise"; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
  op.GetInputType = input_type;
  op.GetInputTypeCount = [](const OrtCustomOp* o) { return Inputs(self(o).kind).weight + 1; };
  op.GetOutputType = [](const OrtCustomOp* o, std::size_t) { return self(o).element; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 1; };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.GetInputCharacteristic = input_kind;
  op.GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
  op.InferOutputShapeFn = infer;
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return INT_MAX; };
  op.kind = kind;
  op.element = element;
  op.type = type;
  return op;
}

/// Kept until the process ends: sessions are given a pointer to it.
OrtCustomOpDomain* domain() {
  using enum Kind;
  static Op ops[] = {make(plain, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, REPLK_F32),
                     make(plain, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, REPLK_F16),
                     make(plain, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, REPLK_BF16),
                     make(add, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, REPLK_F32),
                     make(add, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, REPLK_F16),
                     make(add, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, REPLK_BF16)};
  static OrtCustomOpDomain* const made = [] {
    OrtCustomOpDomain* d = nullptr;
    check(*api, api->CreateCustomOpDomain("com.replk", &d));
    for (Op& op : ops) check(*api, api->CustomOpDomain_Add(d, &op));
    return d;
  }();
  return made;
}

}  // namespace
}  // namespace replk_ort

extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL
RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* found = base->GetApi(replk_ort::api_version);
  if (!found) {
    // Only the first version's functions are sure to be there; they do not move.
    const OrtApi* oldest = base->GetApi(1);
    return oldest ? oldest->CreateStatus(ORT_FAIL, "replk: ONNX Runtime 1.17 or later is needed") : nullptr;
  }
  replk_ort::api = found;
  return replk_ort::guarded(
      *found, [&] { replk_ort::check(*found, found->AddCustomOpDomain(options, replk_ort::domain())); });
}
