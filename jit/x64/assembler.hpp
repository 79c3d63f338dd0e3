// The small vocabulary in which every kernel is written, over one vector width: AVX2 (16 registers of 8
// floats) and AVX-512 (32 of 16) from the same source.
#pragma once
#include <xbyak/xbyak.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <vector>

#include "core/cpu.hpp"

namespace replk::jit {

namespace detail {
/// Code is generated in plain memory and sealed later (Code), so xbyak must change no protection. Its own
/// allocator maps memory, and loses it where a list of what was mapped cannot grow.
struct HeapAllocator : Xbyak::Allocator {
  std::uint8_t* alloc(std::size_t bytes) override {
    // Whole pages: align() pads by the address, and the same spec must give the same bytes.
    constexpr std::size_t page = 4096;
    if (void* memory = std::aligned_alloc(page, (bytes + page - 1) / page * page))
      return static_cast<std::uint8_t*>(memory);
    throw std::bad_alloc();  // xbyak's own error would not say what it was
  }
  void free(std::uint8_t* memory) override { std::free(memory); }
  bool useProtect() const override { return false; }
};
struct AllocatorHolder {
  HeapAllocator allocator;
};
}  // namespace detail

/// Base of every generator. A derived class emits its code in generate(), then take() gives the bytes. Code
/// must be position independent: constants go behind the code through constant() and are addressed from rip.
class Assembler : private detail::AllocatorHolder, public Xbyak::CodeGenerator {
 public:
  explicit Assembler(Isa isa) : Xbyak::CodeGenerator(64 << 10, Xbyak::AutoGrow, &allocator), isa_(isa) {}
  virtual ~Assembler() = default;
  std::vector<std::uint8_t> take();

 protected:
  virtual void generate() = 0;

  Isa isa() const { return isa_; }
  bool wide() const { return isa_ == Isa::avx512; }
  int lanes() const { return vector_floats(isa_); }
  int vector_bytes() const { return 4 * lanes(); }
  int registers() const { return vector_registers(isa_); }
  /// Vector register i at the width in use.
  Xbyak::Xmm vec(int i) const { return Xbyak::Xmm(wide() ? Xbyak::Operand::ZMM : Xbyak::Operand::YMM, i); }

  // System V entry and exit: what is pushed here is popped there; vzeroupper and ret at the end.
  void prologue();
  void epilogue();
  /// prologue(), body() with so many vectors of stack from rsp on, 64-byte aligned, and epilogue(). rbp
  /// belongs to it meanwhile. A scope as an argument rather than as an object: what emits code may throw,
  /// which a destructor may not.
  template <class Body>
  void with_frame(int vectors, const Body& body) {
    prologue();
    mov(rbp, rsp);
    sub(rsp, vectors * vector_bytes() + 64);
    and_(rsp, -64);
    body();
    mov(rsp, rbp);
    epilogue();
  }

  // Loops: no other code jumps backwards. The counter, a register or in memory, is body()'s to read alone and
  // ends as 0. The first instruction of the body lies at a multiple of `alignment` bytes.

  /// Runs body() as often as the counter says, at least once. Where a counter counts more than rounds, a
  /// round takes `step` off it, in the end exactly what is left.
  template <class Body>
  void loop(const Xbyak::Operand& counter, const Body& body, int alignment = 1) {
    repeat(body, alignment, [&] { dec(counter); });
  }
  template <class Body>
  void loop(const Xbyak::Operand& counter, const Xbyak::Reg64& step, const Body& body) {
    repeat(body, 1, [&] { sub(counter, step); });
  }
  /// The same where the counter may be 0.
  template <class Body>
  void loop_any(const Xbyak::Reg& counter, const Body& body, int alignment = 1) {
    Xbyak::Label done;
    test(counter, counter);
    jz(done, T_NEAR);
    loop(counter, body, alignment);
    L(done);
  }
  /// Runs several() for each `unroll` of what the counter says, at least 1, and single() for each of what is
  /// left.
  template <class Several, class Single>
  void loop_unrolled(const Xbyak::Reg& counter, int unroll, const Several& several, const Single& single) {
    Xbyak::Label again, rest, done;
    sub(counter, unroll);
    jl(rest, T_NEAR);
    align(32);
    L(again);
    several();
    sub(counter, unroll);
    jge(again, T_NEAR);
    L(rest);
    add(counter, unroll);
    jz(done, T_NEAR);
    loop(counter, single);
    L(done);
  }

  void load(const Xbyak::Xmm& v, const Xbyak::Address& a) { vmovups(v, a); }
  void store(const Xbyak::Address& a, const Xbyak::Xmm& v) { vmovups(a, v); }
  void zero(const Xbyak::Xmm& v);
  void broadcast(const Xbyak::Xmm& v, const Xbyak::Address& scalar) { vbroadcastss(v, scalar); }
  /// Loads / stores the first `count` floats (1..lanes), other lanes read as zero / left alone in memory. No
  /// byte outside is touched. A part, less than a whole vector, takes scratch_ and part_ (AVX-512), and one
  /// that is stored uses v up (AVX2).
  void load_part(const Xbyak::Xmm& v, const Xbyak::Reg64& base, std::int64_t displacement, int count);
  void store_part(const Xbyak::Reg64& base, std::int64_t displacement, const Xbyak::Xmm& v, int count);

  /// part_ = the first `count` lanes. Takes scratch_.
  void mask_part(int count);
  // What helpers take without asking, and say so: a kernel may use them in between.
  const Xbyak::Reg64 scratch_ = rax;
  const Xbyak::Opmask part_ = k7;

  /// Address of a constant repeated over a whole vector, placed behind the code.
  Xbyak::Address constant(float value);
  /// Address of the given words behind the code, aligned to a vector.
  Xbyak::Address table(const std::vector<std::uint32_t>& words);

 private:
  /// The last instruction of count_down sets the flags by what is left.
  template <class Body, class CountDown>
  void repeat(const Body& body, int alignment, const CountDown& count_down) {
    Xbyak::Label again;
    if (alignment > 1) align(alignment);
    L(again);
    body();
    count_down();
    jnz(again, T_NEAR);
  }

  Isa isa_;
  struct Constant {
    std::vector<std::uint32_t> words;
    Xbyak::Label label;
  };
  std::vector<std::unique_ptr<Constant>> constants_;
  std::map<std::vector<std::uint32_t>, Constant*> by_words_;
};

}  // namespace replk::jit
