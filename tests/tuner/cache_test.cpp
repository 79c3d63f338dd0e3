#include "tuner/cache.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <sstream>

#include "core/log.hpp"
#include "scratch.hpp"

namespace replk::tuner {
namespace {

using test::Scratch;

Key key(int n) {
  return {"n" + std::to_string(n), {word("op", "test"), word("layout", "nhwc"), number("n", n)}};
}

Record record(int n, const std::string& pick = "x a=1", const std::string& date = "2026-01-01T00:00:00Z") {
  Record r;
  r.shape = key(n).shape;
  r.key = key(n).json();
  r.machine = machine_json();
  r.pick = pick;
  r.seconds = 1e-3;
  r.rounds = 9;
  r.confidence = 0.99;
  r.date = date;
  return r;
}

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A new file every time: ext4 writes a truncated and refilled one to the disk when it is closed.
void spill(const std::string& path, const std::string& text) {
  ::unlink(path.c_str());
  std::ofstream(path, std::ios::binary) << text;
}

/// What the library says while one of these lives.
class Said {
 public:
  Said() {
    lines().clear();
    core::set_log_callback([](core::LogLevel, const char* text, void*) { lines().push_back(text); }, nullptr);
  }
  ~Said() { core::set_log_callback(nullptr, nullptr); }
  static std::vector<std::string>& lines() {
    static std::vector<std::string> all;
    return all;
  }
};

TEST(Record, SurvivesItsLine) {
  Record r = record(7, "row-spectral n=28 factors=4x7");
  r.measured = {{"direct rows=2", 2.5e-3}, {"portable", 1e-1}};
  r.tainted = true;
  const Line line = read_line(to_line(r));
  ASSERT_EQ(line.kind, LineKind::record);
  EXPECT_EQ(line.record.identity(), r.identity());
  EXPECT_EQ(line.record.pick, r.pick);
  EXPECT_EQ(line.record.tainted, true);
  EXPECT_DOUBLE_EQ(line.record.seconds, 1e-3);
  ASSERT_EQ(line.record.measured.size(), 2u);
  EXPECT_EQ(line.record.measured[0].first, "direct rows=2");
}

TEST(Record, ALineNeverOutgrowsItsLimit) {
  Record r = record(7);
  for (int i = 0; i < 500; i++)
    r.measured.emplace_back("row-spectral n=" + std::to_string(i) + " factors=4x7", 1e-3);
  const std::string line = to_line(r);
  EXPECT_LE(line.size(), kMostLineBytes);
  EXPECT_EQ(read_line(line).kind, LineKind::record);
  EXPECT_GT(read_line(line).record.measured.size(), 20u);
}

TEST(Record, HostileLinesAreDamagedNotFatal) {
  const std::string good = to_line(record(1));
  std::mt19937 random(1);
  for (const std::string& text :
       {std::string(), std::string("{}"), std::string(4096, '['), std::string(5000, 'x'),
        std::string(1000, '\0'), good.substr(0, good.size() - 1), good + " ",
        "{\"v\":99999999999999999999" + good.substr(6)})
    EXPECT_EQ(read_line(text).kind, LineKind::damaged) << text.substr(0, 60);
  for (int i = 0; i < 20000; i++) {
    std::string text = good;
    for (int change = 0; change < 3; change++) text[random() % text.size()] = static_cast<char>(random());
    EXPECT_EQ(read_line(text).kind, text == good ? LineKind::record : LineKind::damaged);
  }
}

TEST(Distance, NeedsEqualExactFieldsAndAddsLogarithms) {
  const Key a{"", {word("l", "x"), number("c", 63, 0.25), number("k", 15)}};
  const auto to = [&](const Key& b) { return distance(a, b.json()); };
  EXPECT_DOUBLE_EQ(to(a).value(), 0);
  EXPECT_DOUBLE_EQ(to({"", {word("l", "x"), number("c", 127), number("k", 31)}}).value(), 1.25);
  EXPECT_FALSE(to({"", {word("l", "y"), number("c", 63), number("k", 15)}}));
  EXPECT_FALSE(to({"", {word("l", "x"), number("c", 63)}}));
  EXPECT_FALSE(to({"", {word("l", "x"), number("c", 63), word("k", "15")}}));
  EXPECT_FALSE(distance(a, "no json"));
}

TEST(Cache, RemembersAcrossProcessesAndSeesTheWritesOfOthers) {
  Scratch scratch;
  Cache one(scratch.path("d/e/tune.jsonl"), {}), other(scratch.path("d/e/tune.jsonl"), {});
  EXPECT_TRUE(one.find(key(1)).empty());
  EXPECT_TRUE(other.store(record(1)));
  ASSERT_EQ(one.find(key(1)).size(), 1u);
  EXPECT_TRUE(one.store(record(2)));
  EXPECT_TRUE(other.store(record(1, "x a=2")));
  EXPECT_EQ(one.find(key(1)).at(0).pick, "x a=2") << "the later record wins";
  EXPECT_EQ(other.records().size(), 2u);
  struct stat status;
  ASSERT_EQ(::stat(scratch.path("d/e/tune.jsonl").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(scratch.path("d/e").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST(Cache, TheUsersLayerGoesBeforeTheSystemsAndCleanBeforeTainted) {
  Scratch scratch;
  Cache system(scratch.path("system.jsonl"), {});
  system.store(record(1, "x from=system"));
  system.store(record(2, "x from=system"));
  Cache cache(scratch.path("user.jsonl"), {scratch.path("system.jsonl")});
  EXPECT_EQ(cache.find(key(1)).at(0).pick, "x from=system");
  cache.store(record(1, "x from=user"));
  Record tainted = record(2, "x from=user");
  tainted.tainted = true;
  cache.store(tainted);
  EXPECT_EQ(cache.find(key(1)).at(0).pick, "x from=user");
  EXPECT_EQ(cache.find(key(2)).at(0).pick, "x from=system");
  EXPECT_EQ(cache.find(key(2)).at(1).pick, "x from=user");
  EXPECT_EQ(slurp(scratch.path("system.jsonl")).find("user"), std::string::npos);
}

TEST(Cache, TheNearestComeInOrderAndOnlyFromThisMachine) {
  Scratch scratch;
  Cache cache(scratch.path("t"), {});
  for (int n : {1, 4, 9, 100}) cache.store(record(n));
  Record foreign = record(6);
  foreign.machine = "{\"vendor\":\"Other\"}";
  cache.store(foreign);
  const std::vector<Cache::Near> near = cache.nearest(key(6), 3);
  ASSERT_EQ(near.size(), 3u);
  EXPECT_EQ(near[0].record.shape, "n4");
  EXPECT_EQ(near[1].record.shape, "n9");
  EXPECT_EQ(near[2].record.shape, "n1");
  EXPECT_EQ(cache.nearest(key(4), 1).at(0).record.shape, "n9") << "the key itself is not near itself";
}

TEST(Cache, MergePrefersTheLaterDateNeverTaintedOverCleanAndKeepsUnknownFields) {
  Scratch scratch;
  Cache cache(scratch.path("t"), {});
  cache.store(record(1, "x old=1", "2026-01-02T00:00:00Z"));
  cache.store(record(2, "x new=1", "2026-01-05T00:00:00Z"));
  cache.store(record(3, "x clean=1", "2026-01-02T00:00:00Z"));
  Record tainted = record(3, "x tainted=1", "2026-01-09T00:00:00Z");
  tainted.tainted = true;
  // A field that this version does not know, sealed by hand.
  std::string line = to_line(record(1, "x newer=1", "2026-01-03T00:00:00Z"));
  line = line.substr(0, line.rfind(",\"check\"")) + ",\"microcode\":7";
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : line) hash = (hash ^ c) * 0x100000001b3u;
  char check[32];
  std::snprintf(check, sizeof check, "%016lx", static_cast<unsigned long>(hash));
  const std::string text = header_line() + "\n" + line + ",\"check\":\"" + check + "\"}\n" +
                           to_line(record(2, "x older=1", "2026-01-01T00:00:00Z")) + "\n" + to_line(tainted) +
                           "\n" + to_line(record(4)) + "\nrubbish\n";
  const Cache::Change change = cache.merge(text);
  EXPECT_TRUE(change.ok);
  EXPECT_EQ(change.added, 1);
  EXPECT_EQ(change.replaced, 1);
  EXPECT_EQ(change.refused, 1);
  EXPECT_EQ(cache.find(key(1)).at(0).pick, "x newer=1");
  EXPECT_EQ(cache.find(key(2)).at(0).pick, "x new=1");
  EXPECT_EQ(cache.find(key(3)).at(0).pick, "x clean=1");
  EXPECT_NE(slurp(scratch.path("t")).find("\"microcode\":7"), std::string::npos);
}

TEST(Cache, TheSameRecordsExportTheSameBytes) {
  Scratch scratch;
  Cache a(scratch.path("a"), {}), b(scratch.path("b"), {});
  for (int n = 0; n < 20; n++) a.store(record(n));
  for (int n = 19; n >= 0; n--) b.store(record(n));
  EXPECT_EQ(to_text(a.records()), to_text(b.records()));
  Cache c(scratch.path("c"), {});
  EXPECT_EQ(c.merge(to_text(a.records())).added, 20);
  EXPECT_EQ(slurp(scratch.path("c")), to_text(a.records()));
}

TEST(Cache, PruneDropsSupersededAndUnwantedRecords) {
  Scratch scratch;
  Cache cache(scratch.path("t"), {});
  for (int i = 0; i < 5; i++) cache.store(record(1, "x a=" + std::to_string(i)));
  cache.store(record(2));
  EXPECT_EQ(cache.prune([](const Record& r) { return r.shape == "n2"; }).replaced, 5);
  ASSERT_EQ(cache.records().size(), 1u);
  EXPECT_EQ(cache.records()[0].pick, "x a=4");
}

TEST(Cache, ACrowdedFileCompactsItself) {
  Scratch scratch;
  Cache cache(scratch.path("t"), {});
  spill(scratch.path("t"), [] {
    std::string text = header_line() + "\n";
    for (int i = 0; i < 1200; i++) text += to_line(record(i % 3)) + "\n";
    return text;
  }());
  EXPECT_TRUE(cache.store(record(3)));
  EXPECT_LT(slurp(scratch.path("t")).size(), 4096u);
  EXPECT_EQ(cache.records().size(), 4u);
}

TEST(Cache, AFullFileMakesRoom) {
  Scratch scratch;
  std::string text = header_line() + "\n";
  for (int i = 0; text.size() < kMostFileBytes - 200; i++) text += to_line(record(i)) + "\n";
  text.resize(kMostFileBytes - 100);  // cuts the last line
  spill(scratch.path("t"), text);
  Cache cache(scratch.path("t"), {});
  EXPECT_TRUE(cache.store(record(9'000'000, "x a=1", "2026-02-01T00:00:00Z")));
  EXPECT_EQ(cache.find(key(9'000'000)).size(), 1u);
  EXPECT_LE(slurp(scratch.path("t")).size(), kMostFileBytes);
}

// A file of ten records, cut at every byte and with every bit flipped.
class Mutated : public ::testing::Test {
 protected:
  void SetUp() override {
    text = header_line() + "\n";
    for (int n = 0; n < 10; n++) {
      lines.insert(to_line(record(n)));
      text += to_line(record(n)) + "\n";
    }
  }
  /// Checks that the cache lives and uses only records that are byte for byte what was written.
  std::size_t valid(const std::string& mutated) {
    spill(scratch.path("t"), mutated);
    Cache cache(scratch.path("t"), {});
    const std::vector<Record> used = cache.records();
    for (const Record& each : used) EXPECT_EQ(lines.count(each.line), 1u);
    return used.size();
  }
  Scratch scratch;
  std::string text;
  std::set<std::string> lines;
};

TEST_F(Mutated, CutAtEveryByte) {
  for (std::size_t n = 0; n <= text.size(); n++) {
    const std::size_t whole = static_cast<std::size_t>(std::count(text.begin(), text.begin() + n, '\n'));
    const std::size_t expected = whole == 0 ? 0 : whole - 1;
    const std::size_t used = valid(text.substr(0, n));
    ASSERT_TRUE(used == expected || used == expected + 1) << n;  // a line that lost only its end is whole
    if (n % 97 == 0) {                                           // and the file can still be written
      Cache cache(scratch.path("t"), {});
      ASSERT_TRUE(cache.store(record(77)));
      ASSERT_EQ(cache.find(key(77)).size(), 1u);
    }
  }
}

TEST_F(Mutated, EveryBitFlipped) {
  for (std::size_t n = 0; n < text.size(); n++) {
    for (int bit = 0; bit < 8; bit++) {
      std::string mutated = text;
      mutated[n] = static_cast<char>(mutated[n] ^ (1 << bit));
      ASSERT_GE(valid(mutated), 8u) << n;  // a flipped newline costs the two lines that it joins
    }
  }
}

// Faults: the right result (a miss, or a store that says no), one warning, no failure.
void expect_one_warning(const std::string& user, const std::vector<std::string>& system = {}) {
  Said said;
  Cache cache(user, system, "no home for " + std::to_string(reinterpret_cast<std::uintptr_t>(&said)));
  for (int i = 0; i < 3; i++) {
    EXPECT_TRUE(cache.find(key(1)).empty());
    EXPECT_TRUE(cache.nearest(key(1), 3).empty());
    EXPECT_FALSE(cache.store(record(1)));
  }
  EXPECT_EQ(Said::lines().size(), 1u) << ::testing::PrintToString(Said::lines());
}

TEST(Faults, NoHome) {
  expect_one_warning("");
}

TEST(Faults, ADirectoryInPlaceOfTheFile) {
  Scratch scratch;
  ::mkdir(scratch.path("t").c_str(), 0700);
  expect_one_warning(scratch.path("t"));
}

TEST(Faults, ADirectoryThatCannotBeMade) {
  expect_one_warning("/proc/no/such/place/tune.jsonl");
}

TEST(Faults, AFileInPlaceOfTheDirectory) {
  Scratch scratch;
  spill(scratch.path("f"), "x");
  expect_one_warning(scratch.path("f/tune.jsonl"));
}

/// What a link names, or nothing where the path is no link.
std::string link_target(const std::string& path) {
  std::error_code error;
  return std::filesystem::read_symlink(path, error).string();
}

// As dotfile managers leave it: a link into a directory that is kept elsewhere.
TEST(Links, AreFollowedAndStayWhenTheFileIsReplaced) {
  Scratch scratch;
  ::mkdir(scratch.path("dotfiles").c_str(), 0700);
  ::mkdir(scratch.path("cache").c_str(), 0700);
  const std::string file = scratch.path("dotfiles/replk.jsonl"), link = scratch.path("cache/tune.jsonl");
  ASSERT_EQ(::symlink("../dotfiles/replk.jsonl", link.c_str()), 0);
  Cache cache(link, {}), direct(file, {});
  EXPECT_TRUE(cache.find(key(1)).empty());
  EXPECT_TRUE(cache.store(record(1))) << "through a link to nothing, the file is made";
  EXPECT_TRUE(cache.store(record(1, "x a=2")));
  EXPECT_EQ(direct.find(key(1)).at(0).pick, "x a=2");
  EXPECT_EQ(cache.prune([](const Record&) { return false; }).replaced, 1) << "by a file renamed over it";
  EXPECT_EQ(link_target(link), "../dotfiles/replk.jsonl");
  EXPECT_TRUE(direct.store(record(2)));
  EXPECT_EQ(cache.find(key(2)).size(), 1u) << "what is written to the file is seen through the link";
  EXPECT_TRUE(cache.faults().empty());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.path("cache")), {}), 1);
}

TEST(Links, ALinkToALinkIsFollowedAndALoopIsAFault) {
  Scratch scratch;
  ASSERT_EQ(::symlink("b", scratch.path("a").c_str()), 0);
  ASSERT_EQ(::symlink(scratch.path("t").c_str(), scratch.path("b").c_str()), 0);
  EXPECT_TRUE(Cache(scratch.path("a"), {}).store(record(1)));
  EXPECT_EQ(Cache(scratch.path("t"), {}).find(key(1)).size(), 1u);
  ASSERT_EQ(::symlink("d", scratch.path("c").c_str()), 0);
  ASSERT_EQ(::symlink("c", scratch.path("d").c_str()), 0);
  expect_one_warning(scratch.path("c"));
}

TEST(Links, OfAnotherUserAreNotFollowed) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make another user's link";
  Scratch scratch;
  spill(scratch.path("target"), "precious\n");
  ASSERT_EQ(::symlink(scratch.path("target").c_str(), scratch.path("t").c_str()), 0);
  ASSERT_EQ(::lchown(scratch.path("t").c_str(), 65534, 65534), 0);
  expect_one_warning(scratch.path("t"));
  EXPECT_EQ(slurp(scratch.path("target")), "precious\n");
}

TEST(Faults, APipeOrADeviceIsNotOpenedForEver) {
  Scratch scratch;
  ASSERT_EQ(::mkfifo(scratch.path("t").c_str(), 0600), 0);
  Cache pipe(scratch.path("t"), {}), device("/dev/full", {});
  EXPECT_TRUE(pipe.find(key(1)).empty());
  EXPECT_FALSE(pipe.store(record(1)));
  EXPECT_TRUE(device.find(key(1)).empty());
  EXPECT_FALSE(device.store(record(1)));
}

/// Runs body in a child process, since it spoils the process it runs in; true where it returned true.
template <class Body>
bool in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(Faults, AReadOnlyDirectoryCanStillBeRead) {
  Scratch scratch;
  ::mkdir(scratch.path("d").c_str(), 0755);
  Cache(scratch.path("d/t"), {}).store(record(1));
  ::chmod(scratch.path("d/t").c_str(), 0444);
  ::chmod(scratch.path("d").c_str(), 0555);
  ::chmod(scratch.path().c_str(), 0755);
  EXPECT_TRUE(in_child([&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return false;  // root may write anywhere
    Said said;
    Cache cache(scratch.path("d/t"), {}), fresh(scratch.path("d/u"), {});
    return cache.find(key(1)).size() == 1 && !cache.store(record(2)) && !cache.store(record(3)) &&
           cache.find(key(1)).size() == 1 && Said::lines().size() == 1 && !fresh.store(record(1)) &&
           !cache.prune([](const Record&) { return true; }).ok;
  }));
  EXPECT_EQ(Cache(scratch.path("d/t"), {}).records().size(), 1u);
  ::chmod(scratch.path("d").c_str(), 0755);
}

TEST(Faults, AFullDiskLeavesTheFileAsItWas) {
  Scratch scratch;
  Cache(scratch.path("t"), {}).store(record(1));
  const std::string before = slurp(scratch.path("t"));
  EXPECT_TRUE(in_child([&] {
    // The limit cuts the next line in its middle, as a full disk does: part of the write succeeds, the rest
    // fails.
    const rlimit limit{before.size() + 100, before.size() + 100};
    ::signal(SIGXFSZ, SIG_IGN);
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    Said said;
    Cache cache(scratch.path("t"), {});
    return !cache.store(record(2)) && !cache.store(record(3)) && cache.find(key(1)).size() == 1 &&
           Said::lines().size() == 1 && !cache.merge(header_line() + "\n" + to_line(record(5)) + "\n").ok;
  }));
  EXPECT_EQ(slurp(scratch.path("t")), before);
  EXPECT_TRUE(Cache(scratch.path("t"), {}).store(record(2)));
}

TEST(Faults, AnotherMachine) {
  Scratch scratch;
  Record foreign = record(1);
  foreign.machine = "{\"vendor\":\"Other\",\"family\":1}";
  Cache(scratch.path("t"), {}).store(foreign);
  Said said;
  Cache cache(scratch.path("t"), {});
  EXPECT_TRUE(cache.find(key(1)).empty());
  EXPECT_TRUE(cache.nearest(key(2), 3).empty());
  EXPECT_EQ(Said::lines().size(), 1u);
  EXPECT_TRUE(cache.store(record(1)));
  EXPECT_EQ(cache.find(key(1)).size(), 1u);
  EXPECT_EQ(cache.records().size(), 2u);
}

TEST(Faults, ANewerVersionIsNeitherReadNorWritten) {
  Scratch scratch;
  std::string line = "{\"replk_tune_cache\":2";
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : line) hash = (hash ^ c) * 0x100000001b3u;
  char check[64];
  std::snprintf(check, sizeof check, ",\"check\":\"%016lx\"}\n", static_cast<unsigned long>(hash));
  const std::string text = line + check + to_line(record(1)) + "\n";
  spill(scratch.path("t"), text);
  expect_one_warning(scratch.path("t"));
  EXPECT_EQ(slurp(scratch.path("t")), text);
}

TEST(Faults, AFileBeyondTheLimitIsNotUsed) {
  Scratch scratch;
  spill(scratch.path("t"), to_line(record(1)) + "\n");
  ASSERT_EQ(::truncate(scratch.path("t").c_str(), 1LL << 40), 0) << "a sparse terabyte";
  Cache cache(scratch.path("t"), {});
  EXPECT_TRUE(cache.find(key(1)).empty());
  EXPECT_FALSE(cache.store(record(1)));
}

TEST(Faults, ALockThatIsHeldDoesNotStopAReader) {
  Scratch scratch;
  Cache(scratch.path("t"), {}).store(record(1));
  const int fd = ::open(scratch.path("t").c_str(), O_RDONLY);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  Said said;
  Cache cache(scratch.path("t"), {});
  EXPECT_EQ(cache.find(key(1)).size(), 1u);
  EXPECT_FALSE(cache.store(record(2)));
  EXPECT_EQ(Said::lines().size(), 1u);
  ::close(fd);
  EXPECT_TRUE(cache.store(record(2)));
}

}  // namespace
}  // namespace replk::tuner
