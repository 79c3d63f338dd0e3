// Problems that no convolution can be: each is refused by name, before anything is allocated for it.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "depthwise/algorithm.hpp"
#include "depthwise/choose/choice.hpp"
#include "replk/replk.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<std::size_t> bytes_asked{0};

void count(std::size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) bytes_asked += bytes;
}

}  // namespace

// Under a sanitizer malloc is its own; the counts are then zero and the statuses are what is tested.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
#pragma GCC visibility push(default)  // Clang would hide them from the libraries that are to call them
void* malloc(std::size_t size) {
  count(size);
  return __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) {
  count(n * size);
  return __libc_calloc(n, size);
}
void* realloc(void* old, std::size_t size) {
  count(size);
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t align, std::size_t size) {
  count(size);
  return __libc_memalign(align, size);
}
void* mmap(void* address, std::size_t length, int protection, int flags, int file, off_t offset) {
  count(length);
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, length, protection, flags, file, offset));
}
#pragma GCC visibility pop
}
#endif

namespace {

/// The message, the branches and the exception itself: all that an error may take.
constexpr std::size_t most_for_an_error = 4096;

struct Refusal {
  replk_status status;
  std::string message;
  std::size_t bytes;
};

Refusal refusal(const replk_depthwise_problem& problem, const char* shape = nullptr) {
  // No weights: they would be as long as the problem says, and are looked at when the problem has passed.
  const float* weights[16] = {};
  replk_depthwise* plan = nullptr;
  bytes_asked = 0;
  counting = true;
  const replk_status status = shape
                                  ? replk_depthwise_create_from_shape(shape, weights, nullptr, nullptr, &plan)
                                  : replk_depthwise_create(&problem, weights, nullptr, nullptr, &plan);
  counting = false;
  EXPECT_EQ(plan, nullptr);
  return {status, replk_last_error(), bytes_asked};
}

TEST(Hostile, EachFieldIsRefusedByName) {
  struct Field {
    const char* name;
    std::int64_t value;
    const char* message;
  };
  static constexpr Field fields[] = {
      {"batch", 0, "batch"},
      {"batch", -1, "batch"},
      {"batch", INT64_MIN, "batch"},
      {"batch", INT64_MAX, "batch"},
      {"batch", std::int64_t{1} << 32, "batch"},
      {"channels", 0, "channels"},
      {"channels", -3, "channels"},
      {"channels", INT32_MAX, "channels"},
      {"height", 0, "height"},
      {"height", INT32_MIN, "height"},
      {"height", 65537, "height"},
      {"width", -1, "width"},
      {"width", INT32_MAX, "width"},
      {"kernel", 0, "kernel height (k) is 0"},
      {"kernel", 64, "kernel height (k) is 64"},
      {"kernel", INT32_MIN, "kernel height"},
      {"dilation", 0, "dilation (d)"},
      {"dilation", INT32_MAX, "dilation (d)"},
      {"extent", 64, "dilated kernel"},
      {"branches", 0, "branch_count"},
      {"branches", -1, "branch_count"},
      {"branches", INT32_MAX, "branch_count"},
      {"pad", -2, "padding"},
      {"pad", 1024, "padding"},
      {"pad", INT32_MAX, "padding"},
      {"stride", 0, "stride"},
      {"stride", 17, "stride"},
      {"stride", INT32_MAX, "stride"},
      {"layout", 2, "layout"},
      {"type", -1, "type"},
      {"numerics", 7, "numerics"},
      {"activation", INT32_MIN, "activation"},
      {"output layout", 2, "output_layout"},
      {"output layout", -2, "output_layout"},
      {"top", 1024, "padding above"},
      {"top", -65536, "padding above"},
      {"top", INT32_MIN, "padding above"},
      {"bottom", INT32_MAX, "padding below"},
      {"bottom", -15, "padded height"},
      {"left", INT32_MIN, "padding on the left"},
      {"right", 1024, "padding on the right"},
      {"multiplier", 0, "channel_multiplier"},
      {"multiplier", 5, "channel_multiplier"},
      {"multiplier", INT32_MIN, "channel_multiplier"},
      {"input pixels", 7, "the input's stride of pixels"},
      {"input pixels", INT64_MIN, "the input's stride of pixels"},
      {"input pixels", INT64_MAX, "the input's stride of pixels"},
      {"input pixels", std::int64_t{1} << 47, "the input's stride of rows"},
      {"input rows", 127, "the input's stride of rows"},
      {"input rows", INT64_MAX, "the input's stride of rows"},
      {"input images", 2047, "the input's stride of images"},
      {"input channels", 2, "the input's stride of channels"},
      {"input channels", 0, "the input's stride of channels"},
      {"output pixels", 7, "the output's stride of pixels"},
      {"output images", INT64_MIN, "the output's stride of images"},
      {"none", 0, "weights"},  // nothing wrong but the weights
  };
  std::size_t all_bytes = 0;
  for (const Field& field : fields) {
    replk_branch branch = {3, 3, 1, 1};
    replk_depthwise_problem p = replk_depthwise_problem_default();
    p.channels = 8;
    p.height = p.width = 16;
    p.branches = &branch;
    p.branch_count = 1;
    const std::string name = field.name;
    const auto value = static_cast<std::int32_t>(field.value);
    if (name == "batch") p.batch = field.value;
    if (name == "channels") p.channels = value;
    if (name == "height") p.height = value;
    if (name == "width") p.width = value;
    if (name == "kernel") branch.kernel_h = value;
    if (name == "dilation") branch.dilation_w = value;
    if (name == "extent") branch.kernel_h = 63, branch.dilation_h = value;
    if (name == "branches") p.branch_count = value;
    if (name == "pad") p.pad_w = value;
    if (name == "stride") p.stride_h = value;
    if (name == "layout") p.layout = static_cast<replk_layout>(value);
    if (name == "type") p.type = static_cast<replk_type>(value);
    if (name == "numerics") p.numerics = static_cast<replk_numerics>(value);
    if (name == "activation") p.activation = static_cast<replk_activation>(value);
    if (name == "output layout") p.output_layout = value;
    p.explicit_padding = name == "top" || name == "bottom" || name == "left" || name == "right";
    if (name == "top") p.pad_top = value;
    if (name == "bottom") p.pad_bottom = value;
    if (name == "left") p.pad_left = value;
    if (name == "right") p.pad_right = value;
    if (name == "multiplier") p.channel_multiplier = value;
    if (name.starts_with("input")) p.input_strides = {2048, 128, 8, 1};
    if (name == "input pixels") p.input_strides.pixel = field.value;
    if (name == "input rows") p.input_strides.row = field.value;
    if (name == "input images") p.input_strides.image = field.value;
    if (name == "input channels") p.input_strides.channel = field.value;
    if (name.starts_with("output ") && name != "output layout") p.output_strides = {2048, 128, 8, 1};
    if (name == "output pixels") p.output_strides.pixel = field.value;
    if (name == "output images") p.output_strides.image = field.value;
    const Refusal r = refusal(p);
    EXPECT_EQ(r.status, REPLK_INVALID_ARGUMENT) << name << " " << field.value;
    EXPECT_NE(r.message.find(field.message), std::string::npos)
        << name << " " << field.value << ": " << r.message;
    EXPECT_LE(r.bytes, most_for_an_error) << name << " " << field.value;
    all_bytes += r.bytes;
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_GT(all_bytes, 0u) << "the counting itself: messages take some";
#endif
}

TEST(Hostile, ProductsNearThePowersOfTwo) {
  struct Product {
    const char *shape, *message;  // what is wrong with it: "weights" where the product is allowed
  };
  static constexpr Product products[] = {
      {"n1c1h46341w46341k3", "weights"},      // 2^31 elements and a few more
      {"n1c2h32768w32768k3", "weights"},      // 2^31
      {"n1c4h32768w32768k3", "weights"},      // 2^32
      {"n1c32768h65536w65536k3", "weights"},  // 2^47: the most
      {"n1c32769h65536w65536k3", "elements of the input"},
      {"n1048576c1048576h1w1k1", "weights"},                        // 2^40
      {"n1048576c1048576h65536w65536k1", "elements of the input"},  // 2^72
      {"n1048576c1048576h4096w2k1", "elements of the input"},       // 2^53
      {"n524288c524288h8192w16384k63", "elements of the input"},    // 2^65
      {"n2c2h65536w65536k63p62", "weights"},
      {"n1c1h65536w65537k3", "width"},
      {"n1c1h1w1k63p0", "padded height"},  // a kernel beyond the padded map
      {"n1c1h2w2k63p30", "padded height"},
      {"n1c1h9w9k63d64", "dilated kernel"},
      {"n1048577c1h1w1k1", "batch"},
  };
  for (const Product& p : products) {
    const Refusal r = refusal({}, p.shape);
    EXPECT_EQ(r.status, REPLK_INVALID_ARGUMENT) << p.shape;
    EXPECT_NE(r.message.find(p.message), std::string::npos) << p.shape << ": " << r.message;
    EXPECT_LE(r.bytes, most_for_an_error) << p.shape;
  }
}

TEST(Hostile, AThousandRandomOnes) {
  std::mt19937_64 random(8);
  static constexpr std::int64_t edges[] = {INT32_MIN,
                                           -65536,
                                           -2,
                                           -1,
                                           0,
                                           1,
                                           2,
                                           3,
                                           4,
                                           7,
                                           31,
                                           62,
                                           63,
                                           64,
                                           65,
                                           255,
                                           1024,
                                           46341,
                                           65535,
                                           65536,
                                           65537,
                                           1 << 20,
                                           (1 << 20) + 1,
                                           1 << 30,
                                           INT32_MAX};
  const auto any = [&] { return static_cast<std::int32_t>(edges[random() % std::size(edges)]); };
  const auto mostly = [&](std::int32_t usual) { return random() % 3 == 0 ? any() : usual; };
  int refused = 0;
  for (int i = 0; i < 1000; i++) {
    replk_branch branches[16];
    for (replk_branch& b : branches)
      b = {mostly(static_cast<int>(1 + random() % 63)), mostly(3), mostly(1), mostly(1)};
    replk_depthwise_problem p = replk_depthwise_problem_default();
    p.batch = random() % 4 == 0 ? static_cast<std::int64_t>(random()) : mostly(1);
    p.channels = any();
    p.height = any();
    p.width = any();
    p.branches = branches;
    p.branch_count = std::min(mostly(1), 16);
    p.pad_h = mostly(-1);
    p.pad_w = mostly(-1);
    p.stride_h = mostly(1);
    p.stride_w = mostly(2);
    if (random() % 4 == 0) {
      p.explicit_padding = 1;
      p.pad_top = any(), p.pad_bottom = any(), p.pad_left = mostly(0), p.pad_right = mostly(1);
    }
    if (random() % 4 == 0) p.input_strides = {any(), any(), any(), mostly(1)};
    if (random() % 4 == 0)
      p.output_strides = {static_cast<std::int64_t>(random()), static_cast<std::int64_t>(random()), any(),
                          mostly(1)};
    p.output_layout = mostly(-1);
    p.channel_multiplier = mostly(1);
    const Refusal r = refusal(p);
    ASSERT_EQ(r.status, REPLK_INVALID_ARGUMENT) << i;
    ASSERT_FALSE(r.message.empty());
    ASSERT_LE(r.bytes, most_for_an_error) << i << ": " << r.message;
    refused += r.message.find("weights") == std::string::npos;
  }
  EXPECT_GE(refused, 900);
}

TEST(Hostile, AWorkspaceThatIsTooSmallOrCrookedIsRefused) {
  const std::vector<float> ones(9 * 40, 1.0f), src(40 * 196, 1.0f);
  const float* weights[] = {ones.data()};
  replk_depthwise* plan = nullptr;
  ASSERT_EQ(replk_depthwise_create_from_shape("n1c40h14w14k3", weights, nullptr, nullptr, &plan), REPLK_OK);
  std::size_t bytes = 0;
  ASSERT_EQ(replk_depthwise_workspace_bytes(plan, &bytes), REPLK_OK);
  std::vector<float> dst(src.size(), -1.0f);
  alignas(64) static char memory[1 << 20];
  ASSERT_LE(bytes, sizeof memory);
  if (bytes > 0) {
    EXPECT_EQ(replk_depthwise_run(plan, src.data(), dst.data(), nullptr, memory, bytes - 1),
              REPLK_INVALID_ARGUMENT);
  }
  EXPECT_EQ(replk_depthwise_run(plan, src.data(), dst.data(), nullptr, memory + 4, sizeof memory - 64),
            REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_depthwise_run(plan, nullptr, dst.data(), nullptr, nullptr, 0), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_depthwise_run(plan, src.data(), nullptr, nullptr, nullptr, 0), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(dst, std::vector<float>(src.size(), -1.0f));
  replk_depthwise_destroy(plan);
}

}  // namespace

namespace replk::depthwise {
namespace {

/// The largest problems that are allowed: whatever an algorithm says about them is finite, and what it offers
/// it can do. Nothing is run.
TEST(Hostile, TheLargestProblemsOverflowNoAlgorithm) {
  for (const char* shape :
       {"n1c1h46341w46341k3", "n1c1048576h1w2048k1x3", "n1c1048576h2048w1k3x1", "n1c32768h65536w65536k3",
        "n1048576c1h8192w8192k7s2", "n1c65536h2048w2048k13nchw", "n1c65536h2048w2048k7bf16+gelu+residual"}) {
    const Problem p = parse(shape);
    const Request request(p, Pass::forward, plan_features({}), 2);
    for (const Algorithm* algorithm : algorithms())
      for (const Candidate& c : algorithm->candidates(request)) {
        EXPECT_TRUE(algorithm->read(request, c.tiling)) << shape << ": " << c.tiling.to_string();
        EXPECT_TRUE(std::isfinite(c.predicted_seconds) && c.predicted_seconds > 0)
            << shape << ": " << c.tiling.to_string();
      }
    if (static_cast<std::int64_t>(p.channels) * request.kernel.taps() > 1 << 22) continue;
    for (const Algorithm* algorithm : algorithms()) {
      const auto candidates = algorithm->candidates(request);
      if (candidates.empty()) continue;
      const auto executor = algorithm->read(request, candidates.front().tiling)->prepare();
      EXPECT_LE(executor->workspace_bytes(2), std::size_t{2} << 30)
          << shape << ": " << candidates.front().tiling.to_string();
    }
  }
}

/// Every algorithm's choice for one channel of a square map, prepared.
void plan_square(int side, const std::string& kernel_text) {
  const Problem p = parse("n1c1h" + std::to_string(side) + "w" + std::to_string(side) + kernel_text);
  const std::vector<float> weights(63 * 63, 0.5f), bias(1, 0.0f);
  std::vector<std::span<const float>> branches;
  for (const Branch& b : p.branches) branches.emplace_back(weights.data(), b.taps());
  const Request request(p, Pass::forward, plan_features({}), 2);
  for (const Algorithm* algorithm : algorithms()) {
    const auto candidates = algorithm->candidates(request);
    if (candidates.empty()) continue;
    const auto executor = algorithm->read(request, candidates.front().tiling)->prepare();
    executor->set_weights(Weights(p, branches, bias), 1);
  }
}

/// The segments of 65,536 pixels are those of 256, some more often (65,280 is a multiple of both sizes of
/// segments): what a plan of the small map found out serves the large one, which takes 0.1 s of processor
/// time then. The limit is no measure of speed but a trap for work that grows with the map: it took ten
/// seconds once.
TEST(Hostile, TheLargestMapsArePlannedAtOnce) {
  for (const char* kernel : {"k63", "k51x5,5x51", "k63s2", "k63p62", "k16d63"}) {
    plan_square(256, kernel);
    const std::clock_t before = std::clock();
    plan_square(65536, kernel);
    EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 2.0) << kernel;
  }
}

}  // namespace
}  // namespace replk::depthwise
