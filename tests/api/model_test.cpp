// Networks through the C API and its C++ wrapper.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "replk/replk.hpp"

namespace {

const char nano[] = "replknet-test";

std::vector<float> image(int height, int width, float phase = 0) {
  std::vector<float> pixels(static_cast<std::size_t>(height) * width * 3);
  for (std::size_t i = 0; i < pixels.size(); i++)
    pixels[i] = std::sin(0.37f * static_cast<float>(i % 9973) + phase);
  return pixels;
}

TEST(ModelApi, LoadsTellsAndRuns) {
  replk_model* model = nullptr;
  ASSERT_EQ(replk_model_load(nano, nullptr, nullptr, &model), REPLK_OK) << replk_last_error();
  replk_model_info info{};
  info.struct_size = sizeof(info);
  ASSERT_EQ(replk_model_get_info(model, &info), REPLK_OK);
  EXPECT_EQ(info.classes, 1000);
  EXPECT_EQ(info.size, 224);
  EXPECT_FLOAT_EQ(info.mean[0], 0.485f);
  EXPECT_GT(info.weight_bytes, 1000000u);
  EXPECT_STREQ(replk_model_label(model, 0), "") << "random weights have no labels";
  std::int32_t channels = 0, height = 0, width = 0;
  ASSERT_EQ(replk_model_feature_shape(model, 1, 64, 96, &channels, &height, &width), REPLK_OK);
  EXPECT_EQ(channels, 32);
  EXPECT_EQ(height, 8);
  EXPECT_EQ(width, 12);

  const std::vector<float> pixels = image(64, 96);
  std::vector<float> logits(1000), again(1000), stage(32 * 8 * 12);
  float* features[4] = {nullptr, stage.data(), nullptr, nullptr};
  ASSERT_EQ(replk_model_prepare(model, 1, 64, 96), REPLK_OK);
  ASSERT_EQ(replk_model_run(model, pixels.data(), 1, 64, 96, logits.data(), nullptr, nullptr), REPLK_OK);
  ASSERT_EQ(replk_model_run(model, pixels.data(), 1, 64, 96, again.data(), features, nullptr), REPLK_OK);
  EXPECT_EQ(logits, again);
  EXPECT_NE(logits, std::vector<float>(1000));
  EXPECT_NE(stage, std::vector<float>(stage.size()));
  replk_model_destroy(model);
  replk_model_destroy(nullptr);
}

/// Tasks one after another, the last one first, and counted.
void backwards(int count, replk_task task, void* context, void* user) {
  for (int i = count - 1; i >= 0; i--) task(i, context);
  *static_cast<int*>(user) += count;
}

TEST(ModelApi, RunsOnThePoolOfARun) {
  replk_model* model = nullptr;
  replk_model_options options = replk_model_options_default();
  options.threads = 3;
  ASSERT_EQ(replk_model_load(nano, nullptr, &options, &model), REPLK_OK) << replk_last_error();
  const std::vector<float> pixels = image(64, 96);
  std::vector<float> logits(1000), again(1000);
  ASSERT_EQ(replk_model_run(model, pixels.data(), 1, 64, 96, logits.data(), nullptr, nullptr), REPLK_OK);
  int tasks = 0;
  replk_model_run_options run = replk_model_run_options_default();
  run.pool = backwards;
  run.user = &tasks;
  const auto with = [&] {
    return replk_model_run_with(model, pixels.data(), 1, 64, 96, again.data(), nullptr, &run);
  };
  ASSERT_EQ(with(), REPLK_OK) << replk_last_error();
  EXPECT_EQ(logits, again);
  EXPECT_GT(tasks, 0);
  run.struct_size = 4;
  EXPECT_EQ(with(), REPLK_INVALID_ARGUMENT);
  EXPECT_NE(std::string(replk_last_error()).find("options.struct_size is 4"), std::string::npos);
  EXPECT_EQ(replk_model_run_with(model, pixels.data(), 1, 64, 96, again.data(), nullptr, nullptr), REPLK_OK);
  replk_model_destroy(model);
}

TEST(ModelApi, WrongUseIsAStatusAndALine) {
  replk_model* model = reinterpret_cast<replk_model*>(1);
  EXPECT_EQ(replk_model_load("resnet-50", nullptr, nullptr, &model), REPLK_NOT_FOUND);
  EXPECT_EQ(model, nullptr);
  EXPECT_NE(std::string(replk_last_error()).find("resnet-50"), std::string::npos);
  EXPECT_EQ(replk_model_load(nullptr, nullptr, nullptr, &model), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_model_load(nano, nullptr, nullptr, nullptr), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_model_load(nano, "/no/such/file", nullptr, &model), REPLK_NOT_FOUND);
  const std::string other = std::string(REPLK_GOLDENS) + "/slak.safetensors";
  EXPECT_EQ(replk_model_load(nano, other.c_str(), nullptr, &model), REPLK_BAD_FILE) << replk_last_error();
  replk_model_options options = replk_model_options_default();
  options.threads = -1;
  EXPECT_EQ(replk_model_load(nano, nullptr, &options, &model), REPLK_INVALID_ARGUMENT);
  options = replk_model_options_default();
  options.struct_size = 4;
  EXPECT_EQ(replk_model_load(nano, nullptr, &options, &model), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_model_run(nullptr, nullptr, 1, 32, 32, nullptr, nullptr, nullptr), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_model_prepare(nullptr, 1, 32, 32), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_cancel_create(nullptr), REPLK_INVALID_ARGUMENT);
  EXPECT_STREQ(replk_model_label(nullptr, 0), "");

  ASSERT_EQ(replk_model_load(nano, nullptr, nullptr, &model), REPLK_OK);
  std::vector<float> logits(1000);
  EXPECT_EQ(replk_model_run(model, nullptr, 1, 32, 32, logits.data(), nullptr, nullptr),
            REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_model_run(model, logits.data(), 1, 31, 32, logits.data(), nullptr, nullptr),
            REPLK_INVALID_ARGUMENT);
  EXPECT_NE(std::string(replk_last_error()).find("31"), std::string::npos);
  replk_model_destroy(model);
}

/// The status of a picture in memory, read at 32x32; its memory ends where it ends.
replk_status read_encoded(const replk_model* model, std::vector<std::uint8_t> bytes,
                          std::vector<float>* pixels) {
  bytes.shrink_to_fit();
  pixels->assign(32 * 32 * 3, -99.0f);
  return replk_model_read_encoded(model, bytes.data(), bytes.size(), "tar/7.png", 32, 32, pixels->data());
}

TEST(ModelApi, APictureInMemoryIsItsFile) {
  const std::string path = REPLK_EXAMPLES "/fashion-mnist/0000-ankle-boot.png";
  std::ifstream file(path, std::ios::binary);
  const std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
  replk_model* model = nullptr;
  ASSERT_EQ(replk_model_load(nano, nullptr, nullptr, &model), REPLK_OK);
  std::vector<float> expected(32 * 32 * 3), pixels;
  ASSERT_EQ(replk_model_read_image(model, path.c_str(), 32, 32, expected.data()), REPLK_OK)
      << replk_last_error();
  ASSERT_EQ(read_encoded(model, bytes, &pixels), REPLK_OK) << replk_last_error();
  EXPECT_EQ(pixels, expected);

  // Cut anywhere, it is refused, or (without what stands behind the pixels) read as it is whole.
  int refused = 0;
  for (std::size_t size = 0; size < bytes.size(); size++) {
    if (read_encoded(model, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}, &pixels) ==
        REPLK_OK) {
      EXPECT_EQ(pixels, expected) << size;
      continue;
    }
    refused++;
    EXPECT_EQ(std::string(replk_last_error()).rfind("tar/7.png: ", 0), 0u) << replk_last_error();
  }
  EXPECT_GT(refused, static_cast<int>(bytes.size()) * 3 / 4);
  // Any byte wrong: an error or a picture, never more.
  for (std::size_t i = 0; i < bytes.size(); i++) {
    std::vector<std::uint8_t> wrong = bytes;
    wrong[i] ^= 0xa5;
    const replk_status status = read_encoded(model, wrong, &pixels);
    EXPECT_TRUE(status == REPLK_OK || status == REPLK_BAD_FILE) << i << ": " << replk_last_error();
  }

