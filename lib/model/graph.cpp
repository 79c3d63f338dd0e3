#include "model/graph.hpp"

#include <fmt/format.h>

namespace replk::model {
namespace {

using fmt::format;

/// Appends layers; each method returns the value its layer makes.
class Builder {
 public:
  explicit Builder(const Architecture& architecture) : row(architecture) { graph.values.push_back({3}); }

  const Architecture& row;
  Graph graph;

  int value(int channels, Activation activation) {
    graph.values.push_back({channels, activation != Activation::none});
    return static_cast<int>(graph.values.size()) - 1;
  }
  int channels(int v) const { return graph.values[v].channels; }

  /// The operation of the layer that is added, to be filled in.
  template <class T>
  T& add(std::string name, int src, int outputs, Activation activation) {
    Layer layer;
    layer.operation = T{};
    layer.name = std::move(name);
    layer.src = src;
    layer.inputs = channels(src);
    layer.outputs = outputs;
    layer.activation = activation;
    layer.dst = value(outputs, activation);
    graph.layers.push_back(std::move(layer));
    return last<T>();
  }
  /// The same of a layer that changes its input where it lies.
  template <class T>
  T& add_in_place(std::string name, int v) {
    T& operation = add<T>(std::move(name), v, channels(v), Activation::none);
    graph.values.pop_back();
    graph.layers.back().dst = v;
    return operation;
  }
  template <class T>
  T& last() {
    return std::get<T>(graph.layers.back().operation);
  }

  static ConvTensors conv_bn(const std::string& prefix, Shape shape) {
    return {prefix + ".conv.weight", prefix + ".conv.bias", prefix + ".bn", std::move(shape)};
  }
  static ConvTensors plain(const std::string& prefix, Shape shape) {
    return {prefix + ".weight", prefix + ".bias", "", std::move(shape)};
  }

  int linear(const std::string& name, int src, ConvTensors tensors, Activation activation,
             int residual = -1) {
    Linear& linear = add<Linear>(name, src, static_cast<int>(tensors.shape[0]), activation);
    linear.tensors = std::move(tensors);
    graph.layers.back().residual = residual;
    return graph.layers.back().dst;
  }
  int convolution(const std::string& name, int src, ConvTensors tensors, int stride, int padding,
                  Activation activation) {
    Convolution& conv = add<Convolution>(name, src, static_cast<int>(tensors.shape[0]), activation);
    conv.tensors = std::move(tensors);
    conv.stride = stride;
    conv.padding = padding;
    return graph.layers.back().dst;
  }
  /// A depthwise layer without branches yet; see branch().
  int depthwise(const std::string& name, int src, int stride, Activation activation) {
    add<Depthwise>(name, src, channels(src), activation).stride = stride;
    return graph.layers.back().dst;
  }
  /// Adds a branch to the last layer; the first is the largest.
  void branch(ConvTensors tensors, int dilation = 1) {
    Depthwise& layer = last<Depthwise>();
    layer.branches.push_back(
        {static_cast<int>(tensors.shape[2]), static_cast<int>(tensors.shape[3]), dilation, dilation});
    layer.tensors.push_back(std::move(tensors));
  }
  Shape depthwise_shape(int kernel_h, int kernel_w) {
    return {graph.layers.back().inputs, 1, kernel_h, kernel_w};
  }

  int layer_norm(const std::string& prefix, int src, Activation activation = Activation::none) {
    add<LayerNorm>(prefix, src, channels(src), activation).tensors = plain(prefix, {channels(src)});
    return graph.layers.back().dst;
  }
  int mean(const std::string& name, int src) {
    add<Mean>(name, src, channels(src), Activation::none);
    return graph.layers.back().dst;
  }
  void end_stage(int stage, int v, std::string norm = "", bool over_channels = false) {
    graph.stages[stage] = {v, std::move(norm), over_channels};
  }
  void begin_head() { graph.features_end = static_cast<int>(graph.layers.size()); }
};

// RepLKNet, arXiv 2203.06717: every convolution has its own BN; names as in the official replknet.py.
class RepLKNet : Builder {
 public:
  using Builder::Builder;

