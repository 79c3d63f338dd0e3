// The C API and its C++ wrapper, through the shared library's front alone.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/log.hpp"
#include "replk/replk.h"
#include "replk/replk.hpp"

namespace {

/// A plan of `shape` with all weights one and no bias.
replk_depthwise* ones(const char* shape, int weights, replk_status expected = REPLK_OK,
                      const char* tiling = nullptr) {
  const std::vector<float> w(weights, 1.0f);
  const float* pointers[] = {w.data(), w.data(), w.data()};
  replk_depthwise_options options = replk_depthwise_options_default();
  options.threads = 1;
  options.tiling = tiling;
  replk_depthwise* plan = nullptr;
  EXPECT_EQ(replk_depthwise_create_from_shape(shape, pointers, nullptr, &options, &plan), expected) << shape;
  EXPECT_EQ(plan != nullptr, expected == REPLK_OK);
  return plan;
}

TEST(Api, StatusesHaveNames) {
  EXPECT_STREQ(replk_status_string(REPLK_OK), "ok");
  EXPECT_STREQ(replk_status_string(REPLK_CANCELLED), "cancelled");
  EXPECT_STREQ(replk_status_string(static_cast<replk_status>(99)), "unknown status");
}

TEST(Api, TellsTheMachine) {
  replk_cpu_info info{};
  info.struct_size = sizeof(info);
  ASSERT_EQ(replk_get_cpu_info(&info), REPLK_OK);
  EXPECT_GE(info.cores, 1);
  EXPECT_EQ(info.cores, replk_default_threads());
  EXPECT_LE(info.isa, info.hardware);
  EXPECT_NE(info.vendor[0], 0);
  EXPECT_EQ((info.features & REPLK_FEATURE_AVX2) != 0, info.isa >= REPLK_ISA_AVX2);
  EXPECT_EQ((info.features & REPLK_FEATURE_AVX512) != 0, info.isa >= REPLK_ISA_AVX512);
  // A program that was built with the first header has no room for features.
  replk_cpu_info old{};
  old.struct_size = offsetof(replk_cpu_info, features);
  old.features = 0xabcd;
  ASSERT_EQ(replk_get_cpu_info(&old), REPLK_OK);
  EXPECT_EQ(old.features, 0xabcdu);
  EXPECT_EQ(old.l1d_bytes, info.l1d_bytes);
  EXPECT_EQ(old.struct_size, offsetof(replk_cpu_info, features));
  info.struct_size = offsetof(replk_cpu_info, features) - 1;
  EXPECT_EQ(replk_get_cpu_info(&info), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_get_cpu_info(nullptr), REPLK_INVALID_ARGUMENT);
}

TEST(Api, CountsTheTapsOfOnes) {
  replk_depthwise* plan = ones("n1c3h5w4k3exact", 27);
  std::int32_t height = 0, width = 0;
  ASSERT_EQ(replk_depthwise_output_size(plan, &height, &width), REPLK_OK);
  EXPECT_EQ(height, 5);
  EXPECT_EQ(width, 4);
  EXPECT_STREQ(replk_depthwise_shape(plan), "n1c3h5w4k3exact");
  EXPECT_NE(replk_depthwise_tiling(plan)[0], 0);
  EXPECT_NE(replk_depthwise_source(plan)[0], 0);
  const std::vector<float> src(60, 1.0f);
  std::vector<float> dst(60, -1.0f);
  ASSERT_EQ(replk_depthwise_run(plan, src.data(), dst.data(), nullptr, nullptr, 0), REPLK_OK);
  for (int y = 0; y < 5; y++)
    for (int x = 0; x < 4; x++)
      for (int c = 0; c < 3; c++)
        EXPECT_EQ(dst[(y * 4 + x) * 3 + c], (y % 4 ? 3.0f : 2.0f) * (x % 3 ? 3.0f : 2.0f));
  replk_depthwise_destroy(plan);
}

TEST(Api, TakesTheCallersWorkspace) {
  replk_depthwise* plan = ones("n1c24h9w9k5nchwexact", 600);
  std::size_t bytes = 0;
  ASSERT_EQ(replk_depthwise_workspace_bytes(plan, &bytes), REPLK_OK);
  std::vector<char> memory(bytes + 128);
  char* aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64);
  const std::vector<float> src(24 * 81, 1.0f);
  std::vector<float> own(24 * 81), kept(24 * 81);
  EXPECT_EQ(replk_depthwise_run(plan, src.data(), own.data(), nullptr, aligned, bytes), REPLK_OK);
  EXPECT_EQ(replk_depthwise_run(plan, src.data(), kept.data(), nullptr, nullptr, 0), REPLK_OK);
  EXPECT_EQ(own, kept);
  EXPECT_EQ(own[40], 25.0f);
  if (bytes > 0) {
    EXPECT_EQ(replk_depthwise_run(plan, src.data(), own.data(), nullptr, aligned, bytes - 1),
              REPLK_INVALID_ARGUMENT);
    EXPECT_EQ(replk_depthwise_run(plan, src.data(), own.data(), nullptr, aligned + 4, bytes),
              REPLK_INVALID_ARGUMENT);
  }
  replk_depthwise_destroy(plan);
}

