#include "measure/onednn/depthwise.hpp"

#include <unordered_map>
#include <utility>

#include "core/clock.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"
#include "dense/onednn/engine.hpp"
#include "measure/onednn/tensor_memory.hpp"

namespace replk::bench {
namespace {

using depthwise::Branch;
using depthwise::Problem;
using depthwise::Tensors;
using dnnl::memory;
using tag = memory::format_tag;

memory::data_type onednn_type(DataType type) {
  switch (type) {
    case DataType::bf16:
      return memory::data_type::bf16;
    case DataType::f16:
      return memory::data_type::f16;
    default:
      return memory::data_type::f32;
  }
}

memory::dims source_dims(const Problem& p) {
  return {p.batch, p.channels, p.height, p.width};
}
memory::dims result_dims(const Problem& p) {
  return {p.batch, p.channels, p.out_height(), p.out_width()};
}
tag problem_tag(const Problem& p) {
  return p.layout == Layout::nhwc ? tag::nhwc : tag::nchw;
}

class Peer final : public OnednnDepthwise {
 public:
  Peer(const Problem& p, std::string name, tag layout, std::span<const float> weights,
       std::span<const float> bias, const Tensors& tensors, int threads)
      : name_(std::move(name)),
        threads_(threads),
        stream_(dense::onednn_engine()),
        plain_dst_(result_desc(p)) {
    const core::TeamSize team(threads_);
    const double start = core::seconds();
    const auto pd = describe(p, layout);
    if (!pd) return;
    implementation_ = pd.impl_info_str();
    if (!runnable()) return;
    primitive_ = dnnl::convolution_forward(pd);
    create_ms_ = 1e3 * (core::seconds() - start);

    const Branch& b = p.branches[0];
    const memory::data_type type = onednn_type(p.type);
    const memory::desc plain_src(source_dims(p), type, problem_tag(p));
    const memory::desc plain_weights({p.channels, 1, 1, b.kernel_h, b.kernel_w}, memory::data_type::f32,
                                     tag::goihw);
    give(DNNL_ARG_SRC, plain_src, tensors.src, pd.src_desc());
    give(DNNL_ARG_WEIGHTS, plain_weights, weights.data(), pd.weights_desc());
    give(DNNL_ARG_DST, {}, nullptr, pd.dst_desc());
    give(DNNL_ARG_SCRATCHPAD, {}, nullptr, pd.scratchpad_desc());
    if (p.epilogue.bias) give(DNNL_ARG_BIAS, pd.bias_desc(), bias.data(), pd.bias_desc());
    const int last_op = p.epilogue.activation == Activation::none ? 0 : 1;
    if (p.epilogue.residual)
      give(DNNL_ARG_ATTR_MULTIPLE_POST_OP(last_op) | DNNL_ARG_SRC_1, plain_dst_, tensors.residual,
           pd.dst_desc());
  }

  const std::string& name() const override { return name_; }
  const std::string& implementation() const override { return implementation_; }
  bool runnable() const override {
    return implementation_ != "none" && implementation_.find("ref") == std::string::npos;
  }
  double create_ms() const override { return create_ms_; }

  void run() override {
    const core::TeamSize team(threads_);
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

  void result(void* dst) const override {
    dnnl::stream stream(dense::onednn_engine());
    memory from = arguments_.at(DNNL_ARG_DST), to(plain_dst_, dense::onednn_engine(), dst);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  }

 private:
  static memory::desc result_desc(const Problem& p) {
    return {result_dims(p), onednn_type(p.type), problem_tag(p)};
  }

  static dnnl::convolution_forward::primitive_desc describe(const Problem& p, tag layout) {
    const Branch& b = p.branches[0];
    const memory::data_type type = onednn_type(p.type);
    const memory::desc src(source_dims(p), type, layout), dst(result_dims(p), type, layout);
    const memory::desc weights({p.channels, 1, 1, b.kernel_h, b.kernel_w}, type, tag::any);
    const memory::desc bias =
        p.epilogue.bias ? memory::desc({p.channels}, memory::data_type::f32, tag::x) : memory::desc();
    dnnl::post_ops ops;
    if (p.epilogue.activation == Activation::relu) ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
    if (p.epilogue.activation == Activation::gelu)
      ops.append_eltwise(dnnl::algorithm::eltwise_gelu_erf, 0, 0);
    if (p.epilogue.residual) ops.append_binary(dnnl::algorithm::binary_add, dst);
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const memory::dims strides{p.stride_h, p.stride_w}, dilates{b.dilation_h - 1, b.dilation_w - 1};
    const memory::dims before{p.pad_h.before, p.pad_w.before}, after{p.pad_h.after, p.pad_w.after};
    return {dense::onednn_engine(),
            dnnl::prop_kind::forward_inference,
            dnnl::algorithm::convolution_direct,
            src,
            weights,
            bias,
            dst,
            strides,
            dilates,
            before,
            after,
            attr,
            /*allow_empty=*/true};
  }

  /// An argument in the primitive's own format, 64-byte aligned, filled from `data` where there is some.
  void give(int argument, const memory::desc& plain, const void* data, const memory::desc& wanted) {
    buffers_.push_back(tensor_memory(wanted.get_size()));
    memory target(wanted, dense::onednn_engine(), buffers_.back().data());
    if (data) {
      memory source(plain, dense::onednn_engine(), const_cast<void*>(data));
      dnnl::reorder(source, target).execute(stream_, source, target);
      stream_.wait();
    }
    arguments_.emplace(argument, target);
  }

  std::string name_, implementation_ = "none";
  int threads_;
  double create_ms_ = 0;
  dnnl::stream stream_;
  memory::desc plain_dst_;
  dnnl::primitive primitive_;
  std::vector<core::Buffer<std::byte>> buffers_;
  std::unordered_map<int, memory> arguments_;
};

}  // namespace

std::vector<std::unique_ptr<OnednnDepthwise>> onednn_depthwise(const Problem& problem,
                                                               std::span<const float> weights,
                                                               std::span<const float> bias,
                                                               const Tensors& tensors, int threads) {
  if (problem.branches.size() != 1)
    core::fail(core::Status::invalid_argument, "a oneDNN convolution has one branch, not {}",
               problem.branches.size());
  const tag blocked = core::cpu().hardware == Isa::avx512 ? tag::nChw16c : tag::nChw8c;
  std::vector<std::unique_ptr<OnednnDepthwise>> peers;
  for (const auto& [name, layout] :
       {std::pair{"onednn nhwc", tag::nhwc}, {"onednn blocked", blocked}, {"onednn nchw", tag::nchw}})
    peers.push_back(std::make_unique<Peer>(problem, name, layout, weights, bias, tensors, threads));
  return peers;
}

}  // namespace replk::bench
