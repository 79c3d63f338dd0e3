// libreplk_cpu in C++: resources that free themselves and errors that are thrown, header-only over the C API.
#pragma once
#include <array>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "replk/replk.h"

namespace replk {

class Error : public std::runtime_error {
 public:
  Error(replk_status status, const char* message) : std::runtime_error(message), status_(status) {}
  replk_status status() const noexcept { return status_; }

 private:
  replk_status status_;
};

inline void check(replk_status status) {
  if (status != REPLK_OK) throw Error(status, replk_last_error());
}

inline replk_cpu_info cpu_info() {
  replk_cpu_info info{};
  info.struct_size = sizeof(info);
  check(replk_get_cpu_info(&info));
  return info;
}

struct Tuning {
  replk_tuning_mode mode = replk_tuning_default().mode;
  double budget_seconds = replk_tuning_default().budget_seconds;  // of measuring one problem
};

/// How this process tunes: plans made from now on. Thread-safe.
inline void set_tuning(const Tuning& tuning) {
  replk_tuning c = replk_tuning_default();
  c.mode = tuning.mode;
  c.budget_seconds = tuning.budget_seconds;
  check(replk_set_tuning(&c));
}
inline Tuning tuning() {
  replk_tuning c = replk_tuning_default();
  check(replk_get_tuning(&c));
  return {c.mode, c.budget_seconds};
}

struct DepthwiseOptions {
  int threads = 0;                    // 0: all
  std::string algorithm;              // empty: the tuner's choice
  std::string tiling;                 // empty, or exactly this one
  std::span<const float> scale = {};  // [channels], of a problem that has one
};

/// How one run is done; as replk_run_options.
struct RunOptions {
  std::int64_t batch = 0;  // images; 0: the problem's
  std::span<std::byte> workspace =
      {};                         // 64-byte aligned and of at least workspace_bytes(); empty: the library's
  replk_pool_run pool = nullptr;  // null: as usual
  void* user = nullptr;
};

inline replk_run_options c_options(const RunOptions& options) {
  replk_run_options c = replk_run_options_default();
  c.batch = options.batch;
  c.workspace = options.workspace.empty() ? nullptr : options.workspace.data();
  c.workspace_bytes = options.workspace.size();
  c.pool = options.pool;
  c.user = options.user;
  return c;
}

/// A prepared depthwise convolution. Movable; run() may be called from many threads at once.
class Depthwise {
 public:
  /// weights[i] is branch i's, [channels][kernel_h][kernel_w]; bias [channels], or empty. The sizes of the
  /// spans are checked.
  Depthwise(const replk_depthwise_problem& problem, std::span<const std::span<const float>> weights,
            std::span<const float> bias = {}, const DepthwiseOptions& options = {}) {
    if (weights.size() != static_cast<std::size_t>(problem.branch_count))
      throw Error(REPLK_INVALID_ARGUMENT, "as many weights as branches are needed");
    const std::size_t channels =
        static_cast<std::size_t>(problem.channels) * static_cast<std::size_t>(multiplier(problem));
    std::vector<const float*> pointers;
    for (std::size_t i = 0; i < weights.size(); i++) {
      const replk_branch& b = problem.branches[i];
      if (weights[i].size() != channels * b.kernel_h * b.kernel_w)
        throw Error(REPLK_INVALID_ARGUMENT,
                    "weights of a branch must have channels x kernel_h x kernel_w elements");
      pointers.push_back(weights[i].data());
    }
    if (!bias.empty() && bias.size() != channels)
      throw Error(REPLK_INVALID_ARGUMENT, "bias must have one element a channel");
    if (!options.scale.empty() && options.scale.size() != channels)
      throw Error(REPLK_INVALID_ARGUMENT, "scale must have one element a channel");
    const replk_depthwise_options c = c_options(options);
    replk_depthwise* plan = nullptr;
    check(replk_depthwise_create(&problem, pointers.data(), bias.empty() ? nullptr : bias.data(), &c, &plan));
    plan_.reset(plan);
  }