TEST(Api, NamesWhatIsWrong) {
  EXPECT_EQ(ones("n1c3h5w4k99", 27, REPLK_INVALID_ARGUMENT), nullptr);
  EXPECT_STREQ(replk_last_error(), "kernel height (k) is 99; allowed: 1 to 63");
  ones("nonsense", 27, REPLK_INVALID_ARGUMENT);
  EXPECT_NE(std::string(replk_last_error()).find("position"), std::string::npos);
  ones("n1c3h5w4k3", 27, REPLK_INVALID_ARGUMENT, "nonsense rows=2");
  EXPECT_NE(std::string(replk_last_error()).find("nonsense"), std::string::npos);
  ones(nullptr, 27, REPLK_INVALID_ARGUMENT);
  const float* none[] = {nullptr};
  replk_depthwise* plan = nullptr;
  EXPECT_EQ(replk_depthwise_create_from_shape("n1c3h5w4k3", none, nullptr, nullptr, &plan),
            REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_depthwise_create_from_shape("n1c3h5w4k3", none, nullptr, nullptr, nullptr),
            REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_depthwise_run(nullptr, nullptr, nullptr, nullptr, nullptr, 0), REPLK_INVALID_ARGUMENT);
  plan = ones("n1c1h3w3k3+residual", 9);
  float image[9] = {};
  EXPECT_EQ(replk_depthwise_run(plan, image, image + 0, nullptr, nullptr, 0), REPLK_INVALID_ARGUMENT);
  EXPECT_NE(std::string(replk_last_error()).find("residual is null"), std::string::npos);
  replk_depthwise_destroy(plan);
  replk_depthwise_destroy(nullptr);
  EXPECT_STREQ(replk_depthwise_shape(nullptr), "");
}

TEST(Api, ErrorsAreOfTheThread) {
  ones("here", 9, REPLK_INVALID_ARGUMENT);
  std::thread([] {
    EXPECT_STREQ(replk_last_error(), "");
    ones("there", 9, REPLK_INVALID_ARGUMENT);
    EXPECT_NE(std::string(replk_last_error()).find("there"), std::string::npos);
  }).join();
  EXPECT_NE(std::string(replk_last_error()).find("'here'"), std::string::npos);
}

TEST(Api, ReadsAProblemAndChecksEveryField) {
  const replk_branch branches[] = {{5, 3, 1, 1}, {3, 3, 1, 1}};
  replk_depthwise_problem p = replk_depthwise_problem_default();
  p.channels = 2;
  p.height = p.width = 6;
  p.branches = branches;
  p.branch_count = 2;
  p.numerics = REPLK_EXACT;
  p.activation = REPLK_RELU;
  const std::vector<float> w(30, 1.0f);
  const float* weights[] = {w.data(), w.data()};
  replk_depthwise* plan = nullptr;
  ASSERT_EQ(replk_depthwise_create(&p, weights, nullptr, nullptr, &plan), REPLK_OK) << replk_last_error();
  EXPECT_STREQ(replk_depthwise_shape(plan), "n1c2h6w6k5x3,3exact+relu");
  replk_depthwise_destroy(plan);

  const auto refused = [&](auto change, const char* word) {
    replk_depthwise_problem wrong = p;
    change(wrong);
    EXPECT_EQ(replk_depthwise_create(&wrong, weights, nullptr, nullptr, &plan), REPLK_INVALID_ARGUMENT)
        << word;
    EXPECT_NE(std::string(replk_last_error()).find(word), std::string::npos) << replk_last_error();
  };
  using Problem = replk_depthwise_problem;
  refused([](Problem& q) { q.struct_size = 8; }, "struct_size");
  refused([](Problem& q) { q.batch = 0; }, "batch");
  refused([](Problem& q) { q.channels = -1; }, "channels");
  refused([](Problem& q) { q.channels = INT32_MIN, q.channel_multiplier = 4; },
          "channels (c) is -2147483648");
  refused([](Problem& q) { q.branches = nullptr; }, "branches");
  refused([](Problem& q) { q.branch_count = 1 << 30; }, "branch_count");
  refused([](Problem& q) { q.pad_h = -2; }, "padding");
  refused([](Problem& q) { q.stride_w = 17; }, "stride");
  refused([](Problem& q) { q.layout = static_cast<replk_layout>(7); }, "layout");
  refused([](Problem& q) { q.type = static_cast<replk_type>(-1); }, "type");
  const replk_branch huge[] = {{2147483647, 3, 2147483647, 1}, {3, 3, 1, 1}};
  refused([&](Problem& q) { q.branches = huge; }, "kernel height");

  // From a newer header: fine while the fields that this library does not know are zero.
  struct {
    replk_depthwise_problem problem;
    std::int64_t news;
  } longer{p, 0};
  longer.problem.struct_size = sizeof(longer);
  EXPECT_EQ(replk_depthwise_create(&longer.problem, weights, nullptr, nullptr, &plan), REPLK_OK);
  replk_depthwise_destroy(plan);
  longer.news = 1;
  EXPECT_EQ(replk_depthwise_create(&longer.problem, weights, nullptr, nullptr, &plan), REPLK_UNSUPPORTED);
}

