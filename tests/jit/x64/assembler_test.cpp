#include "jit/x64/assembler.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "core/error.hpp"
#include "jit/x64/code.hpp"

namespace replk::jit {
namespace {

// A kernel void(const float* src, float* dst) whose body a test writes; it gives the vocabulary to the body.
class Sketch : public Assembler {
 public:
  using Body = std::function<void(Sketch&)>;
  Sketch(Isa isa, Body body) : Assembler(isa), body_(std::move(body)) {}

  using Assembler::broadcast, Assembler::constant, Assembler::load, Assembler::load_part,
      Assembler::registers, Assembler::store, Assembler::store_part, Assembler::table, Assembler::vec,
      Assembler::zero, Assembler::lanes, Assembler::loop, Assembler::loop_any, Assembler::loop_unrolled,
      Assembler::with_frame, Assembler::scratch_;
  const Xbyak::Reg64 src = Xbyak::util::rdi, dst = Xbyak::util::rsi;

 private:
  void generate() override {
    prologue();
    body_(*this);
    epilogue();
  }
  Body body_;
};

using Function = void (*)(const float*, float*);

class AssemblerTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > core::cpu().hardware) GTEST_SKIP() << "this CPU has no " << name(GetParam());
    if (!code_allowed()) GTEST_SKIP() << "this system forbids executable memory";
  }
  int lanes() const { return vector_floats(GetParam()); }
  static void run(const Sketch::Body& body, const float* src, float* dst) {
    Code(Sketch(GetParam(), body).take()).entry<Function>()(src, dst);
  }
};

// `count` floats that end where memory ends: an access behind them faults.
class AtPageEnd {
 public:
  explicit AtPageEnd(int count) : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    base_ = static_cast<char*>(
        mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + page_, page_, PROT_NONE);
    floats_ = reinterpret_cast<float*>(base_ + page_) - count;
  }
  ~AtPageEnd() { munmap(base_, 2 * page_); }
  float* floats() { return floats_; }

 private:
  std::size_t page_;
  char* base_;
  float* floats_;
};

TEST_P(AssemblerTest, LoadsAndStoresAVector) {
  std::vector<float> src(lanes()), dst(lanes() + 1, -1);
  for (int i = 0; i < lanes(); i++) src[i] = i + 0.5f;
  run(
      [](Sketch& a) {
        a.load(a.vec(a.registers() - 1), a.ptr[a.src]);
        a.store(a.ptr[a.dst], a.vec(a.registers() - 1));
      },
      src.data(), dst.data());
  src.push_back(-1);
  EXPECT_EQ(dst, src);
}

TEST_P(AssemblerTest, BroadcastsAScalar) {
  const float src = 3.25f;
  std::vector<float> dst(lanes());
  run(
      [](Sketch& a) {
        a.broadcast(a.vec(3), a.ptr[a.src]);
        a.store(a.ptr[a.dst], a.vec(3));
      },
      &src, dst.data());
  EXPECT_EQ(dst, std::vector<float>(lanes(), src));
}

TEST_P(AssemblerTest, ZeroesEveryLaneOfEveryRegister) {
  std::vector<float> src(lanes(), 1), dst(lanes());
  for (int r = 0; r < 2 * lanes(); r++) {
    run(
        [r](Sketch& a) {
          a.load(a.vec(r), a.ptr[a.src]);
          a.zero(a.vec(r));
          a.store(a.ptr[a.dst], a.vec(r));
        },
        src.data(), dst.data());
    EXPECT_EQ(dst, std::vector<float>(lanes(), 0)) << "register " << r;
  }
}

TEST_P(AssemblerTest, LoadsAPartAndReadsNoFurther) {
  for (int count = 1; count <= lanes(); count++) {
    AtPageEnd src(count);
    std::vector<float> dst(lanes(), -1), expected(lanes(), 0);
    for (int i = 0; i < count; i++) src.floats()[i] = expected[i] = i + 1.f;
    run(
        [count](Sketch& a) {
          a.load_part(a.vec(2), a.src, 0, count);
          a.store(a.ptr[a.dst], a.vec(2));
        },
        src.floats(), dst.data());
    EXPECT_EQ(dst, expected) << count;
  }
}

