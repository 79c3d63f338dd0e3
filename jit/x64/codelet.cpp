#include "jit/x64/codelet.hpp"

namespace replk::jit {

using Xbyak::Xmm;

void CodeletKernel::emit(const Allocation& allocation, const AddressOf& address_of, const Ahead& ahead) {
  std::size_t done = 0, called = 0;
  for (const Instruction& i : allocation.instructions) {
    emit(i, address_of);
    for (done++; called * allocation.instructions.size() < done * ahead.lines.size(); called++) {
      if (ahead.to_write)
        prefetchw(ahead.lines[called]);
      else
        prefetcht0(ahead.lines[called]);
    }
  }
}

void CodeletKernel::emit(const Instruction& i, const AddressOf& address_of) {
  // xbyak takes registers and addresses through one base class; these keep both alive while it encodes.
  Xmm registers[3];
  Xbyak::Address addresses[3] = {ptr[rsp], ptr[rsp], ptr[rsp]};
  const auto encode = [&](int position, const Operand& o) -> const Xbyak::Operand& {
    if (o.kind == Operand::Kind::reg) return registers[position] = vec(o.index);
    if (o.kind == Operand::Kind::constant) return addresses[position] = constant(o.value);
    return addresses[position] = address_of(o);
  };
  const Xbyak::Operand& a = i.a.kind == Operand::Kind::none ? registers[0] : encode(0, i.a);
  if (i.op == Op::store) {
    if (i.load)
      move(vec(i.result.index), a);
    else
      store(address_of(i.result), vec(i.a.index));
    return;
  }
  const Xmm result = vec(i.result.index), first = vec(i.a.index);
  const Xbyak::Operand& b = i.b.kind == Operand::Kind::none ? registers[1] : encode(1, i.b);
  switch (i.op) {
    case Op::add:
      return vaddps(result, first, b);
    case Op::sub:
      return vsubps(result, first, b);
    case Op::mul:
      return vmulps(result, first, b);
    case Op::negate:
      return vxorps(result, first, constant(-0.0f));
    case Op::relu:
      return vmaxps(result, vec(zero_register_), first);
    case Op::zero:
      return zero(result);
    default:
      emit_fused(i, a, b, encode(2, i.c));
  }
}

void CodeletKernel::move(const Xmm& to, const Xbyak::Operand& from) {
  if (from.isMEM())
    vmovups(to, from);
  else
    vmovaps(to, from);
}

// The three encodings differ in which operand is overwritten, and which may be in memory (the last):
// 132: x = x * z + y    213: x = y * x + z    231: x = y * z + x
void CodeletKernel::emit_fused(const Instruction& i, const Xbyak::Operand& a, const Xbyak::Operand& b,
                               const Xbyak::Operand& c) {
  const Xmm x = vec(i.result.index);
  const auto overwritten = [&](const Operand& o) {
    return o.kind == Operand::Kind::reg && o.index == i.result.index;
  };
  const auto as_register = [&](const Operand& o) { return vec(o.index); };
  if (overwritten(i.c)) {
    const bool a_last = i.a.in_memory();
    const Xmm y = as_register(a_last ? i.b : i.a);
    const Xbyak::Operand& z = a_last ? a : b;
    switch (i.op) {
      case Op::fma:
        return vfmadd231ps(x, y, z);
      case Op::fms:
        return vfmsub231ps(x, y, z);
      case Op::fnma:
        return vfnmadd231ps(x, y, z);
      default:
        return vfnmsub231ps(x, y, z);
    }
  }
  const bool a_overwritten = overwritten(i.a);
  const Operand& factor = a_overwritten ? i.b : i.a;
  if (factor.in_memory()) {
    const Xmm y = as_register(i.c);
    const Xbyak::Operand& z = a_overwritten ? b : a;
    switch (i.op) {
      case Op::fma:
        return vfmadd132ps(x, y, z);
      case Op::fms:
        return vfmsub132ps(x, y, z);
      case Op::fnma:
        return vfnmadd132ps(x, y, z);
      default:
        return vfnmsub132ps(x, y, z);
    }
  }
  const Xmm y = as_register(factor);
  switch (i.op) {
    case Op::fma:
      return vfmadd213ps(x, y, c);
    case Op::fms:
      return vfmsub213ps(x, y, c);
    case Op::fnma:
      return vfnmadd213ps(x, y, c);
    default:
      return vfnmsub213ps(x, y, c);
  }
}

}  // namespace replk::jit