  Graph build(int classes) {
    int x = stem();
    for (int s = 0; s < 4; ++s) {
      for (int block = 0; block < row.depths[s]; ++block) {
        x = large_kernel_block(format("stages.{}.blocks.{}", s, 2 * block), x, row.kernels[s]);
        x = feedforward(format("stages.{}.blocks.{}", s, 2 * block + 1), x);
      }
      end_stage(s, x, format("stages.{}.norm", s));
      if (s < 3) x = transition(format("transitions.{}", s), x, row.channels[s + 1]);
    }
    begin_head();
    if (classes > 0) {
      // norm -> pool -> linear: both are affine and pooling is linear, so norm folds into the head.
      x = linear("head", mean("pool", x), plain("head", {classes, channels(x)}), Activation::none);
      last<Linear>().input_batch_norm = "norm";
      graph.logits = x;
    }
    return std::move(graph);
  }

 private:
  int small_depthwise(const std::string& name, int x, int stride) {
    x = depthwise(name, x, stride, Activation::relu);
    branch(conv_bn(name, depthwise_shape(3, 3)));
    return x;
  }
  int stem() {
    const int c = row.channels[0];
    int x =
        convolution("stem.0", 0, conv_bn("stem.0", {c, 3, 3, 3}), row.stem_strides[0], 1, Activation::relu);
    x = small_depthwise("stem.1", x, 1);
    x = linear("stem.2", x, conv_bn("stem.2", {c, c, 1, 1}), Activation::relu);
    return small_depthwise("stem.3", x, row.stem_strides[1]);
  }
  int transition(const std::string& prefix, int x, int c) {
    x = linear(prefix + ".0", x, conv_bn(prefix + ".0", {c, channels(x), 1, 1}), Activation::relu);
    return small_depthwise(prefix + ".1", x, 2);
  }
  int large_kernel_block(const std::string& prefix, int x, int kernel) {
    const int c = channels(x), d = static_cast<int>(c * row.depthwise_ratio);
    int y = linear(prefix + ".pw1", x, conv_bn(prefix + ".pw1", {d, c, 1, 1}), Activation::relu);
    last<Linear>().input_batch_norm = prefix + ".prelkb_bn";
    const std::string name = prefix + ".large_kernel";
    y = depthwise(name, y, 1, Activation::relu);
    branch(conv_bn(name + ".lkb_origin", depthwise_shape(kernel, kernel)));
    if (row.small_kernel > 0 && row.small_kernel <= kernel)  // beside one of its own size too
      branch(conv_bn(name + ".small_conv", depthwise_shape(row.small_kernel, row.small_kernel)));
    last<Depthwise>().merged = plain(name + ".lkb_reparam", depthwise_shape(kernel, kernel));
    return linear(prefix + ".pw2", y, conv_bn(prefix + ".pw2", {c, d, 1, 1}), Activation::none, x);
  }
  int feedforward(const std::string& prefix, int x) {
    const int c = channels(x), hidden = c * row.feedforward_ratio;
    const int y = linear(prefix + ".pw1", x, conv_bn(prefix + ".pw1", {hidden, c, 1, 1}), Activation::gelu);
    last<Linear>().input_batch_norm = prefix + ".preffn_bn";
    return linear(prefix + ".pw2", y, conv_bn(prefix + ".pw2", {c, hidden, 1, 1}), Activation::none, x);
  }
};

// What ConvNeXt drew and UniRepLKNet kept: four stages, each of a downsampling and residual blocks, then a
// head with a norm behind its pooling.
class StagedNetwork : protected Builder {
 public:
  using Builder::Builder;
  virtual ~StagedNetwork() = default;

