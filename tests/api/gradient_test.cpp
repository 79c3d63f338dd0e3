// Both gradients through the C API and its C++ wrapper, as a framework uses them.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "replk/replk.h"
#include "replk/replk.hpp"
#include "tests/api/random_floats.hpp"
#include "tests/model/allocations.hpp"

namespace {

/// A layer with its tensors: NHWC, 13 channels, 39 x 41, "same" padding.
struct Layer {
  static constexpr int batch = 3, channels = 13, height = 39, width = 41;
  explicit Layer(int kernel, int stride = 1)
      : kernel(kernel),
        stride(stride),
        out_height((height - 1) / stride + 1),
        out_width((width - 1) / stride + 1),
        weights(random_floats(channels * kernel * kernel, 1)),
        src(random_floats(batch * channels * height * width, 2)),
        dy(random_floats(batch * channels * out_height * out_width, 3)) {}

  std::string shape(const std::string& more = "") const {
    return "n3c13h39w41k" + std::to_string(kernel) + (stride > 1 ? "s" + std::to_string(stride) : "") + more;
  }
  /// Calls function(source index, dy index, weight index) for every product of the layer.
  template <class Function>
  void for_products(const Function& function) const {
    for (int n = 0; n < batch; n++)
      for (int y = 0; y < out_height; y++)
        for (int x = 0; x < out_width; x++)
          for (int i = 0; i < kernel; i++)
            for (int j = 0; j < kernel; j++) {
              const int row = y * stride + i - kernel / 2, column = x * stride + j - kernel / 2;
              if (row < 0 || row >= height || column < 0 || column >= width) continue;
              for (int c = 0; c < channels; c++)
                function(((n * height + row) * width + column) * channels + c,
                         ((n * out_height + y) * out_width + x) * channels + c,
                         (c * kernel + i) * kernel + j);
            }
  }

  int kernel, stride, out_height, out_width;
  std::vector<float> weights, src, dy;
};

void expect_near(const std::vector<float>& got, const std::vector<double>& wanted) {
  double largest = 0;
  for (const double value : wanted) largest = std::max(largest, std::fabs(value));
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); i++) ASSERT_NEAR(got[i], wanted[i], 3e-6 * largest) << i;
}

TEST(Gradient, IsThatOfTheDefinition) {
  for (const int kernel : {3, 7, 13})
    for (const int stride : {1, 2}) {
      const Layer layer(kernel, stride);
      std::vector<double> dx(layer.src.size()), dw(layer.weights.size()), db(Layer::channels);
      layer.for_products([&](int s, int d, int w) {
        dx[s] += double{layer.dy[d]} * layer.weights[w];
        dw[w] += double{layer.dy[d]} * layer.src[s];
      });
      for (std::size_t i = 0; i < layer.dy.size(); i++) db[i % Layer::channels] += layer.dy[i];
      const replk::DepthwiseGradient gradient(layer.shape(), {layer.weights.data()}, {.threads = 2});
      std::vector<float> got_dx(dx.size(), NAN), got_dw(dw.size(), NAN), got_db(db.size(), NAN);
      gradient.input(layer.dy.data(), got_dx.data());
      expect_near(got_dx, dx);
      gradient.weights(layer.src.data(), layer.dy.data(), {got_dw.data()}, got_db.data());
      expect_near(got_dw, dw);
      expect_near(got_db, db);
      // Added to what is there; what is not wanted stays away.
      for (double& value : dw) value *= 2;
      gradient.weights(layer.src.data(), layer.dy.data(), {got_dw.data()}, nullptr, true);
      expect_near(got_dw, dw);
      for (double& value : db) value *= 2;
      gradient.weights(layer.src.data(), layer.dy.data(), {nullptr}, got_db.data(), true);
      expect_near(got_db, db);
    }
}

