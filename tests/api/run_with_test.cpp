// A plan as a framework uses it: on its own pool, with batches and weights that change, on views of tensors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "replk/replk.h"
#include "replk/replk.hpp"
#include "tests/api/random_floats.hpp"
#include "tests/model/allocations.hpp"

namespace {

/// A pool that runs its tasks on the calling thread, in order or in reverse, or on half as many threads.
struct Pool {
  enum Kind { serial, reverse, few } kind;
  int calls = 0, tasks = 0;
};
void run_pool(int count, replk_task task, void* context, void* user) {
  auto& pool = *static_cast<Pool*>(user);
  pool.calls++;
  pool.tasks += count;
  if (pool.kind == Pool::serial)
    for (int i = 0; i < count; i++) task(i, context);
  if (pool.kind == Pool::reverse)
    for (int i = count; i-- > 0;) task(i, context);
  if (pool.kind == Pool::few) {
    std::thread other([&] {
      for (int i = 1; i < count; i += 2) task(i, context);
    });
    for (int i = 0; i < count; i += 2) task(i, context);
    other.join();
  }
}

struct Shape {
  const char *text, *algorithm;
  int channels, side, taps;
};
constexpr Shape shapes[] = {{"n2c40h14w14k13+relu", "row-spectral", 40, 14, 169},
                            {"n2c40h14w14k13", "spectral", 40, 14, 169},
                            {"n2c40h14w14k5nchw", "direct", 40, 14, 25},
                            {"n2c40h14w14k3exact", "portable", 40, 14, 9}};

/// On all its threads: small work would be given to fewer.
replk::Depthwise plan_of(const Shape& s, const std::vector<float>& weights, int threads) {
  const replk::Depthwise best(s.text, {weights.data()}, nullptr,
                              {.threads = 1, .algorithm = s.algorithm, .tiling = {}});
  return replk::Depthwise(s.text, {weights.data()}, nullptr,
                          {.threads = threads, .algorithm = {}, .tiling = best.tiling()});
}

TEST(RunWith, APoolOfOneRunMayRunTasksInAnyOrder) {
  for (const Shape& s : shapes) {
    const std::vector<float> weights = random_floats(s.channels * s.taps, 1);
    const std::size_t image = static_cast<std::size_t>(s.channels) * s.side * s.side;
    const std::vector<float> src = random_floats(3 * image, 2);
    std::vector<float> expected(3 * image);
    plan_of(s, weights, 1).run(src.data(), expected.data(), nullptr, {.batch = 3});
    for (const Pool::Kind kind : {Pool::serial, Pool::reverse, Pool::few})
      for (const int threads : {2, 5, 16}) {
        const replk::Depthwise plan = plan_of(s, weights, threads);
        for (const int batch : {1, 3}) {
          Pool pool{kind};
          std::vector<float> got(3 * image, NAN);
          plan.run(src.data(), got.data(), nullptr,
                   {.batch = batch, .workspace = {}, .pool = run_pool, .user = &pool});
          EXPECT_GT(pool.calls, 0) << s.text;
          EXPECT_GT(pool.tasks, pool.calls) << s.text;
          EXPECT_EQ(std::memcmp(got.data(), expected.data(), batch * image * sizeof(float)), 0)
              << s.text << ": " << plan.tiling() << ", " << threads << " threads, " << batch << " images";
        }
        // Later runs have the usual threads again.
        Pool unused{kind};
        std::vector<float> got(3 * image);
        plan.run(src.data(), got.data(), nullptr, {.batch = 3});
        EXPECT_EQ(unused.calls, 0);
        EXPECT_EQ(got, expected);
      }
  }
}

TEST(RunWith, AllocatesNothing) {
  if (!allocations::can_count) GTEST_SKIP() << "the sanitizer owns malloc";
  for (const Shape& s : shapes) {
    const std::vector<float> weights = random_floats(s.channels * s.taps, 1),
                             others = random_floats(s.channels * s.taps, 2);
    const std::size_t image = static_cast<std::size_t>(s.channels) * s.side * s.side;
    const std::vector<float> src = random_floats(4 * image, 2);
    std::vector<float> dst(4 * image);
    replk::Depthwise plan = plan_of(s, weights, 3);
    std::vector<std::byte> memory(plan.workspace_bytes() + 64);
    std::byte* aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
    Pool pool{Pool::serial};
    const float* pointers[] = {others.data()};
    replk_run_options options = replk_run_options_default();
    options.workspace = aligned;
    options.workspace_bytes = plan.workspace_bytes();
    options.pool = run_pool;
    options.user = &pool;
    auto* const handle = const_cast<replk_depthwise*>(plan.get());
    for (const int batch : {1, 4}) {
      options.batch = batch;
      ASSERT_EQ(replk_depthwise_set_weights(handle, pointers, nullptr), REPLK_OK);  // OpenMP's team is made
      allocations::start();
      const replk_status ran = replk_depthwise_run_with(handle, src.data(), dst.data(), nullptr, &options),
                         set = replk_depthwise_set_weights(handle, pointers, nullptr);
      EXPECT_EQ(allocations::stop(), 0) << s.text;
      EXPECT_EQ(ran, REPLK_OK);
      EXPECT_EQ(set, REPLK_OK);
    }
  }
  allocations::start();
  plan_of(shapes[0], random_floats(shapes[0].channels * shapes[0].taps, 1), 1);
  EXPECT_GT(allocations::stop(), 0) << "the counter itself does not count";
}

TEST(RunWith, NamesWhatIsWrong) {
  const Shape& s = shapes[0];
  const std::vector<float> weights = random_floats(s.channels * s.taps, 1);
  replk::Depthwise plan = plan_of(s, weights, 1);
  const std::size_t image = static_cast<std::size_t>(s.channels) * s.side * s.side;
  std::vector<float> src(2 * image), dst(2 * image);
  const auto refused = [&](auto change, const char* word) {
    replk_run_options options = replk_run_options_default();
    change(options);
    EXPECT_EQ(replk_depthwise_run_with(plan.get(), src.data(), dst.data(), nullptr, &options),
              REPLK_INVALID_ARGUMENT)
        << word;
    EXPECT_NE(std::string(replk_last_error()).find(word), std::string::npos) << replk_last_error();
  };
  using Options = replk_run_options;
  refused([](Options& o) { o.struct_size = 8; }, "struct_size");
  refused([](Options& o) { o.batch = -1; }, "batch");
  refused([](Options& o) { o.batch = INT64_MIN; }, "batch");
  refused([](Options& o) { o.batch = INT64_MAX; }, "batch");
  refused([&](Options& o) { o.workspace = src.data(), o.workspace_bytes = 1; }, "workspace_bytes is 1");
  EXPECT_EQ(replk_depthwise_run_with(plan.get(), src.data(), dst.data(), nullptr, nullptr), REPLK_OK);
  EXPECT_EQ(replk_depthwise_run_with(nullptr, src.data(), dst.data(), nullptr, nullptr),
            REPLK_INVALID_ARGUMENT);
  const float* none[] = {nullptr};
  auto* const handle = const_cast<replk_depthwise*>(plan.get());
  EXPECT_EQ(replk_depthwise_set_weights(handle, none, nullptr), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_depthwise_set_weights(handle, nullptr, nullptr), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_depthwise_set_weights(nullptr, none, nullptr), REPLK_INVALID_ARGUMENT);
}

/// The problem of a layer without padding of its own.
replk_depthwise_problem problem_of(const replk_branch* branch, int channels, int height, int width) {
  replk_depthwise_problem p = replk_depthwise_problem_default();
  p.channels = channels;
  p.height = height;
  p.width = width;
  p.branches = branch;
  p.branch_count = 1;
  return p;
}

TEST(Problem, SidesLayoutsStridesAndScaleAreRead) {
  const replk_branch branch = {3, 5, 1, 1};
  replk_depthwise_problem p = problem_of(&branch, 8, 9, 10);
  p.explicit_padding = 1;
  p.pad_top = -1;
  p.pad_bottom = 2;
  p.pad_left = 4;
  p.pad_right = 0;
  p.stride_w = 16;
  p.output_layout = REPLK_NCHW;
  p.input_strides = {2000, 200, 20, 1};
  p.activation = REPLK_HARD_SWISH;
  p.scale = 1;
  const std::vector<float> weights = random_floats(8 * 15, 1), scale(8, 2.0f);
  const std::span<const float> branches[] = {weights};
  const replk::Depthwise plan(p, branches, {}, {.threads = 1, .algorithm = {}, .tiling = {}, .scale = scale});
  EXPECT_EQ(plan.shape(), "n1c8h9w10k3x5s1x16p-1:2x4:0nhwc>nchwi20x200x2000+hardswish+scale");
  EXPECT_EQ(plan.output_size(), std::pair(8, 1));
  p.pad_bottom = 0;
  p.pad_top = -9;
  EXPECT_THROW(
      replk::Depthwise(p, branches, {}, {.threads = 1, .algorithm = {}, .tiling = {}, .scale = scale}),
      replk::Error);
  p.pad_top = 0;
  EXPECT_THROW(replk::Depthwise(p, branches), replk::Error);  // no scale
  p.scale = 0;
  p.output_layout = 2;
  EXPECT_THROW(replk::Depthwise(p, branches), replk::Error);
  p.output_layout = -1;
  p.channel_multiplier = 5;
  EXPECT_THROW(replk::Depthwise(p, branches), replk::Error);
  p.channel_multiplier = 1;
  EXPECT_EQ(replk::Depthwise(p, branches).shape(), "n1c8h9w10k3x5s1x16p0x4:0i20x200x2000+hardswish");
}

/// InceptionNeXt: two slices of a tensor's channels, each with a kernel of its own, in place in another
/// tensor.
TEST(Problem, SlicesOfChannelsNeedNoCopy) {
  constexpr int all = 24, height = 9, width = 11;
  const std::vector<float> src = random_floats(all * height * width, 3), w = random_floats(8 * 11, 4);
  std::vector<float> dst(src.size(), NAN), slice(8 * height * width), alone(slice.size());
  int first = 4;
  for (const replk_branch branch : {replk_branch{1, 11, 1, 1}, replk_branch{11, 1, 1, 1}}) {
    replk_depthwise_problem p = problem_of(&branch, 8, height, width);
    const std::span<const float> weights[] = {w};
    const replk::Depthwise dense(p, weights);
    p.input_strides = p.output_strides = {all * height * width, all * width, all, 1};
    const replk::Depthwise view(p, weights);
    view.run(src.data() + first, dst.data() + first);
    for (int i = 0; i < height * width; i++)
      std::copy_n(src.data() + i * all + first, 8, slice.data() + i * 8);
    dense.run(slice.data(), alone.data());
    for (int i = 0; i < height * width; i++)
      for (int c = 0; c < 8; c++) EXPECT_NEAR(dst[i * all + first + c], alone[i * 8 + c], 1e-5f);
    first += 8;
  }
  for (int i = 0; i < height * width; i++)
    for (int c = 0; c < all; c++) EXPECT_EQ(std::isnan(dst[i * all + c]), c < 4 || c >= 20);
}

}  // namespace