  /// From a shape such as "n1c128h56w56k31". weights: one pointer a branch.
  Depthwise(const std::string& shape, const std::vector<const float*>& weights, const float* bias = nullptr,
            const DepthwiseOptions& options = {}) {
    const replk_depthwise_options c = c_options(options);
    replk_depthwise* plan = nullptr;
    check(replk_depthwise_create_from_shape(shape.c_str(), weights.data(), bias, &c, &plan));
    plan_.reset(plan);
  }

  /// Height and width of the output.
  std::pair<int, int> output_size() const {
    std::int32_t height = 0, width = 0;
    check(replk_depthwise_output_size(plan_.get(), &height, &width));
    return {height, width};
  }
  std::size_t workspace_bytes() const {
    std::size_t bytes = 0;
    check(replk_depthwise_workspace_bytes(plan_.get(), &bytes));
    return bytes;
  }
  /// With a workspace that the library keeps for each thread.
  void run(const void* src, void* dst, const void* residual = nullptr) const {
    check(replk_depthwise_run(plan_.get(), src, dst, residual, nullptr, 0));
  }
  /// With the caller's, 64-byte aligned and of at least workspace_bytes().
  void run(const void* src, void* dst, const void* residual, std::span<std::byte> workspace) const {
    check(replk_depthwise_run(plan_.get(), src, dst, residual, workspace.data(), workspace.size()));
  }

  void run(const void* src, void* dst, const void* residual, const RunOptions& options) const {
    const replk_run_options c = replk::c_options(options);
    check(replk_depthwise_run_with(plan_.get(), src, dst, residual, &c));
  }
  /// Other weights (one pointer a branch) and another bias; needs the plan to itself.
  void set_weights(const std::vector<const float*>& weights, const float* bias = nullptr) {
    check(replk_depthwise_set_weights(plan_.get(), weights.data(), bias));
  }

  std::string shape() const { return replk_depthwise_shape(plan_.get()); }
  std::string tiling() const { return replk_depthwise_tiling(plan_.get()); }
  std::string source() const { return replk_depthwise_source(plan_.get()); }
  const replk_depthwise* get() const noexcept { return plan_.get(); }

 private:
  static int multiplier(const replk_depthwise_problem& problem) {
    // An older program's structure ends before it.
    return problem.struct_size >= sizeof(replk_depthwise_problem) ? problem.channel_multiplier : 1;
  }
  static replk_depthwise_options c_options(const DepthwiseOptions& options) {
    replk_depthwise_options c = replk_depthwise_options_default();
    c.threads = options.threads;
    if (!options.algorithm.empty()) c.algorithm = options.algorithm.c_str();
    if (!options.tiling.empty()) c.tiling = options.tiling.c_str();
    if (!options.scale.empty()) c.scale = options.scale.data();
    return c;
  }
  struct Destroy {
    void operator()(replk_depthwise* plan) const noexcept { replk_depthwise_destroy(plan); }
  };
  std::unique_ptr<replk_depthwise, Destroy> plan_;
};

struct GradientOptions {
  int threads = 0;  // 0: all
  int wanted = REPLK_GRADIENT_INPUT | REPLK_GRADIENT_WEIGHTS;
  const replk_depthwise* layer = nullptr;  // Depthwise::get() of the layer, whose weights are shared
};

/// The gradients of a depthwise convolution, prepared. Movable; input() and weights() may be called from many
/// threads at once.
class DepthwiseGradient {
 public:
  /// weights: one pointer a branch, as Depthwise's; empty where the gradient of the input is not wanted.
  DepthwiseGradient(const replk_depthwise_problem& problem, const std::vector<const float*>& weights,
                    const GradientOptions& options = {}) {
    const replk_depthwise_gradient_options c = c_options(options);
    replk_depthwise_gradient* plan = nullptr;
    check(replk_depthwise_gradient_create(&problem, pointers(weights), &c, &plan));
    plan_.reset(plan);
  }
  /// From a shape such as "n8c384h14w14k7".
  DepthwiseGradient(const std::string& shape, const std::vector<const float*>& weights,
                    const GradientOptions& options = {}) {
    const replk_depthwise_gradient_options c = c_options(options);
    replk_depthwise_gradient* plan = nullptr;
    check(replk_depthwise_gradient_create_from_shape(shape.c_str(), pointers(weights), &c, &plan));
    plan_.reset(plan);
  }