  Graph build(int classes) {
    int x = 0;
    for (int s = 0; s < 4; ++s) {
      x = downsample(format("downsample_layers.{}", s), x, s);
      for (int block = 0; block < row.depths[s]; ++block) {
        const bool large = s != 2 || block % row.third_stage_period == 0;
        x = residual_block(format("stages.{}.{}", s, block), x, large ? row.kernels[s] : 3);
      }
      end_stage(s, x, format("norm{}", s), true);
    }
    begin_head();
    if (classes > 0) {
      x = layer_norm("norm", mean("pool", x));
      last<LayerNorm>().epsilon = row.head_norm_epsilon;
      graph.logits = linear("head", x, plain("head", {classes, channels(x)}), Activation::none);
    }
    return std::move(graph);
  }

 private:
  virtual int downsample(const std::string& prefix, int x, int stage) = 0;
  virtual int residual_block(const std::string& prefix, int x, int kernel) = 0;
};

// ConvNeXt, arXiv 2201.03545, its second version, arXiv 2301.00808, with GRN, and SLaK, arXiv 2207.03620,
// which puts three BN branches in the place of its 7x7.
class ConvNeXt : public StagedNetwork {
  using StagedNetwork::StagedNetwork;

  int downsample(const std::string& prefix, int x, int stage) override {
    const int c = row.channels[stage];
    if (stage == 0) {
      x = convolution(prefix + ".0", x, plain(prefix + ".0", {c, 3, 4, 4}), 4, 0, Activation::none);
      return layer_norm(prefix + ".1", x);
    }
    x = layer_norm(prefix + ".0", x);
    return convolution(prefix + ".1", x, plain(prefix + ".1", {c, channels(x), 2, 2}), 2, 0,
                       Activation::none);
  }
  int residual_block(const std::string& prefix, int x, int kernel) override {
    const int c = channels(x);
    int y =
        row.family == Family::slak ? stripes(prefix + ".large_kernel", x, kernel) : single(prefix, x, kernel);
    y = layer_norm(prefix + ".norm", y);
    y = linear(prefix + ".pwconv1", y, plain(prefix + ".pwconv1", {4 * c, c}), Activation::gelu);
    if (row.grn)
      add_in_place<Grn>(prefix + ".grn", y).tensors = {prefix + ".grn.gamma", "", "", {1, 1, 1, 4 * c}};
    y = linear(prefix + ".pwconv2", y, plain(prefix + ".pwconv2", {c, 4 * c}), Activation::none, x);
    if (row.grn) last<Linear>().input_offset = prefix + ".grn.beta";
    if (row.layer_scale) last<Linear>().output_scale = prefix + ".gamma";
    return y;
  }
  int single(const std::string& prefix, int x, int kernel) {
    const int y = depthwise(prefix + ".dwconv", x, 1, Activation::none);
    branch(plain(prefix + ".dwconv", depthwise_shape(kernel, kernel)));
    return y;
  }
  int stripes(const std::string& prefix, int x, int kernel) {
    const int n = row.small_kernel;
    const int y = depthwise(prefix, x, 1, Activation::none);
    branch(conv_bn(prefix + ".LoRA1", depthwise_shape(kernel, n)));
    branch(conv_bn(prefix + ".LoRA2", depthwise_shape(n, kernel)));
    if (n < kernel) branch(conv_bn(prefix + ".small_conv", depthwise_shape(n, n)));
    return y;
  }
};

// UniRepLKNet, arXiv 2311.15599: names as in the official unireplknet.py; train and deploy form.
class UniRepLKNet : public StagedNetwork {
  using StagedNetwork::StagedNetwork;

