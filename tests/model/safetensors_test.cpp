#include "model/safetensors.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "core/error.hpp"

namespace replk::model {
namespace {

class Safetensors : public testing::Test {
 protected:
  Safetensors()
      : path_(std::filesystem::temp_directory_path() / ("replk-test-" + std::to_string(::getpid()))) {}
  ~Safetensors() override { std::filesystem::remove(path_); }

  void write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
  static std::string length(std::uint64_t value) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> 8 * i);
    return bytes;
  }
  void write_with_header(const std::string& header, std::size_t data_bytes) {
    write(length(header.size()) + header + std::string(data_bytes, '\0'));
  }
  /// The message with which the file is refused; empty if it is not.
  std::string refusal() {
    try {
      SafetensorsFile file(path_.string());
      for (const auto& [name, tensor] : file.tensors()) {
        std::vector<float> values(static_cast<std::size_t>(elements(tensor.shape)));
        file.read(name, values);
      }
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::bad_file) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      EXPECT_NE(std::string(error.what()).find(path_.string()), std::string::npos) << error.what();
      return error.what();
    }
    return "";
  }
  std::filesystem::path path_;
};

TEST_F(Safetensors, WhatIsWrittenIsReadBack) {
  const std::vector<float> a{1, -2.5f, 3e-40f, INFINITY}, b{7};
  const std::vector<TensorToWrite> tensors{{"a", {2, 2}, a.data()}, {"b", {}, b.data()}};
  write_safetensors(path_.string(), tensors, {{"labels", "cat\ndog"}});
  const SafetensorsFile file(path_.string());
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors().at("a").shape, (Shape{2, 2}));
  std::vector<float> values(4);
  file.read("a", values);
  EXPECT_EQ(values, a);
  EXPECT_EQ(file.metadata().at("labels"), "cat\ndog");
}

TEST_F(Safetensors, AFailedWriteLeavesTheOldFileAndSaysWhy) {
  const std::vector<float> a{1};
  const std::vector<TensorToWrite> tensors{{"a", {1}, a.data()}};
  const std::string nowhere = path_.string() + "/no/such/folder";
  try {
    write_safetensors(nowhere, tensors);
    FAIL() << "wrote into a folder that is not there";
  } catch (const core::Error& error) {
    EXPECT_NE(std::string(error.what()).find(nowhere), std::string::npos);
  }
}

TEST_F(Safetensors, HalvesAndBrainFloatsAreExact) {
  // 1, -2, the largest half, the smallest subnormal half, minus zero; then 1 and -3.140625 as bf16.
  const std::string header =
      R"({"h":{"dtype":"F16","shape":[5],"data_offsets":[0,10]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[10,14]}})";
  const unsigned char data[14] = {0x00, 0x3c, 0x00, 0xc0, 0xff, 0x7b, 0x01,
                                  0x00, 0x00, 0x80, 0x80, 0x3f, 0x49, 0xc0};
  write(length(header.size()) + header + std::string(reinterpret_cast<const char*>(data), 14));
  const SafetensorsFile file(path_.string());
  std::vector<float> halves(5), brains(2);
  file.read("h", halves);
  file.read("b", brains);
  EXPECT_EQ(halves, (std::vector<float>{1, -2, 65504, 0x1p-24f, -0.0f}));
  EXPECT_TRUE(std::signbit(halves[4]));
  EXPECT_EQ(brains, (std::vector<float>{1, -3.140625f}));
}

TEST_F(Safetensors, DoublesAreRoundedAndRefusedBeyondFp32) {
  const std::vector<double> values{1, -0.1, 1e-300, 3.4028234e38, INFINITY};
  std::string header = R"({"d":{"dtype":"F64","shape":[5],"data_offsets":[0,40]}})";
  write(length(header.size()) + header + std::string(reinterpret_cast<const char*>(values.data()), 40));
  std::vector<float> read(5);
  SafetensorsFile(path_.string()).read("d", read);
  EXPECT_EQ(read, (std::vector<float>{1, -0.1f, 0, 3.4028234e38f, INFINITY}));

  const std::size_t many = 10'000;  // more than are read at a time
  std::vector<double> large(many);
  for (std::size_t i = 0; i < many; ++i) large[i] = static_cast<double>(i) / 3;
  header = R"({"d":{"dtype":"F64","shape":[10000],"data_offsets":[0,80000]}})";
  write(length(header.size()) + header + std::string(reinterpret_cast<const char*>(large.data()), 8 * many));
  read.resize(many);
  SafetensorsFile(path_.string()).read("d", read);
  for (std::size_t i = 0; i < many; ++i) ASSERT_EQ(read[i], static_cast<float>(large[i]));
  large[9'999] = 1e39;
  write(length(header.size()) + header + std::string(reinterpret_cast<const char*>(large.data()), 8 * many));
  const std::string message = refusal();
  EXPECT_NE(message.find("'d'[9999] is 1e+39"), std::string::npos) << message;
}

TEST_F(Safetensors, OtherTypesAreCarriedButNotRead) {
  struct Type {
    const char* dtype;
    int bytes;  // of the three elements
  };
  for (const auto& [dtype, bytes] : {Type{"I64", 24}, Type{"BOOL", 3}, Type{"F8_E4M3", 3}, Type{"F8_E8M0", 3},
                                     Type{"C64", 24}, Type{"F4", 2}, Type{"F6_E2M3", 3}, Type{"F99", 5}}) {
    const std::string header = fmt::format(
        R"({{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"n":{{"dtype":"{}","shape":[3],"data_offsets":[4,{}]}}}})",
        dtype, 4 + bytes);
    write_with_header(header, 4 + static_cast<std::size_t>(bytes));
    const SafetensorsFile file(path_.string());
    std::vector<float> value(1), others(3);
    file.read("a", value);
    try {
      file.read("n", others);
      ADD_FAILURE() << dtype << " was read";
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::bad_file);
      EXPECT_NE(std::string(error.what()).find(std::string("'n': dtype ") + dtype), std::string::npos);
    }
  }
}

