#include "dense/onednn/primitives.hpp"

#include <algorithm>
#include <array>
#include <mutex>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "core/cpu.hpp"
#include "core/features.hpp"
#include "core/threads.hpp"
#include "dense/constants.hpp"
#include "dense/onednn/engine.hpp"

namespace replk::dense {
namespace {

using dnnl::memory;
using tag = memory::format_tag;
constexpr auto f32 = memory::data_type::f32;

/// How a primitive names the weights' dimensions.
enum class Role {
  convolution,    // {outputs, inputs, kernel_h, kernel_w}
  matmul,         // {inputs, outputs}
  inner_product,  // {outputs, inputs}
};

/// The plain form of weights as a primitive with this role describes it.
memory::desc plain_form(const PackedWeights& w, Role role) {
  switch (role) {
    case Role::matmul:
      return {{w.inputs(), w.outputs()}, f32, tag::ba};
    case Role::inner_product:
      return {{w.outputs(), w.inputs()}, f32, tag::ab};
    case Role::convolution:
      break;
  }
  return {{w.outputs(), w.inputs(), w.kernel_h(), w.kernel_w()}, f32, tag::acdb};
}

/// What a primitive wants its weights to be.
class Reordered final : public PackedForm {
 public:
  Reordered(memory::desc plain, memory::desc packed) : plain_(std::move(plain)), packed_(std::move(packed)) {}

  bool same(const PackedForm& other) const override {
    const auto* const reordered = dynamic_cast<const Reordered*>(&other);
    return reordered && reordered->plain_ == plain_ && reordered->packed_ == packed_;
  }
  std::size_t floats() const override { return packed_.get_size() / sizeof(float); }
  // What is zeroed stays so: a primitive may read the padding of a packed form as weights.
  void pack(const core::Buffer<float>& plain, core::Buffer<float>& packed, int threads) const override {
    reorder(plain_, plain, packed_, packed, threads);
  }
  void unpack(const core::Buffer<float>& packed, core::Buffer<float>& plain, int threads) const override {
    reorder(packed_, packed, plain_, plain, threads);
  }

 private:
  static void reorder(const memory::desc& from, const core::Buffer<float>& source, const memory::desc& to,
                      core::Buffer<float>& target, int threads) {
    const core::TeamSize team(threads);
    dnnl::stream stream(onednn_engine());
    memory src(from, onednn_engine(), const_cast<float*>(source.data()));
    memory dst(to, onednn_engine(), target.data());
    dnnl::reorder(src, dst).execute(stream, src, dst);
    stream.wait();
  }

  memory::desc plain_, packed_;
};

PackedWeights::Form pack(PackedWeights& weights, Role role, const memory::desc& wanted, int threads) {
  const memory::desc plain = plain_form(weights, role);
  return wanted == plain ? weights.plain(threads)
                         : weights.packed(std::make_shared<Reordered>(plain, wanted), threads);
}

/// A primitive that computes a layer, with the descriptors of what it takes.
struct Found {
  std::string implementation;
  Role role;
  memory::desc src, weights, bias, dst, scratchpad;
  dnnl::primitive primitive;
};

/// A walk over the primitives that can compute a layer: collects their texts, and creates the one that is
/// wanted.
struct Walk {
  std::string wanted;
  std::vector<std::string> texts;
  std::optional<Found> found;