  int downsample(const std::string& prefix, int x, int stage) override {
    const int c = row.channels[stage];
    if (stage == 0) {
      x = convolution(prefix + ".0", x, plain(prefix + ".0", {c / 2, 3, 3, 3}), 2, 1, Activation::none);
      x = layer_norm(prefix + ".1", x, Activation::gelu);
      x = convolution(prefix + ".3", x, plain(prefix + ".3", {c, c / 2, 3, 3}), 2, 1, Activation::none);
      return layer_norm(prefix + ".4", x);
    }
    x = convolution(prefix + ".0", x, plain(prefix + ".0", {c, channels(x), 3, 3}), 2, 1, Activation::none);
    return layer_norm(prefix + ".1", x);
  }
  int residual_block(const std::string& prefix, int x, int kernel) override {
    const int c = channels(x), hidden = 4 * c;
    int y = kernel >= 7 ? dilated(prefix, x, kernel) : single(prefix, x, kernel);
    squeeze_excite(prefix + ".se", y);
    y = linear(prefix + ".pwconv1", y, plain(prefix + ".pwconv1.1", {hidden, c}), Activation::gelu);
    add_in_place<Grn>(prefix + ".act", y).tensors = {prefix + ".act.1.gamma", "", "", {1, 1, 1, hidden}};
    y = linear(prefix + ".pwconv2", y,
               {prefix + ".pwconv2.0.weight", prefix + ".pwconv2.0.bias", prefix + ".pwconv2.2", {c, hidden}},
               Activation::none, x);
    last<Linear>().input_offset = prefix + ".act.1.beta";
    if (row.layer_scale) last<Linear>().output_scale = prefix + ".gamma";
    last<Linear>().fused_form_lacks_affine = true;
    return y;
  }
  void squeeze_excite(const std::string& prefix, int y) {
    const int c = channels(y);
    SqueezeExcite& layer = add_in_place<SqueezeExcite>(prefix, y);
    layer.hidden = c / 4;
    layer.down = plain(prefix + ".down", {c / 4, c, 1, 1});
    layer.up = plain(prefix + ".up", {c, c / 4, 1, 1});
  }
  int single(const std::string& prefix, int x, int kernel) {
    const int y = depthwise(prefix + ".dwconv", x, 1, Activation::none);
    branch({prefix + ".dwconv.weight", prefix + ".dwconv.bias", prefix + ".norm",
            depthwise_shape(kernel, kernel)});
    return y;
  }
  int dilated(const std::string& prefix, int x, int kernel) {
    struct Dilated {
      int kernel, dilation;
    };
    static const std::vector<std::pair<int, std::vector<Dilated>>> table = {
        {17, {{5, 1}, {9, 2}, {3, 4}, {3, 5}, {3, 7}}}, {15, {{5, 1}, {7, 2}, {3, 3}, {3, 5}, {3, 7}}},
        {13, {{5, 1}, {7, 2}, {3, 3}, {3, 4}, {3, 5}}}, {11, {{5, 1}, {5, 2}, {3, 3}, {3, 4}, {3, 5}}},
        {9, {{5, 1}, {5, 2}, {3, 3}, {3, 4}}},          {7, {{5, 1}, {3, 2}, {3, 3}}},
    };
    const std::string name = prefix + ".dwconv";
    const int y = depthwise(name, x, 1, Activation::none);
    branch({name + ".lk_origin.weight", "", name + ".origin_bn", depthwise_shape(kernel, kernel)});
    for (const auto& [size, branches] : table)
      if (size == kernel)
        for (const auto [k, r] : branches)
          branch({format("{}.dil_conv_k{}_{}.weight", name, k, r), "", format("{}.dil_bn_k{}_{}", name, k, r),
                  depthwise_shape(k, k)},
                 r);
    last<Depthwise>().merged = plain(name + ".lk_origin", depthwise_shape(kernel, kernel));
    last<Depthwise>().sum_batch_norm = prefix + ".norm";
    return y;
  }
};

// MobileNetV2, arXiv 1801.04381: names as in torchvision's mobilenet_v2.
class MobileNetV2 : Builder {
 public:
  using Builder::Builder;

