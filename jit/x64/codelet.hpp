// Straight-line code inside a kernel: emits what lower() and assign_registers() have laid out.
#pragma once
#include <functional>
#include <vector>

#include "core/types.hpp"
#include "jit/program/registers.hpp"
#include "jit/x64/assembler.hpp"

namespace replk::jit {

/// What it takes that a stream's values lie in memory as this type: registers that a store uses up, and
/// instructions that a load and a store cost beside their own.
struct Conversion {
  int spare_registers = 0, load = 0, store = 0;
};
Conversion conversion(Isa isa, DataType type, bool native_bf16);

class CodeletKernel : public Assembler {
 protected:
  using Assembler::Assembler;

  /// How the values of a stream lie in memory, one vector of fp32 lanes at an address. Of a stream that is
  /// not fp32 the allocation knows (RegisterOptions::converted_inputs).
  virtual DataType type(int /*stream*/) const { return DataType::f32; }

  /// The address of an input, an output or a slot.
  using AddressOf = std::function<Xbyak::Address(const Operand&)>;
  void emit(const Allocation& allocation, const AddressOf& address_of) { emit(allocation, address_of, {}); }
  /// The same, with lines that are prefetched on the way, spread evenly over the code: in a burst
  /// they would wait for each other.
  struct Ahead {
    std::vector<Xbyak::Address> lines;
    bool to_write = false;
  };
  void emit(const Allocation& allocation, const AddressOf& address_of, const Ahead& ahead);

  /// Where the kernel keeps zero, if its codelets need it (Op::relu). As the first operand of a maximum it
  /// lets NaN pass.
  int zero_register_ = -1;
  /// The first of those that stores of narrow types use up (Conversion), and whether AVX512_BF16 rounds to
  /// bf16, which takes denormals for zeros.
  int spare_register_ = -1;
  bool native_bf16_ = false;

 private:
  void emit(const Instruction& instruction, const AddressOf& address_of);
  void move(const Instruction& instruction, const Xbyak::Operand& from);
  void widen(const Xbyak::Xmm& to, const Xbyak::Operand& from, DataType type);
  /// To nearest even, as core::from_float does.
  void narrow(const Xbyak::Address& to, const Xbyak::Xmm& from, DataType type);
  void store_bf16(const Xbyak::Address& to, const Xbyak::Xmm& from);
  void store_u8(const Xbyak::Address& to, const Xbyak::Xmm& from);
  void emit_fused(const Instruction& i, const Xbyak::Operand& a, const Xbyak::Operand& b,
                  const Xbyak::Operand& c);
};

}  // namespace replk::jit