  template <class Primitive, class Descriptor>
  void operator()(Descriptor pd, std::string_view name, Role role) {
    if (!pd) return;
    do {
      const std::string implementation = pd.impl_info_str();
      // The reference code ends the list: a thousand times slower, nobody wants to wait for it.
      if (implementation.find("ref") != std::string::npos) return;
      texts.push_back("onednn primitive=" + std::string(name) + " implementation=" + implementation);
      if (texts.back() != wanted || found) continue;
      found = {implementation,       role, pd.src_desc(), pd.weights_desc(), {}, pd.dst_desc(),
               pd.scratchpad_desc(), {}};
      if constexpr (requires { pd.bias_desc(); }) found->bias = pd.bias_desc();
      found->primitive = Primitive(pd);
    } while (pd.next_impl());
  }
};

dnnl::primitive_attr attributes(Activation activation, bool residual) {
  dnnl::post_ops ops;
  if (activation == Activation::relu) ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
  if (activation == Activation::gelu) ops.append_eltwise(dnnl::algorithm::eltwise_gelu_erf, 0, 0);
  if (residual) ops.append_sum(1);
  dnnl::primitive_attr attr;
  attr.set_post_ops(ops);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

void walk(const Linear& l, Walk& visit) {
  const dnnl::engine& engine = onednn_engine();
  const dnnl::primitive_attr attr = attributes(l.activation, l.residual);
  constexpr auto inference = dnnl::prop_kind::forward_inference;
  const memory::desc none;
  {
    // Channels-last pixels in one row: how they are spread over height, width and batch changes nothing for
    // the implementations that are fast.
    const memory::desc src({1, l.inputs, 1, l.rows}, f32, tag::nhwc),
        dst({1, l.outputs, 1, l.rows}, f32, tag::nhwc);
    const memory::desc weights({l.outputs, l.inputs, 1, 1}, f32, tag::any), bias({l.outputs}, f32, tag::x);
    visit.operator()<dnnl::convolution_forward>(
        dnnl::convolution_forward::primitive_desc(engine, inference, dnnl::algorithm::convolution_direct, src,
                                                  weights, l.bias ? bias : none, dst, {1, 1}, {0, 0}, {0, 0},
                                                  attr, true),
        "convolution", Role::convolution);
  }
  const memory::desc src({l.rows, l.inputs}, f32, tag::ab), dst({l.rows, l.outputs}, f32, tag::ab);
  {
    const memory::desc weights({l.inputs, l.outputs}, f32, tag::any), bias({1, l.outputs}, f32, tag::ab);
    visit.operator()<dnnl::matmul>(
        dnnl::matmul::primitive_desc(engine, src, weights, l.bias ? bias : none, dst, attr, true), "matmul",
        Role::matmul);
  }
  {
    const memory::desc weights({l.outputs, l.inputs}, f32, tag::any), bias({l.outputs}, f32, tag::x);
    visit.operator()<dnnl::inner_product_forward>(
        dnnl::inner_product_forward::primitive_desc(engine, inference, src, weights, l.bias ? bias : none,
                                                    dst, attr, true),
        "inner_product", Role::inner_product);
  }
}

void walk(const Convolution& c, Walk& visit) {
  const memory::desc src({c.batch, c.inputs, c.height, c.width}, f32, tag::nhwc);
  const memory::desc dst({c.batch, c.outputs, c.out_height(), c.out_width()}, f32, tag::nhwc);
  const memory::desc weights({c.outputs, c.inputs, c.kernel_h, c.kernel_w}, f32, tag::any);
  const memory::desc bias = c.bias ? memory::desc({c.outputs}, f32, tag::x) : memory::desc();
  visit.operator()<dnnl::convolution_forward>(
      dnnl::convolution_forward::primitive_desc(onednn_engine(), dnnl::prop_kind::forward_inference,
                                                dnnl::algorithm::convolution_direct, src, weights, bias, dst,
                                                {c.stride_h, c.stride_w}, {c.pad_h, c.pad_w},
                                                {c.pad_h, c.pad_w}, attributes(c.activation, false), true),
      "convolution", Role::convolution);
}

class OnednnEngine final : public Engine {
 public:
  OnednnEngine(Found found, PackedWeights& weights, std::int64_t dst_elements, int threads)
      : found_(std::move(found)),
        weights_(pack(weights, found_.role, found_.weights, threads)),
        bias_(&weights.bias()),
        dst_elements_(dst_elements),
        threads_(threads) {
    release(acquire());  // the first run allocates nothing either
  }

  std::string implementation() const override { return found_.implementation; }
  std::size_t scratch_bytes() const override { return found_.scratchpad.get_size(); }

  void run(const LinearRun& r) const override {
    if (r.residual && r.residual != r.dst) {
      constexpr std::int64_t chunk = constants.copied;
      core::parallel_for((dst_elements_ + chunk - 1) / chunk, threads_, [&](std::int64_t i, int) {
        const std::int64_t begin = i * chunk, end = std::min(dst_elements_, begin + chunk);
        std::copy(r.residual + begin, r.residual + end, r.dst + begin);
      });
    }
    const core::TeamSize team(threads_);
    std::unique_ptr<Arguments> a = acquire();
    a->src.set_data_handle(const_cast<float*>(r.src.as<float>()));
    a->dst.set_data_handle(r.dst);
    a->scratchpad.set_data_handle(r.scratch);
    const std::array<dnnl_exec_arg_t, 5> arguments{{{DNNL_ARG_SRC, a->src.get()},
                                                    {DNNL_ARG_WEIGHTS, a->weights.get()},
                                                    {DNNL_ARG_DST, a->dst.get()},
                                                    {DNNL_ARG_SCRATCHPAD, a->scratchpad.get()},
                                                    {DNNL_ARG_BIAS, a->bias ? a->bias.get() : nullptr}}};
    const dnnl_status_t status =
        dnnl_primitive_execute(found_.primitive.get(), a->stream.get(), a->bias ? 5 : 4, arguments.data());
    release(std::move(a));
    if (status != dnnl_success)
      core::fail(core::Status::internal, "oneDNN failed to run {}", found_.implementation);
  }

 private:
  /// oneDNN binds pointers to objects, so concurrent runs each take a set of their own; sets are kept and
  /// used again.
  struct Arguments {
    memory src, weights, bias, dst, scratchpad;
    dnnl::stream stream;
  };

  std::unique_ptr<Arguments> acquire() const {
    {
      std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Arguments> last = std::move(idle_.back());
        idle_.pop_back();
        return last;
      }
    }
    const dnnl::engine& engine = onednn_engine();
    auto a = std::make_unique<Arguments>();
    a->src = memory(found_.src, engine, nullptr);
    a->dst = memory(found_.dst, engine, nullptr);
    a->scratchpad = memory(found_.scratchpad, engine, nullptr);
    a->weights = memory(found_.weights, engine, const_cast<float*>(weights_->data()));
    if (bias_->size() > 0) a->bias = memory(found_.bias, engine, const_cast<float*>(bias_->data()));
    a->stream = dnnl::stream(engine);
    return a;
  }

  void release(std::unique_ptr<Arguments> arguments) const noexcept try {
    std::lock_guard lock(mutex_);
    idle_.push_back(std::move(arguments));
  } catch (const std::bad_alloc&) {  // no memory to remember them: they are freed instead
  }

  Found found_;
  PackedWeights::Form weights_;
  const core::Buffer<float>* bias_;
  std::int64_t dst_elements_;
  int threads_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Arguments>> idle_;
};

/// The best of a list without measuring. On AVX2 the older 1x1 kernel reaches the peak on every shape that
/// networks have, where brgemm does not (long reductions); it takes every k x k it can as well.
void analytic_first(std::vector<std::string>& texts) {
  if (core::cpu().isa != Isa::avx2) return;
  const auto best =
      std::find(texts.begin(), texts.end(), "onednn primitive=convolution implementation=jit_1x1:avx2");
  if (best != texts.end()) std::rotate(texts.begin(), best, best + 1);
}

template <class Layer>
std::vector<std::string> choices(const Layer& layer, int threads) {
  if (!onednn_available()) return {};
  const core::TeamSize team(threads);
  Walk list;
  walk(layer, list);
  // What was written for a lower instruction set is never the fastest; where it is all there is, it stays.
  const auto lower = [](const std::string& text) { return text.find("sse41") != std::string::npos; };
  if (!std::all_of(list.texts.begin(), list.texts.end(), lower)) std::erase_if(list.texts, lower);
  analytic_first(list.texts);
  return list.texts;
}

template <class Layer>
std::unique_ptr<Engine> make(const Layer& layer, PackedWeights& weights, const std::string& choice,
                             int threads, std::int64_t dst_elements) {
  if (!onednn_available()) return nullptr;
  const core::TeamSize team(threads);
  Walk pick;
  pick.wanted = choice;
  walk(layer, pick);
  if (!pick.found) return nullptr;
  return std::make_unique<OnednnEngine>(std::move(*pick.found), weights, dst_elements, team.size());
}

/// Holds oneDNN to a set of features. Before the first primitive; a refusal is no error: less than the
/// machine has is for tests.
void hold_to(Features left) {
  dnnl_cpu_isa_t isa = dnnl_cpu_isa_sse41;
  if (left.has(Feature::avx2)) isa = dnnl_cpu_isa_avx2;
  if (left.has(Feature::avx2 | Feature::avx_vnni)) isa = dnnl_cpu_isa_avx2_vnni;
  if (left.has(Feature::avx2 | Feature::avx512)) isa = dnnl_cpu_isa_avx512_core;
  if (left.has(Feature::avx512 | Feature::avx512_vnni)) isa = dnnl_cpu_isa_avx512_core_vnni;
  if (left.has(Feature::avx512_vnni | Feature::avx512_bf16)) isa = dnnl_cpu_isa_avx512_core_bf16;
  dnnl_set_max_cpu_isa(isa);
}

}  // namespace

const dnnl::engine& onednn_engine() {
  static const dnnl::engine engine = [] {
    const Features left = core::hardware_features() & core::allowed_features();
    if (left != core::hardware_features()) hold_to(left);
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return engine;
}

std::vector<std::string> onednn_choices(const Linear& linear, int threads) {
  return choices(linear, threads);
}

std::unique_ptr<Engine> onednn_linear(const Linear& linear, PackedWeights& weights, const std::string& choice,
                                      int threads) {
  return make(linear, weights, choice, threads, linear.rows * linear.outputs);
}

std::vector<std::string> onednn_choices(const Convolution& convolution, int threads) {
  return choices(convolution, threads);
}

std::unique_ptr<Engine> onednn_convolution(const Convolution& c, PackedWeights& weights,
                                           const std::string& choice, int threads) {
  return make(c, weights, choice, threads, c.batch * c.out_height() * c.out_width() * c.outputs);
}

}  // namespace replk::dense