TEST(Api, RunsOnTheCallersPool) {
  static std::atomic<int> rounds, tasks;
  rounds = tasks = 0;
  ASSERT_EQ(replk_set_thread_pool(
                [](int count, replk_task task, void* context, void* user) {
                  EXPECT_EQ(user, &rounds);
                  rounds++;
                  std::vector<std::thread> threads;
                  for (int i = 0; i < count; i++, tasks++) threads.emplace_back(task, i, context);
                  for (std::thread& t : threads) t.join();
                },
                &rounds),
            REPLK_OK);
  const std::vector<float> w(64 * 9, 1.0f);
  const float* weights[] = {w.data()};
  replk_depthwise_options options = replk_depthwise_options_default();
  options.threads = 3;
  options.algorithm = "portable";
  replk_depthwise* plan = nullptr;
  ASSERT_EQ(replk_depthwise_create_from_shape("n1c64h20w20k3exact", weights, nullptr, &options, &plan),
            REPLK_OK);
  const std::vector<float> src(64 * 400, 1.0f);
  std::vector<float> dst(64 * 400);
  EXPECT_EQ(replk_depthwise_run(plan, src.data(), dst.data(), nullptr, nullptr, 0), REPLK_OK);
  EXPECT_EQ(replk_set_thread_pool(nullptr, nullptr), REPLK_OK);
  EXPECT_EQ(dst[64 * 21], 9.0f);
  EXPECT_GT(rounds, 0);
  EXPECT_GE(tasks, rounds);
  replk_depthwise_destroy(plan);
}

TEST(Api, TalksThroughTheCallback) {
  using Lines = std::vector<std::pair<replk_log_level, std::string>>;
  Lines lines;
  const auto talk = [] {  // as the library does
    replk::core::log(replk::core::LogLevel::warning, "kernel {}x{}", 31, 5);
    replk::core::log(replk::core::LogLevel::info, "told");
    replk::core::log(replk::core::LogLevel::debug, "more");
  };
  EXPECT_EQ(
      replk_set_log_callback([](replk_log_level level, const char* message,
                                void* user) { static_cast<Lines*>(user)->emplace_back(level, message); },
                             &lines),
      REPLK_OK);
  talk();
  EXPECT_EQ(replk_set_log_callback(nullptr, nullptr), REPLK_OK);
  talk();
  EXPECT_EQ(lines,
            (Lines{{REPLK_LOG_WARNING, "kernel 31x5"}, {REPLK_LOG_INFO, "told"}, {REPLK_LOG_DEBUG, "more"}}));
}

TEST(Cpp, WrapsTheSame) {
  const std::vector<float> w(4 * 9, 1.0f), bias(4, 0.5f), src(4 * 36, 1.0f);
  std::vector<float> dst(4 * 36);
  const replk_branch branch{3, 3, 1, 1};
  replk_depthwise_problem p = replk_depthwise_problem_default();
  p.channels = 4;
  p.height = p.width = 6;
  p.branches = &branch;
  p.branch_count = 1;
  const std::span<const float> weights[] = {w};
  replk::Depthwise conv(p, weights, bias);
  EXPECT_EQ(conv.output_size(), std::pair(6, 6));
  conv.run(src.data(), dst.data());
  EXPECT_NEAR(dst[0], 4.5f, 1e-5f);
  replk::Depthwise moved = std::move(conv);
  moved.run(src.data(), dst.data());
  EXPECT_NEAR(dst[4 * 7], 9.5f, 1e-5f);
  EXPECT_EQ(moved.shape(), "n1c4h6w6k3");

  replk::Depthwise again("n1c4h6w6k3exact", {w.data()}, bias.data(),
                         {.threads = 1, .algorithm = "portable", .tiling = {}});
  EXPECT_EQ(again.tiling(), "portable");
  const std::span<const float> too_few[] = {std::span(w).first(5)};
  EXPECT_THROW(replk::Depthwise(p, too_few, bias), replk::Error);
  try {
    replk::Depthwise wrong("n1c4h6w6k64", {w.data()});
    ADD_FAILURE() << "accepted";
  } catch (const replk::Error& e) {
    EXPECT_EQ(e.status(), REPLK_INVALID_ARGUMENT);
    EXPECT_NE(std::string(e.what()).find("64"), std::string::npos);
  }
  EXPECT_GE(replk::cpu_info().cores, 1);
}

}  // namespace