  const auto refuses = [&](replk_status status, const void* from, std::size_t size, const char* name,
                           const char* word) {
    EXPECT_EQ(replk_model_read_encoded(model, from, size, name, 32, 32, pixels.data()), status);
    EXPECT_NE(std::string(replk_last_error()).find(word), std::string::npos) << replk_last_error();
  };
  refuses(REPLK_BAD_FILE, nullptr, 0, "x", "empty");
  refuses(REPLK_BAD_FILE, bytes.data(), (std::size_t{64} << 20) + 1, "x", "67108864");
  refuses(REPLK_BAD_FILE, bytes.data(), SIZE_MAX, "x", "67108864");
  refuses(REPLK_INVALID_ARGUMENT, nullptr, 7, "x", "bytes");
  refuses(REPLK_INVALID_ARGUMENT, bytes.data(), bytes.size(), nullptr, "name");
  EXPECT_EQ(replk_model_read_encoded(nullptr, bytes.data(), bytes.size(), "x", 32, 32, pixels.data()),
            REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_model_read_encoded(model, bytes.data(), bytes.size(), "x", 32, 32, nullptr),
            REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_model_read_encoded(model, bytes.data(), bytes.size(), "x", 0, 32, pixels.data()),
            REPLK_INVALID_ARGUMENT);
  replk_model_destroy(model);
}