TEST_P(AssemblerTest, StoresAPartAndWritesNoFurther) {
  std::vector<float> src(lanes());
  for (int i = 0; i < lanes(); i++) src[i] = i + 1.f;
  for (int count = 1; count <= lanes(); count++) {
    std::vector<float> dst(lanes() + 2, -1), expected(lanes() + 2, -1);
    for (int i = 0; i < count; i++) expected[i + 1] = src[i];
    const auto body = [count](Sketch& a, int displacement) {
      a.load(a.vec(5), a.ptr[a.src]);
      a.store_part(a.dst, displacement, a.vec(5), count);
    };
    run([&](Sketch& a) { body(a, 4); }, src.data(), dst.data());
    EXPECT_EQ(dst, expected) << count;
    AtPageEnd end(count);
    run([&](Sketch& a) { body(a, 0); }, src.data(), end.floats());
    EXPECT_EQ(std::memcmp(end.floats(), src.data(), 4 * count), 0) << count;
  }
}

// What a part takes is scratch_ and part_, and nothing else.
TEST_P(AssemblerTest, PartsTakeTheScratchAlone) {
  using namespace Xbyak::util;
  const std::vector<float> src(lanes(), 1);
  std::vector<float> dst(lanes());
  std::uint64_t left = 0;
  run(
      [&](Sketch& a) {
        const Xbyak::Reg64 kept[] = {rcx, rdx, r8, r9, r10, r11};
        for (const Xbyak::Reg64& r : kept) a.mov(r, 1 << r.getIdx());
        a.load_part(a.vec(1), a.src, 0, 3);
        a.store_part(a.dst, 0, a.vec(1), 3);
        for (const Xbyak::Reg64& r : kept)
          if (r.getIdx() != rcx.getIdx()) a.add(rcx, r);
        a.mov(a.scratch_, reinterpret_cast<std::uint64_t>(&left));
        a.mov(a.ptr[a.scratch_], rcx);
      },
      src.data(), dst.data());
  EXPECT_EQ(left, 1u << 1 | 1u << 2 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 11);
}

/// How often a body ran: a kernel adds 1 to *dst each time.
class Counted {
 public:
  template <class Emit>
  std::uint64_t operator()(Isa isa, const Emit& emit) {
    std::uint64_t rounds = 0;
    Code(Sketch(isa, [&](Sketch& a) { emit(a, [&a] { a.inc(a.qword[a.dst]); }); }).take())
        .entry<void (*)(const void*, void*)>()(nullptr, &rounds);
    return rounds;
  }
};

TEST_P(AssemblerTest, LoopsRunAsOftenAsTheCounterSays) {
  using namespace Xbyak::util;
  for (const int count : {1, 2, 7, 64}) {
    const auto in_a_register = [&](Sketch& a, auto body) {
      a.mov(rcx, count);
      a.loop(rcx, body, 32);
    };
    const auto in_memory = [&](Sketch& a, auto body) {
      a.push(count);
      a.loop(a.qword[rsp], body);
      a.pop(rcx);  // 0
      a.add(a.ptr[a.dst], rcx);
    };
    EXPECT_EQ(Counted()(GetParam(), in_a_register), count);
    EXPECT_EQ(Counted()(GetParam(), in_memory), count);
  }
  // 7 in rounds of 3, the last one of what is left.
  const auto in_steps = [](Sketch& a, auto body) {
    a.mov(rcx, 7);
    a.loop(rcx, rdx, [&] {
      a.mov(edx, 3);
      a.cmp(rcx, rdx);
      a.cmovl(rdx, rcx);
      body();
    });
  };
  EXPECT_EQ(Counted()(GetParam(), in_steps), 3);
}

TEST_P(AssemblerTest, ALoopThatMayBeEmptyRunsNotAtAll) {
  for (const int count : {0, 1, 5})
    EXPECT_EQ(Counted()(GetParam(),
                        [&](Sketch& a, auto body) {
                          a.mov(Xbyak::util::ecx, count);
                          a.loop_any(Xbyak::util::ecx, body, 16);
                        }),
              count);
}

TEST_P(AssemblerTest, AnUnrolledLoopCountsEveryRoundOnce) {
  for (int count = 1; count <= 13; count++)
    EXPECT_EQ(Counted()(GetParam(),
                        [&](Sketch& a, auto body) {
                          a.mov(Xbyak::util::rcx, count);
                          a.loop_unrolled(
                              Xbyak::util::rcx, 4,
                              [&] {
                                for (int i = 0; i < 4; i++) body();
                              },
                              body);
                        }),
              count);
}

