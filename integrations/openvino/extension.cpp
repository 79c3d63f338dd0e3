// com.replk.Depthwise and DepthwiseAdd for OpenVINO's C++ API, whose ABI changes with every release: so this
// is compiled where it is used, against the installed package (python/replk/openvino/_build.py).
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/frontend/onnx/extension/conversion.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/op.hpp>
#include <string>
#include <utility>
#include <vector>

#include "../layer/layer.hpp"

namespace replk_openvino {

using replk_layer::Layer;
using replk_layer::Map;

/// What the op's attributes say, as ONNX holds them.
struct Attributes {
  std::vector<std::int64_t> channels, strides, pads, dilations;
  std::string activation, input_layout, output_layout, numerics;
};

/// What a fixed number of values is read into; more or fewer are an error.
template <std::size_t n>
std::array<std::int64_t, n> fixed(const char* name, const std::vector<std::int64_t>& values) {
  OPENVINO_ASSERT(values.size() == n, "replk: ", name, " has ", values.size(), " values; allowed: ", n);
  std::array<std::int64_t, n> result;
  std::copy(values.begin(), values.end(), result.begin());
  return result;
}

class Depthwise : public ov::op::Op {
 public:
  OPENVINO_OP("Depthwise", "com.replk")

  Depthwise() = default;
  Depthwise(const ov::OutputVector& inputs, Attributes attributes, bool add)
      : Op(inputs), attributes_(std::move(attributes)), add_(add) {
    constructor_validate_and_infer_types();
  }

  void validate_and_infer_types() override {
    const auto type = get_input_element_type(0);
    OPENVINO_ASSERT(type.is_dynamic() || type == ov::element::f32 || type == ov::element::bf16 ||
                        type == ov::element::f16,
                    "replk: the input is ", type, "; allowed: f32, bf16, f16");
    set_output_type(0, type, sizes(get_input_partial_shape(0)));
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<Depthwise>(inputs, attributes_, add_);
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visitor.on_attribute("channels", attributes_.channels);
    visitor.on_attribute("strides", attributes_.strides);
    visitor.on_attribute("pads", attributes_.pads);
    visitor.on_attribute("dilations", attributes_.dilations);
    visitor.on_attribute("activation", attributes_.activation);
    visitor.on_attribute("input_layout", attributes_.input_layout);
    visitor.on_attribute("output_layout", attributes_.output_layout);
    visitor.on_attribute("numerics", attributes_.numerics);
    visitor.on_attribute("add", add_);
    return true;
  }

  bool has_evaluate() const override { return true; }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    Layer& layer = prepared(inputs);
    const replk_layer::Description& d = layer.description();
    const ov::Shape shape = inputs[0].get_shape();
    const std::vector<std::int64_t> from(shape.begin(), shape.end());
    const Map input = replk_layer::read_map(from, d.input), output = layer.output(input);
    const std::vector<std::int64_t> to = replk_layer::sizes_of(output, d.output, from.size());
    const ov::Shape result(to.begin(), to.end());
    outputs[0].set_shape(result);
    if (add_)
      OPENVINO_ASSERT(inputs[1].get_shape() == result, "replk: the residual is ", inputs[1].get_shape(),
                      ", the result ", result);
    if (ov::shape_size(result) == 0) return true;
    const Layer::Plan plan = layer.plan(input, tbb::this_task_arena::max_concurrency());
    replk_run_options options = replk_run_options_default();
    options.batch = input.batch;
    options.pool = [](int count, replk_task task, void* context, void*) {
      tbb::parallel_for(0, count, [&](int i) { task(i, context); });
    };
    const replk_status status =
        replk_depthwise_run_with(plan.get(), std::as_const(inputs[0]).data(), outputs[0].data(),
                                 add_ ? std::as_const(inputs[1]).data() : nullptr, &options);
    OPENVINO_ASSERT(status == REPLK_OK, "replk: ", replk_last_error());
    return true;
  }

 private:
  std::size_t first_weight() const { return add_ ? 4 : 3; }

  ov::PartialShape sizes(const ov::PartialShape& input) const {
    if (input.rank().is_dynamic()) return ov::PartialShape::dynamic();
    const std::size_t rank = input.size();
    OPENVINO_ASSERT(rank == 3 || rank == 4, "replk: the input has ", rank, " dimensions; allowed: 3 or 4");
    const auto strides = fixed<2>("strides", attributes_.strides),
               channels = fixed<2>("channels", attributes_.channels);
    const auto pads = fixed<4>("pads", attributes_.pads);
    const bool last = replk_layer::read_layout(attributes_.input_layout) == REPLK_NHWC;
    std::vector<ov::Dimension> sides;
    for (std::size_t axis = 0; axis < 2; axis++) {
      if (rank == 3 && axis == 0) continue;
      const ov::Dimension& side = input[rank - 2 + axis - (last ? 1 : 0)];
      std::int64_t span = 0;
      for (std::size_t i = first_weight(); i < get_input_size(); i++) {
        const ov::PartialShape& kernel = get_input_partial_shape(i);
        OPENVINO_ASSERT(kernel.is_static() && kernel.size() == 4 &&
                            attributes_.dilations.size() == 2 * (get_input_size() - first_weight()),
                        "replk: a weight must be [outputs, 1, rows, columns], dilations two a weight");
        span = std::max(
            span,
            attributes_.dilations[2 * (i - first_weight()) + axis] * (kernel[2 + axis].get_length() - 1) + 1);
      }
      OPENVINO_ASSERT(strides[axis] >= 1, "replk: a stride is ", strides[axis], "; allowed: 1 to 16");
      sides.push_back(side.is_dynamic()
                          ? ov::Dimension::dynamic()
                          : ov::Dimension(replk_layer::output_side(side.get_length(), pads[axis],
                                                                   pads[axis + 2], span, strides[axis])));
    }
    std::vector<ov::Dimension> all{input[0]};
    const bool to_last = replk_layer::read_layout(attributes_.output_layout) == REPLK_NHWC;
    if (!to_last) all.push_back(channels[0] * channels[1]);
    all.insert(all.end(), sides.begin(), sides.end());
    if (to_last) all.push_back(channels[0] * channels[1]);
    return ov::PartialShape(all);
  }