  std::size_t workspace_bytes() const {
    std::size_t bytes = 0;
    check(replk_depthwise_gradient_workspace_bytes(plan_.get(), &bytes));
    return bytes;
  }
  /// Other weights (one pointer a branch) for input(); needs the plan to itself.
  void set_weights(const std::vector<const float*>& weights) {
    check(replk_depthwise_gradient_set_weights(plan_.get(), pointers(weights)));
  }
  /// The gradient of the input.
  void input(const void* dy, void* dx, const RunOptions& options = {}) const {
    const replk_run_options c = replk::c_options(options);
    check(replk_depthwise_gradient_input(plan_.get(), dy, dx, &c));
  }
  /// Those of weights (one pointer a branch, null where it is not wanted) and bias; with `accumulate` added
  /// to what is there.
  void weights(const void* src, const void* dy, const std::vector<float*>& dweights, float* dbias = nullptr,
               bool accumulate = false, const RunOptions& options = {}) const {
    const replk_run_options c = replk::c_options(options);
    check(replk_depthwise_gradient_weights(plan_.get(), src, dy, dweights.data(), dbias, accumulate, &c));
  }
  const replk_depthwise_gradient* get() const noexcept { return plan_.get(); }

 private:
  static const float* const* pointers(const std::vector<const float*>& weights) {
    return weights.empty() ? nullptr : weights.data();
  }
  static replk_depthwise_gradient_options c_options(const GradientOptions& options) {
    replk_depthwise_gradient_options c = replk_depthwise_gradient_options_default();
    c.threads = options.threads;
    c.wanted = options.wanted;
    c.layer = options.layer;
    return c;
  }
  struct Destroy {
    void operator()(replk_depthwise_gradient* plan) const noexcept { replk_depthwise_gradient_destroy(plan); }
  };
  std::unique_ptr<replk_depthwise_gradient, Destroy> plan_;
};

/// Lets one thread stop the runs of others. Thread-safe.
class Cancel {
 public:
  Cancel() {
    replk_cancel* cancel = nullptr;
    check(replk_cancel_create(&cancel));
    cancel_.reset(cancel);
  }
  void request(bool requested = true) noexcept { replk_cancel_request(cancel_.get(), requested); }
  const replk_cancel* get() const noexcept { return cancel_.get(); }

 private:
  struct Destroy {
    void operator()(replk_cancel* cancel) const noexcept { replk_cancel_destroy(cancel); }
  };
  std::unique_ptr<replk_cancel, Destroy> cancel_;
};

struct ModelOptions {
  int threads = 0;  // 0: all
  replk_numerics numerics = REPLK_FAST;
  bool norm_intermediate_features = false;
  std::uint64_t seed = 1;                         // of random weights, where no file is given
  std::function<bool(double fraction)> progress;  // while loading; returning false cancels
  replk_precision precision = REPLK_PRECISION_OF_WEIGHTS;
};

/// A network, loaded. Movable; run() may be called from many threads at once.
class Model {
 public:
  using Options = ModelOptions;

  /// weights_file: .safetensors; empty for random weights.
  explicit Model(const std::string& name, const std::string& weights_file = {}, const Options& options = {}) {
    replk_model_options c = replk_model_options_default();
    c.threads = options.threads;
    c.numerics = options.numerics;
    c.norm_intermediate_features = options.norm_intermediate_features;
    c.seed = options.seed;
    c.precision = options.precision;
    if (options.progress) {
      // An exception may not pass through C: the load is cancelled and it is thrown from here.
      c.progress = [](double fraction, void* user) {
        auto& call = *static_cast<Progress*>(user);
        try {
          return call.function(fraction) ? 0 : 1;
        } catch (...) {
          call.error = std::current_exception();
          return 1;
        }
      };
    }
    Progress call{options.progress, nullptr};
    c.progress_user = &call;
    replk_model* model = nullptr;
    const replk_status status =
        replk_model_load(name.c_str(), weights_file.empty() ? nullptr : weights_file.c_str(), &c, &model);
    if (call.error) std::rethrow_exception(call.error);
    check(status);
    model_.reset(model);
  }

