// Straight-line code inside a kernel: emits what lower() and assign_registers() have laid out.
#pragma once
#include <functional>
#include <vector>

#include "jit/program/registers.hpp"
#include "jit/x64/assembler.hpp"

namespace replk::jit {

class CodeletKernel : public Assembler {
 protected:
  using Assembler::Assembler;

  /// The address of an input, an output or a slot.
  using AddressOf = std::function<Xbyak::Address(const Operand&)>;
  void emit(const Allocation& allocation, const AddressOf& address_of) { emit(allocation, address_of, {}); }
  /// The same, with lines that are called up from memory on the way, spread evenly over the code: in a burst
  /// they would wait for each other.
  struct Ahead {
    std::vector<Xbyak::Address> lines;
    bool to_write = false;
  };
  void emit(const Allocation& allocation, const AddressOf& address_of, const Ahead& ahead);

  /// Where the kernel keeps zero, if its codelets need it (Op::relu). As the first operand of a maximum it
  /// lets NaN pass.
  int zero_register_ = -1;

 private:
  void emit(const Instruction& instruction, const AddressOf& address_of);
  void move(const Xbyak::Xmm& to, const Xbyak::Operand& from);
  void emit_fused(const Instruction& i, const Xbyak::Operand& a, const Xbyak::Operand& b,
                  const Xbyak::Operand& c);
};

}  // namespace replk::jit