/// From the descriptor as from the text, with other weights as with those, and image by image.
TEST(Gradient, OfEveryDoor) {
  const Layer layer(7);
  const replk_branch branch = {7, 7, 1, 1};
  replk_depthwise_problem p = replk_depthwise_problem_default();
  p.batch = Layer::batch;
  p.channels = Layer::channels;
  p.height = Layer::height;
  p.width = Layer::width;
  p.branches = &branch;
  p.branch_count = 1;
  const std::vector<float> others = random_floats(layer.weights.size(), 9);
  const replk::DepthwiseGradient text(layer.shape(), {layer.weights.data()}, {.threads = 1});
  replk::DepthwiseGradient given(p, {others.data()}, {.threads = 1, .wanted = REPLK_GRADIENT_INPUT});
  given.set_weights({layer.weights.data()});
  std::vector<float> a(layer.src.size(), NAN), b(layer.src.size(), NAN);
  text.input(layer.dy.data(), a.data());
  const std::size_t image = a.size() / Layer::batch;
  for (int n = 0; n < Layer::batch; n++)
    given.input(layer.dy.data() + n * image, b.data() + n * image, {.batch = 1});
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
  // With the layer's packed weights, where these serve: in class fast, row-spectral's.
  replk::DepthwiseOptions one_thread;
  one_thread.threads = 1;
  replk::Depthwise forward(layer.shape(), {others.data()}, nullptr, one_thread);
  replk::DepthwiseGradient shared(layer.shape(), {others.data()}, {.threads = 1, .layer = forward.get()});
  forward.set_weights({layer.weights.data()});
  shared.set_weights({layer.weights.data()});
  std::vector<float> c(layer.src.size(), NAN);
  shared.input(layer.dy.data(), c.data());
  for (std::size_t i = 0; i < c.size(); i++) ASSERT_NEAR(c[i], a[i], 1e-4f) << i;
  // A part of one gradient only.
  const replk::DepthwiseGradient weights(p, {}, {.threads = 1, .wanted = REPLK_GRADIENT_WEIGHTS});
  std::vector<float> dw(layer.weights.size()), same(dw.size());
  weights.weights(layer.src.data(), layer.dy.data(), {dw.data()});
  text.weights(layer.src.data(), layer.dy.data(), {same.data()});
  EXPECT_EQ(dw, same);
}

/// A pool that runs its tasks on the calling thread, the last first.
void reversed(int count, replk_task task, void* context, void* calls) {
  ++*static_cast<int*>(calls);
  for (int i = count; i-- > 0;) task(i, context);
}

TEST(Gradient, APoolOfTheCallerAndNoAllocations) {
  for (const int stride : {1, 2})
    for (const char* more : {"", "exact", "bf16"}) {
      const Layer layer(7, stride);
      replk::DepthwiseGradient gradient(layer.shape(more), {layer.weights.data()}, {.threads = 3});
      const std::vector<float> others = random_floats(layer.weights.size(), 9);
      std::vector<std::byte> memory(gradient.workspace_bytes() + 64);
      std::byte* aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
      const float ones = std::bit_cast<float>(0x3f803f80u);  // as bf16, two of them
      std::vector<float> src(layer.src.size(), ones), dy(layer.dy.size(), ones), dx(src.size(), NAN),
          dw(layer.weights.size()), db(Layer::channels), usual_dx(src.size(), NAN), usual_dw(dw.size()),
          usual_db(db.size());
      gradient.set_weights({others.data()});
      gradient.set_weights({layer.weights.data()});
      gradient.input(dy.data(), usual_dx.data());
      gradient.weights(src.data(), dy.data(), {usual_dw.data()}, usual_db.data());
      int calls = 0;
      replk_run_options options = replk_run_options_default();
      options.workspace = aligned;
      options.workspace_bytes = gradient.workspace_bytes();
      options.pool = reversed;
      options.user = &calls;
      auto* const handle = const_cast<replk_depthwise_gradient*>(gradient.get());
      const float* pointers[] = {layer.weights.data()};
      float* const dweights[] = {dw.data()};
      if (allocations::can_count) allocations::start();
      const replk_status input = replk_depthwise_gradient_input(handle, dy.data(), dx.data(), &options),
                         weights = replk_depthwise_gradient_weights(handle, src.data(), dy.data(), dweights,
                                                                    db.data(), 0, &options),
                         set = replk_depthwise_gradient_set_weights(handle, pointers);
      if (allocations::can_count) {
        EXPECT_EQ(allocations::stop(), 0) << layer.shape(more);
      }
      EXPECT_TRUE(input == REPLK_OK && weights == REPLK_OK && set == REPLK_OK) << replk_last_error();
      EXPECT_GT(calls, 0) << layer.shape(more);
      EXPECT_EQ(std::memcmp(dx.data(), usual_dx.data(), dx.size() * sizeof(float)), 0);
      EXPECT_EQ(dw, usual_dw);
      EXPECT_EQ(db, usual_db);
    }
}