  Graph build(int classes) {
    int x =
        convolution("features.0", 0, sequential("features.0.0", "features.0.1", {row.stem_channels, 3, 3, 3}),
                    2, 1, Activation::relu);
    clamp("features.0.clamp", x);
    int feature = 1;
    for (std::size_t group = 0; group < row.depths.size(); ++group) {
      for (int block = 0; block < row.depths[group]; ++block, ++feature) {
        const bool halves = block == 0 && (group == 1 || group == 2 || group == 3 || group == 5);
        x = inverted_residual(format("features.{}.conv", feature), x, row.channels[group], group == 0 ? 1 : 6,
                              halves ? 2 : 1, row.kernels[group]);
      }
      // The maps of a quarter, an eighth, a sixteenth and a thirty-second of the input.
      if (group == 1 || group == 2) end_stage(static_cast<int>(group) - 1, x);
      if (group == 4 || group == 6) end_stage(static_cast<int>(group) / 2, x);
    }
    begin_head();
    if (classes > 0) {
      const std::string prefix = format("features.{}", feature);
      x = linear(prefix, x, sequential(prefix + ".0", prefix + ".1", {row.head_channels, channels(x), 1, 1}),
                 Activation::relu);
      clamp(prefix + ".clamp", x);
      x = mean("pool", x);
      graph.logits = linear("classifier", x, plain("classifier.1", {classes, channels(x)}), Activation::none);
    }
    return std::move(graph);
  }

 private:
  static constexpr int thin = 96;
  static ConvTensors sequential(const std::string& conv, const std::string& bn, Shape shape) {
    return {conv + ".weight", conv + ".bias", bn, std::move(shape)};
  }
  void clamp(const std::string& name, int x) { add_in_place<Clamp>(name, x); }
  int inverted_residual(const std::string& prefix, int x, int outputs, int expansion, int stride,
                        int kernel) {
    const int c = channels(x), hidden = c * expansion;
    int y = x, at = 0;
    if (expansion != 1) {
      y = linear(prefix + ".0", y, sequential(prefix + ".0.0", prefix + ".0.1", {hidden, c, 1, 1}),
                 Activation::relu);
      // What leaves a bottleneck is summed over few channels, whose rounding errors do not average.
      std::get<Linear>(graph.layers.back().operation).wide = c <= thin;
      clamp(prefix + ".0.clamp", y);
      at = 1;
    }
    y = depthwise(format("{}.{}", prefix, at), y, stride, Activation::relu);
    branch(sequential(format("{}.{}.0", prefix, at), format("{}.{}.1", prefix, at),
                      depthwise_shape(kernel, kernel)));
    clamp(format("{}.{}.clamp", prefix, at), y);
    return linear(
        format("{}.{}", prefix, at + 1), y,
        sequential(format("{}.{}", prefix, at + 1), format("{}.{}", prefix, at + 2), {outputs, hidden, 1, 1}),
        Activation::none, stride == 1 && c == outputs ? x : -1);
  }
};

}  // namespace

std::vector<std::string> Stage::norm_tensors() const {
  if (norm.empty()) return {};
  std::vector<std::string> names{norm + ".weight", norm + ".bias"};
  if (!over_channels) names.insert(names.end(), {norm + ".running_mean", norm + ".running_var"});
  return names;
}

Graph build_graph(const Architecture& architecture, int classes) {
  switch (architecture.family) {
    case Family::replknet:
      return RepLKNet(architecture).build(classes);
    case Family::slak:
    case Family::convnext:
      return ConvNeXt(architecture).build(classes);
    case Family::unireplknet:
      return UniRepLKNet(architecture).build(classes);
    case Family::mobilenetv2:
      return MobileNetV2(architecture).build(classes);
  }
  return {};
}

std::string head_weight(const Architecture& architecture) {
  return architecture.family == Family::mobilenetv2 ? "classifier.1.weight" : "head.weight";
}

}  // namespace replk::model