  replk_model_info info() const {
    replk_model_info info{};
    info.struct_size = sizeof(info);
    check(replk_model_get_info(model_.get(), &info));
    return info;
  }
  std::string label(int index) const { return replk_model_label(model_.get(), index); }
  struct FeatureShape {
    std::int32_t channels = 0, height = 0, width = 0;
  };
  FeatureShape feature_shape(int stage, int height, int width) const {
    FeatureShape shape;
    check(replk_model_feature_shape(model_.get(), stage, height, width, &shape.channels, &shape.height,
                                    &shape.width));
    return shape;
  }
  void prepare(std::int64_t batch, int height, int width) {
    check(replk_model_prepare(model_.get(), batch, height, width));
  }

  /// pixels: [batch][height][width][3], normalised. Returns [batch][classes].
  std::vector<float> classify(std::span<const float> pixels, std::int64_t batch, int height, int width,
                              const Cancel* cancel = nullptr) {
    check_pixels(pixels, batch, height, width);
    std::vector<float> logits(static_cast<std::size_t>(batch) * static_cast<std::size_t>(info().classes));
    run(pixels.data(), batch, height, width, logits.data(), {}, cancel);
    return logits;
  }
  /// The four stages, [batch][channels][height][width] each.
  std::array<std::vector<float>, 4> features(std::span<const float> pixels, std::int64_t batch, int height,
                                             int width, const Cancel* cancel = nullptr) {
    check_pixels(pixels, batch, height, width);
    std::array<std::vector<float>, 4> stages;
    std::array<float*, 4> pointers;
    for (int s = 0; s < 4; s++) {
      const FeatureShape shape = feature_shape(s, height, width);
      stages[s].resize(static_cast<std::size_t>(batch) * shape.channels * shape.height * shape.width);
      pointers[s] = stages[s].data();
    }
    run(pixels.data(), batch, height, width, nullptr, pointers, cancel);
    return stages;
  }
  /// The same into the caller's memory, allocating nothing once a size was run; null for what is not wanted.
  void run(const float* pixels, std::int64_t batch, int height, int width, float* logits,
           const std::array<float*, 4>& features, const replk_model_run_options& options) {
    check(
        replk_model_run_with(model_.get(), pixels, batch, height, width, logits, features.data(), &options));
  }
  void run(const float* pixels, std::int64_t batch, int height, int width, float* logits,
           const std::array<float*, 4>& features = {}, const Cancel* cancel = nullptr) {
    check(replk_model_run(model_.get(), pixels, batch, height, width, logits, features.data(),
                          cancel ? cancel->get() : nullptr));
  }
  /// A JPEG or PNG file as the network's own evaluation prepares it: [height][width][3].
  std::vector<float> read_image(const std::string& path, int height, int width) const {
    if (height < 1 || width < 1) throw Error(REPLK_INVALID_ARGUMENT, "height and width must be at least 1");
    std::vector<float> pixels(static_cast<std::size_t>(height) * width * 3);
    check(replk_model_read_image(model_.get(), path.c_str(), height, width, pixels.data()));
    return pixels;
  }
  replk_model* get() const noexcept { return model_.get(); }

 private:
  struct Progress {
    const std::function<bool(double)>& function;
    std::exception_ptr error;
  };
  static void check_pixels(std::span<const float> pixels, std::int64_t batch, int height, int width) {
    if (batch < 1 || height < 1 || width < 1 ||
        pixels.size() / 3 / static_cast<std::size_t>(height) / static_cast<std::size_t>(width) !=
            static_cast<std::size_t>(batch) ||
        pixels.size() != static_cast<std::size_t>(batch) * height * width * 3)
      throw Error(REPLK_INVALID_ARGUMENT, "pixels must have batch x height x width x 3 elements");
  }
  struct Destroy {
    void operator()(replk_model* model) const noexcept { replk_model_destroy(model); }
  };
  std::unique_ptr<replk_model, Destroy> model_;
};

}  // namespace replk