TEST(Gradient, OnePlanOnManyThreads) {
  const Layer layer(7);
  const replk::DepthwiseGradient gradient(layer.shape(), {layer.weights.data()}, {.threads = 2});
  std::vector<float> dx(layer.src.size()), dw(layer.weights.size());
  gradient.input(layer.dy.data(), dx.data());
  gradient.weights(layer.src.data(), layer.dy.data(), {dw.data()});
  std::vector<std::thread> threads;
  std::vector<int> same(4);
  for (int t = 0; t < 4; t++)
    threads.emplace_back([&, t] {
      std::vector<float> own_dx(dx.size()), own_dw(dw.size());
      for (int i = 0; i < 10; i++) {
        gradient.input(layer.dy.data(), own_dx.data());
        gradient.weights(layer.src.data(), layer.dy.data(), {own_dw.data()});
        same[t] += own_dx == dx && own_dw == dw;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(4, 10));
}

/// What is refused, and with which word.
void refused(replk_status status, const char* word) {
  EXPECT_EQ(status, REPLK_INVALID_ARGUMENT) << word;
  EXPECT_NE(std::string(replk_last_error()).find(word), std::string::npos) << replk_last_error();
}

TEST(Gradient, APlanThatCannotBeIsRefusedByName) {
  const Layer layer(7);
  const float* weights[] = {layer.weights.data()};
  replk_depthwise_gradient* plan = nullptr;
  const auto made = [&](const std::string& shape, const float* const* w, auto change) {
    replk_depthwise_gradient_options o = replk_depthwise_gradient_options_default();
    change(o);
    plan = reinterpret_cast<replk_depthwise_gradient*>(1);
    const replk_status status = replk_depthwise_gradient_create_from_shape(shape.c_str(), w, &o, &plan);
    EXPECT_TRUE(status == REPLK_OK || plan == nullptr);
    return status;
  };
  using Options = replk_depthwise_gradient_options;
  const auto nothing = [](Options&) {};
  refused(made(layer.shape("+relu"), weights, nothing), "activation");
  refused(made(layer.shape("+scale"), weights, nothing), "scale");
  refused(made(layer.shape("+residual"), weights, nothing), "residual");
  refused(made(layer.shape("+gelu"), nullptr, [](Options& o) { o.wanted = 2; }), "activation");
  refused(made(layer.shape(), nullptr, nothing), "weights");
  refused(made(layer.shape(), weights, [](Options& o) { o.wanted = 4; }), "wanted");
  refused(made(layer.shape(), weights, [](Options& o) { o.wanted = -1; }), "wanted");
  refused(made(layer.shape(), weights, [](Options& o) { o.threads = -1; }), "threads");
  refused(made(layer.shape(), weights, [](Options& o) { o.threads = INT32_MAX; }), "threads");
  refused(made(layer.shape(), weights, [](Options& o) { o.struct_size = 3; }), "struct_size");
  const replk::Depthwise other("n1c3h9w9k3", {layer.weights.data()});
  refused(made(layer.shape(), weights, [&](Options& o) { o.layer = other.get(); }), "layer");
  refused(made("n1c1h1w1k64", weights, nothing), "kernel height");
  refused(made("n0c1h1w1k1", weights, nothing), "batch");
  refused(made("n1048576c1048576h65536w65536k3", weights, nothing), "elements");
  refused(replk_depthwise_gradient_create_from_shape(nullptr, weights, nullptr, &plan), "shape");
  refused(replk_depthwise_gradient_create_from_shape("n1c1h1w1k1", weights, nullptr, nullptr), "plan");
  refused(replk_depthwise_gradient_create(nullptr, weights, nullptr, &plan), "problem");
  replk_depthwise_gradient_destroy(nullptr);
}

TEST(Gradient, ARunThatCannotBeIsRefusedByName) {
  const Layer layer(7);
  replk::DepthwiseGradient gradient(layer.shape(), {layer.weights.data()});
  const replk::DepthwiseGradient weights(layer.shape(), {}, {.threads = 0, .wanted = REPLK_GRADIENT_WEIGHTS}),
      input(layer.shape(), {layer.weights.data()}, {.threads = 0, .wanted = REPLK_GRADIENT_INPUT});
  std::vector<float> dx(layer.src.size()), dw(layer.weights.size());
  float* const dweights[] = {dw.data()};
  const void *src = layer.src.data(), *dy = layer.dy.data();
  const auto* plan = gradient.get();
  refused(replk_depthwise_gradient_input(nullptr, dy, dx.data(), nullptr), "plan");
  refused(replk_depthwise_gradient_input(plan, nullptr, dx.data(), nullptr), "dy");
  refused(replk_depthwise_gradient_input(plan, dy, nullptr, nullptr), "dx");
  refused(replk_depthwise_gradient_input(weights.get(), dy, dx.data(), nullptr), "gradient of the input");
  refused(replk_depthwise_gradient_weights(input.get(), src, dy, dweights, nullptr, 0, nullptr),
          "gradient of the weights");
  refused(replk_depthwise_gradient_weights(plan, nullptr, dy, dweights, nullptr, 0, nullptr), "src");
  refused(replk_depthwise_gradient_weights(plan, src, nullptr, dweights, nullptr, 0, nullptr), "dy");
  refused(replk_depthwise_gradient_weights(plan, src, dy, nullptr, nullptr, 0, nullptr), "dweights");
  const auto with = [&](auto change, const char* word) {
    replk_run_options o = replk_run_options_default();
    change(o);
    refused(replk_depthwise_gradient_input(plan, dy, dx.data(), &o), word);
    refused(replk_depthwise_gradient_weights(plan, src, dy, dweights, nullptr, 0, &o), word);
  };
  with([](replk_run_options& o) { o.struct_size = 8; }, "struct_size");
  with([](replk_run_options& o) { o.batch = INT64_MIN; }, "batch");
  with([](replk_run_options& o) { o.batch = INT64_MAX; }, "batch");
  with(
      [&](replk_run_options& o) {
        o.workspace = reinterpret_cast<char*>(dx.data()) + 1, o.workspace_bytes = SIZE_MAX;
      },
      "multiple of 64");
  const float* none[] = {nullptr};
  auto* const handle = const_cast<replk_depthwise_gradient*>(plan);
  refused(replk_depthwise_gradient_set_weights(handle, none), "weights");
  refused(replk_depthwise_gradient_set_weights(handle, nullptr), "weights");
  refused(
      replk_depthwise_gradient_set_weights(const_cast<replk_depthwise_gradient*>(weights.get()), dweights),
      "gradient of the input");
  refused(replk_depthwise_gradient_workspace_bytes(plan, nullptr), "bytes");
  EXPECT_EQ(replk_depthwise_gradient_input(plan, dy, dx.data(), nullptr), REPLK_OK);
}

}  // namespace
