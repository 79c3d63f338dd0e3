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

  void load(const Xbyak::Xmm& v, const Xbyak::Address& a) { vmovups(v, a); }
  void store(const Xbyak::Address& a, const Xbyak::Xmm& v) { vmovups(a, v); }
  void zero(const Xbyak::Xmm& v);
  void broadcast(const Xbyak::Xmm& v, const Xbyak::Address& scalar) { vbroadcastss(v, scalar); }
  /// Loads / stores the first `count` floats (1..lanes), other lanes read as zero / left alone in memory. No
  /// byte outside is touched.
  void load_part(const Xbyak::Xmm& v, const Xbyak::Reg64& base, std::int64_t displacement, int count);
  void store_part(const Xbyak::Reg64& base, std::int64_t displacement, const Xbyak::Xmm& v, int count);

  /// Address of a constant repeated over a whole vector, placed behind the code.
  Xbyak::Address constant(float value);
  /// Address of the given words behind the code, aligned to a vector.
  Xbyak::Address table(const std::vector<std::uint32_t>& words);

 private:
  Isa isa_;
  struct Constant {
    std::vector<std::uint32_t> words;
    Xbyak::Label label;
  };
  std::vector<std::unique_ptr<Constant>> constants_;
  std::map<std::vector<std::uint32_t>, Constant*> by_words_;
};

}  // namespace replk::jit