TEST(ModelApi, ProgressIsToldAndCancels) {
  replk_model_options options = replk_model_options_default();
  double last = -1;
  options.progress_user = &last;
  options.progress = [](double fraction, void* user) {
    *static_cast<double*>(user) = fraction;
    return fraction > 0.5 ? 1 : 0;
  };
  replk_model* model = nullptr;
  EXPECT_EQ(replk_model_load(nano, nullptr, &options, &model), REPLK_CANCELLED);
  EXPECT_EQ(model, nullptr);
  EXPECT_GT(last, 0.5);
  EXPECT_LT(last, 1.0);
}

TEST(ModelApi, ABatchIsItsImages) {
  replk::Model model(nano);
  const std::vector<float> first = image(64, 32), second = image(64, 32, 1);
  std::vector<float> both = first;
  both.insert(both.end(), second.begin(), second.end());
  const std::vector<float> logits = model.classify(both, 2, 64, 32);
  std::vector<float> alone = model.classify(first, 1, 64, 32);
  const std::vector<float> other = model.classify(second, 1, 64, 32);
  ASSERT_NE(alone, other);
  alone.insert(alone.end(), other.begin(), other.end());
  ASSERT_EQ(logits.size(), alone.size());
  float largest = 0;
  for (float value : alone) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < logits.size(); i++) ASSERT_NEAR(logits[i], alone[i], 1e-5f * largest) << i;
}

TEST(ModelApi, AnotherThreadStopsRunsThatAreUnderWay) {
  replk::Model::Options options;
  options.threads = 1;
  replk::Model model(nano, {}, options);
  const std::vector<float> pixels = image(96, 96);
  replk::Cancel cancel;
  std::atomic<int> runs{0}, stopped{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; t++)
    threads.emplace_back([&] {
      try {
        for (;;) {
          model.classify(pixels, 1, 96, 96, &cancel);
          runs++;
        }
      } catch (const replk::Error& error) {
        stopped += error.status() == REPLK_CANCELLED;
      }
    });
  while (runs < 3) std::this_thread::yield();
  cancel.request();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stopped, 3);
}

TEST(ModelApi, CppWrapperRunsFromManyThreadsAndCancels) {
  replk::Model::Options options;
  options.threads = 1;
  replk::Model model(nano, {}, options);
  const std::vector<float> pixels = image(48, 40);
  const std::vector<float> expected = model.classify(pixels, 1, 48, 40);
  ASSERT_EQ(expected.size(), 1000u);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([&] { wrong += model.classify(pixels, 1, 48, 40) != expected; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(model.features(pixels, 1, 48, 40)[3].size(), 128u * 2 * 2);

  replk::Cancel cancel;
  cancel.request();
  try {
    model.classify(pixels, 1, 48, 40, &cancel);
    FAIL() << "not cancelled";
  } catch (const replk::Error& error) {
    EXPECT_EQ(error.status(), REPLK_CANCELLED);
  }
  cancel.request(false);
  EXPECT_EQ(model.classify(pixels, 1, 48, 40, &cancel), expected);
  EXPECT_THROW(model.classify(pixels, 1, 48, 41), replk::Error) << "too few pixels";

  options.progress = [](double) -> bool { throw std::runtime_error("from the callback"); };
  EXPECT_THROW(
      try { replk::Model(nano, {}, options); } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "from the callback");
        throw;
      },
      std::runtime_error);
}

}  // namespace