TEST_P(AssemblerTest, AFrameIsAlignedAndGivenBack) {
  constexpr int vectors = 3;
  std::vector<float> src(lanes(), 2), dst(lanes());
  class Framed : public Assembler {
   public:
    using Assembler::Assembler;

   private:
    void generate() override {
      with_frame(vectors, [this] {
        for (int i = 0; i < vectors; i++) {
          vmovaps(vec(i), ptr[rdi]);  // faults where it is not aligned
          vmovaps(ptr[rsp + i * vector_bytes()], vec(i));
        }
        vaddps(vec(3), vec(0), ptr[rsp + (vectors - 1) * vector_bytes()]);
        vmovups(ptr[rsi], vec(3));
      });
    }
  };
  struct alignas(64) Aligned {
    float floats[16];
  } aligned;
  std::copy(src.begin(), src.end(), aligned.floats);
  Code(Framed(GetParam()).take()).entry<Function>()(aligned.floats, dst.data());
  EXPECT_EQ(dst, std::vector<float>(lanes(), 4));
}

TEST_P(AssemblerTest, ConstantsKeepTheirBitsAndAreSharedByValue) {
  const float values[] = {0.1f, -0.0f, std::numeric_limits<float>::denorm_min(),
                          std::numeric_limits<float>::infinity()};
  for (float value : values) {
    std::vector<float> dst(lanes(), -1);
    run(
        [value](Sketch& a) {
          a.load(a.vec(0), a.constant(value));
          a.store(a.ptr[a.dst], a.vec(0));
        },
        nullptr, dst.data());
    for (float f : dst) EXPECT_EQ(std::bit_cast<std::uint32_t>(f), std::bit_cast<std::uint32_t>(value));
  }
  const auto size_with = [](int uses) {
    return Sketch(GetParam(),
                  [uses](Sketch& a) {
                    for (int i = 0; i < uses; i++) a.load(a.vec(i), a.constant(2.5f));
                    a.nop(256 - 8 * uses);  // so that code of any number of uses is about as long
                  })
        .take()
        .size();
  };
  EXPECT_LT(size_with(8) - size_with(1), 64u) << "eight uses of a constant hold it once";
}

TEST_P(AssemblerTest, KeepsTheCallersRegisters) {
  // The body clobbers all that the System V ABI lets a callee use only if it restores it.
  const Code code(Sketch(GetParam(), [](Sketch& a) {
                    using namespace Xbyak::util;
                    for (const Xbyak::Reg64& r : {rbx, rbp, r12, r13, r14, r15}) a.xor_(r, r);
                  }).take());
  std::uint64_t before[6], after[6];
  __asm__ volatile(
      "mov %%rbx, 0(%1)\n mov %%r12, 8(%1)\n mov %%r13, 16(%1)\n mov %%r14, 24(%1)\n mov %%r15, 32(%1)\n"
      "mov %%rbp, 40(%1)\n"
      "push %1\n push %2\n call *%0\n pop %2\n pop %1\n"
      "mov %%rbx, 0(%2)\n mov %%r12, 8(%2)\n mov %%r13, 16(%2)\n mov %%r14, 24(%2)\n mov %%r15, 32(%2)\n"
      "mov %%rbp, 40(%2)\n"
      :
      : "r"(code.entry<void (*)()>()), "r"(before), "r"(after)
      : "memory", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
  EXPECT_EQ(std::memcmp(before, after, sizeof before), 0);
}

TEST_P(AssemblerTest, GivesTheSameBytesEachTime) {
  const auto body = [](Sketch& a) {
    a.load(a.vec(1), a.constant(1.5f));
    a.load_part(a.vec(2), a.src, 8, 3);
    a.store_part(a.dst, 4, a.vec(2), 5);
  };
  EXPECT_EQ(Sketch(GetParam(), body).take(), Sketch(GetParam(), body).take());
}

TEST_P(AssemblerTest, GrowsAsFarAsTheCodeNeeds) {
  std::vector<float> src(lanes(), 2), dst(lanes());
  run(
      [](Sketch& a) {
        a.load(a.vec(0), a.ptr[a.src]);
        for (int i = 0; i < 100000; i++) a.vaddps(a.vec(1), a.vec(0), a.vec(0));
        a.store(a.ptr[a.dst], a.vec(1));
      },
      src.data(), dst.data());
  EXPECT_EQ(dst, std::vector<float>(lanes(), 4));
}

TEST_P(AssemblerTest, TurnsItsErrorsIntoOurs) {
  Sketch sketch(GetParam(), [](Sketch& a) { a.L("twice"), a.L("twice"); });
  try {
    sketch.take();
    FAIL() << "did not throw";
  } catch (const core::Error& e) {
    EXPECT_EQ(e.status(), core::Status::internal);
  }
}

INSTANTIATE_TEST_SUITE_P(, AssemblerTest, testing::Values(Isa::avx2, Isa::avx512),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace replk::jit