TEST_F(Safetensors, AMissingFileIsNotFound) {
  try {
    SafetensorsFile file("/no/such/file.safetensors");
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::not_found);
  }
  EXPECT_THROW(SafetensorsFile("/"), core::Error);
  EXPECT_THROW(SafetensorsFile("/dev/zero"), core::Error);
}

struct Hostile {
  const char* header;
  std::size_t data_bytes;
  const char* says;  // part of the message
};

class HostileHeader : public Safetensors, public testing::WithParamInterface<Hostile> {};

TEST_P(HostileHeader, IsRefused) {
  write_with_header(GetParam().header, GetParam().data_bytes);
  const std::string message = refusal();
  EXPECT_NE(message.find(GetParam().says), std::string::npos) << "said: " << message;
}

INSTANTIATE_TEST_SUITE_P(
    Headers, HostileHeader,
    testing::Values(
        Hostile{R"([])", 0, "begin"}, Hostile{R"({"a":)", 0, "JSON"}, Hostile{R"({"a":1})", 0, "'a'"},
        Hostile{R"({} {})", 0, "JSON"}, Hostile{R"({"a":{}})", 0, "needed"},
        Hostile{
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
            4, "twice"},
        Hostile{R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", 4, "twice"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":"y"}})", 4, "unknown field"},
        Hostile{R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4, "dtype"},
        Hostile{R"({"a":{"dtype":"F99","shape":[4611686018427387904],"data_offsets":[0,4]}})", 4, "2^48"},
        Hostile{R"({"a":{"dtype":"F99","shape":[281474976710656,4096],"data_offsets":[0,4]}})", 4, "needs"},
        Hostile{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "needs 8"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 4, "outside 0..4"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "outside"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8, "cover 4"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "hole"},
        Hostile{
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
            4, "overlap"},
        Hostile{R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "negative"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, "whole"},
        Hostile{R"({"a":{"dtype":"F32","shape":[281474976710656,281474976710656],"data_offsets":[0,4]}})", 4,
                "2^64"},
        Hostile{R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4, "2^48"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4,
                "more than 8"},
        Hostile{R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, "list"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "data_offsets"},
        Hostile{R"({"a":{"dtype":"F32","shape":[{}],"data_offsets":[0,4]}})", 4, "nested"},
        Hostile{R"({"a":{"dtype":null,"shape":[1],"data_offsets":[0,4]}})", 4, "null"},
        Hostile{R"({"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}})", 4, "I32"},
        Hostile{R"({"__metadata__":{"a":1}})", 0, "number"},
        Hostile{R"({"__metadata__":{"a":{}}})", 0, "nested"},
        Hostile{R"({"__metadata__":{"a":"1","a":"2"}})", 0, "twice"},
        Hostile{R"({"__metadata__":{},"__metadata__":{}})", 0, "twice"}));

TEST_F(Safetensors, LengthsBeyondTheFileAreRefusedBeforeMemoryIsTaken) {
  write("");
  EXPECT_NE(refusal().find("0 bytes"), std::string::npos);
  write("just some text, which is not a network");
  EXPECT_NE(refusal().find("header length"), std::string::npos);
  write(length(3ull << 30) + "{}");
  EXPECT_NE(refusal().find("3221225472"), std::string::npos);
  write(length(~0ull) + "{}");
  EXPECT_NE(refusal().find("header length"), std::string::npos);
}

TEST_F(Safetensors, CountsAndNamesHaveLimits) {
  std::string header = "{";
  for (std::size_t i = 0; i <= SafetensorsLimits::tensors; ++i)
    header += (i ? "," : "") + ("\"t" + std::to_string(i)) +
              R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  write_with_header(header + "}", 0);
  EXPECT_NE(refusal().find("10000"), std::string::npos);
  write_with_header("{\"" + std::string(513, 'n') + R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
                    0);
  EXPECT_NE(refusal().find("513"), std::string::npos);
  write_with_header(std::string(100'000, '['), 0);
  EXPECT_FALSE(refusal().empty());
  write_with_header("{\"a\":" + std::string(100'000, '['), 0);
  EXPECT_FALSE(refusal().empty());
}

TEST_F(Safetensors, EveryTruncationAndManyDamagedBytesAreRefusedOrHarmless) {
  const std::vector<float> a(16, 1.0f), b(8, 2.0f);
  const std::vector<TensorToWrite> tensors{{"first", {4, 4}, a.data()}, {"second", {8}, b.data()}};
  write_safetensors(path_.string(), tensors);
  std::ifstream in(path_, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  for (std::size_t size = 0; size < good.size(); ++size) {
    write(good.substr(0, size));
    EXPECT_FALSE(refusal().empty()) << "cut to " << size;
  }
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    std::string bad = good;
    for (int flips = 1 + i % 3; flips > 0; --flips)
      bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
    write(bad);
    refusal();
  }
}

}  // namespace
}  // namespace replk::model