  /// Made of the constants at the first run: a runtime may move or convert them until then.
  Layer& prepared(const ov::TensorVector& inputs) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (layer_) return *layer_;
    const auto values = [&](std::size_t at) {
      const ov::Tensor& t = inputs[at];
      OPENVINO_ASSERT(t.get_element_type() == ov::element::f32, "replk: a constant is ", t.get_element_type(),
                      "; allowed: f32");
      const float* from = t.data<const float>();
      return std::vector<float>(from, from + t.get_size());
    };
    replk_layer::Description d;
    const auto channels = fixed<2>("channels", attributes_.channels);
    OPENVINO_ASSERT(channels[0] >= 1 && channels[0] < (1 << 30) && channels[1] >= 1 && channels[1] <= 4,
                    "replk: channels must be 1 or more, and 1 to 4 outputs of each");
    d.channels = static_cast<std::int32_t>(channels[0]);
    d.channel_multiplier = static_cast<std::int32_t>(channels[1]);
    d.strides = fixed<2>("strides", attributes_.strides);
    d.pads = fixed<4>("pads", attributes_.pads);
    d.activation = replk_layer::read_activation(attributes_.activation);
    d.input = replk_layer::read_layout(attributes_.input_layout);
    d.output = replk_layer::read_layout(attributes_.output_layout);
    d.numerics = replk_layer::read_numerics(attributes_.numerics);
    d.residual = add_;
    const ov::element::Type type = inputs[0].get_element_type();
    d.type = type == ov::element::f32 ? REPLK_F32 : type == ov::element::bf16 ? REPLK_BF16 : REPLK_F16;
    const std::size_t outputs = static_cast<std::size_t>(channels[0] * channels[1]);
    d.bias = values(first_weight() - 2);
    d.scale = values(first_weight() - 1);
    OPENVINO_ASSERT(d.bias.size() == outputs && d.scale.size() == outputs, "replk: bias and scale must be [",
                    outputs, "]");
    if (std::all_of(d.scale.begin(), d.scale.end(), [](float v) { return v == 1; })) d.scale.clear();
    for (std::size_t i = first_weight(); i < inputs.size(); i++) {
      const ov::Shape s = inputs[i].get_shape();
      const std::size_t b = 2 * (i - first_weight());
      OPENVINO_ASSERT(s.size() == 4 && s[0] == outputs && s[1] == 1 && s[2] <= 127 && s[3] <= 127 &&
                          b + 1 < attributes_.dilations.size(),
                      "replk: a weight must be [", outputs, ", 1, to 127, to 127]");
      d.weights.push_back(values(i));
      d.branches.push_back({static_cast<std::int32_t>(s[2]), static_cast<std::int32_t>(s[3]),
                            static_cast<std::int32_t>(attributes_.dilations[b]),
                            static_cast<std::int32_t>(attributes_.dilations[b + 1])});
    }
    layer_ = std::make_unique<Layer>(std::move(d));
    return *layer_;
  }

  Attributes attributes_;
  bool add_ = false;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Layer> layer_;
};

std::shared_ptr<ov::Extension> conversion(const char* name, bool add) {
  return std::make_shared<ov::frontend::onnx::ConversionExtension>(
      name, "com.replk", [add](const ov::frontend::NodeContext& node) -> ov::OutputVector {
        ov::OutputVector inputs;
        for (std::size_t i = 0; i < node.get_input_size(); i++)
          inputs.push_back(node.get_input(static_cast<int>(i)));
        using Integers = std::vector<std::int64_t>;
        const Attributes attributes{node.get_attribute<Integers>("channels"),
                                    node.get_attribute<Integers>("strides"),
                                    node.get_attribute<Integers>("pads"),
                                    node.get_attribute<Integers>("dilations"),
                                    node.get_attribute<std::string>("activation"),
                                    node.get_attribute<std::string>("input_layout"),
                                    node.get_attribute<std::string>("output_layout"),
                                    node.get_attribute<std::string>("numerics")};
        OPENVINO_ASSERT(inputs.size() > (add ? 4U : 3U), "replk: a weight is missing");
        return std::make_shared<Depthwise>(inputs, attributes, add)->outputs();
      });
}

}  // namespace replk_openvino

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>({
    std::make_shared<ov::OpExtension<replk_openvino::Depthwise>>(),
    replk_openvino::conversion("Depthwise", false),
    replk_openvino::conversion("DepthwiseAdd", true),
}));
