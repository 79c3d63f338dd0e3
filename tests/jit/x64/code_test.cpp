#include "jit/x64/code.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

namespace replk::jit {
namespace {

using Bytes = std::vector<std::uint8_t>;

// mov eax, value; ret; then `padding` bytes that only take room
Bytes returning(int value, std::size_t padding = 0) {
  Bytes code(6 + padding, 0xcc);
  code[0] = 0xb8;
  std::memcpy(&code[1], &value, 4);
  code[5] = 0xc3;
  return code;
}

int call(const Code& code) {
  return code.entry<int (*)()>()();
}

std::string protection_of(const void* address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t low, high;
    char permissions[5];
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &low, &high, permissions) == 3 &&
        low <= reinterpret_cast<std::uintptr_t>(address) && reinterpret_cast<std::uintptr_t>(address) < high)
      return permissions;
  }
  return "unmapped";
}

TEST(Code, Runs) {
  EXPECT_EQ(call(Code(returning(42))), 42);
  EXPECT_EQ(call(Code(returning(-7, 10000))), -7);
}

TEST(Code, IsExecutableAndNotWritable) {
  const Code code(returning(1));
  EXPECT_EQ(protection_of(code.bytes().data()), "r-xp");
}

TEST(Code, KeepsItsBytes) {
  const Bytes bytes = returning(5, 5000);
  const Code code(bytes);
  EXPECT_EQ(Bytes(code.bytes().begin(), code.bytes().end()), bytes);
}

class CodeCache : public testing::Test {
 protected:
  void SetUp() override {
    if (!code_allowed()) GTEST_SKIP() << "this system forbids executable memory";
    set_code_cache_capacity(0);  // what no test holds goes
    set_code_cache_capacity(64 << 20);
  }
  void TearDown() override { set_code_cache_capacity(64 << 20); }
};

TEST_F(CodeCache, GeneratesASpecOnce) {
  int generated = 0;
  const auto generate = [&] { return generated++, returning(3); };
  const auto before = code_cache_statistics();
  const auto a = get_code("once", generate), b = get_code("once", generate);
  EXPECT_EQ(a, b);
  EXPECT_EQ(generated, 1);
  EXPECT_EQ(code_cache_statistics().misses, before.misses + 1);
  EXPECT_EQ(code_cache_statistics().hits, before.hits + 1);
  EXPECT_EQ(call(*get_code("other", [] { return returning(4); })), 4);
}

TEST_F(CodeCache, GeneratesASpecOnceForManyThreads) {
  std::atomic<int> generated = 0;
  std::vector<std::shared_ptr<const Code>> codes(8);
  std::vector<std::thread> threads;
  for (auto& code : codes)
    threads.emplace_back([&] {
      code = get_code("threads", [&] {
        generated++;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the others arrive meanwhile
        return returning(9);
      });
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(generated, 1);
  EXPECT_EQ(std::set(codes.begin(), codes.end()).size(), 1u);
}

TEST_F(CodeCache, AFailedGenerationLeavesNothingBehind) {
  const auto before = code_cache_statistics().entries;
  EXPECT_THROW(get_code("fails", []() -> Bytes { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_EQ(code_cache_statistics().entries, before);
  EXPECT_EQ(call(*get_code("fails", [] { return returning(1); })), 1);
}

TEST_F(CodeCache, AGeneratorMayAskForOtherCode) {
  const auto code =
      get_code("outer", [] { return returning(1 + call(*get_code("inner", [] { return returning(6); }))); });
  EXPECT_EQ(call(*code), 7);
}

TEST_F(CodeCache, DropsTheLeastRecentlyUsedFirst) {
  const Bytes page = returning(0, 1000);  // a page is the least that code takes
  set_code_cache_capacity(3 * 4096);
  std::multiset<std::string> generated;
  const auto get = [&](const std::string& spec) {
    get_code(spec, [&] { return generated.insert(spec), page; });
  };
  for (const char* spec : {"lru a", "lru b", "lru c", "lru a", "lru d"}) get(spec);  // d takes b's room
  EXPECT_EQ(code_cache_statistics().bytes, 3u * 4096);
  for (const char* spec : {"lru a", "lru c", "lru d"}) get(spec);
  EXPECT_EQ(generated.size(), 4u);
  get("lru b");
  EXPECT_EQ(generated.count("lru b"), 2u);
}

TEST_F(CodeCache, KeepsWhatIsInUse) {
  set_code_cache_capacity(0);
  const auto held = get_code("held", [] { return returning(11); });
  for (int i = 0; i < 10; i++) get_code("passing " + std::to_string(i), [] { return returning(0); });
  set_code_cache_capacity(0);
  EXPECT_EQ(code_cache_statistics().entries, 1u);
  EXPECT_EQ(call(*held), 11);
  EXPECT_EQ(get_code("held", [] { return returning(12); }), held);
}

TEST_F(CodeCache, DumpsNewCodeWhereItIsTold) {
  const auto directory = std::filesystem::temp_directory_path() / ("replk_dump_" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  setenv("REPLK_DUMP_DIR", directory.c_str(), 1);
  get_code("a spec to dump", [] { return returning(77); });
  unsetenv("REPLK_DUMP_DIR");
  std::set<std::string> contents;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::ifstream file(entry.path(), std::ios::binary);
    contents.emplace(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::filesystem::remove_all(directory);
  const Bytes code = returning(77);
  EXPECT_EQ(contents, (std::set<std::string>{"a spec to dump", std::string(code.begin(), code.end())}));
}

}  // namespace
}  // namespace replk::jit
