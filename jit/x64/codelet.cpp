#include "jit/x64/codelet.hpp"

#include <bit>

namespace replk::jit {

using Xbyak::Xmm;
using Xbyak::Ymm;
using Xbyak::Zmm;

namespace {

constexpr float bits(std::uint32_t word) {
  return std::bit_cast<float>(word);
}

}  // namespace

Conversion conversion(Isa isa, DataType type, bool native_bf16) {
  switch (type) {
    case DataType::f32:
      break;
    case DataType::f16:
      return {0, 1, 1};
    case DataType::bf16:
      if (isa != Isa::avx512) return {2, 1, 11};
      return {1, 1, native_bf16 ? 2 : 8};
    case DataType::u8:
      return isa == Isa::avx512 ? Conversion{1, 1, 4} : Conversion{2, 1, 6};
  }
  return {};
}

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
      move(i, a);
    else if (i.result.kind == Operand::Kind::output)
      narrow(address_of(i.result), vec(i.a.index), type(i.result.stream));
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

void CodeletKernel::move(const Instruction& i, const Xbyak::Operand& from) {
  const Xmm to = vec(i.result.index);
  if (i.a.kind == Operand::Kind::input)
    widen(to, from, type(i.a.stream));
  else if (from.isMEM())
    vmovups(to, from);
  else
    vmovaps(to, from);
}

void CodeletKernel::widen(const Xmm& to, const Xbyak::Operand& from, DataType type) {
  switch (type) {
    case DataType::f32:
      return vmovups(to, from);
    case DataType::f16:
      return vcvtph2ps(to, from);
    case DataType::bf16:
      vpmovzxwd(to, from);
      return vpslld(to, to, 16);
    case DataType::u8:
      vpmovzxbd(to, from);
      return vcvtdq2ps(to, to);
  }
}

void CodeletKernel::narrow(const Xbyak::Address& to, const Xmm& from, DataType type) {
  switch (type) {
    case DataType::f32:
      return store(to, from);
    case DataType::f16:
      return vcvtps2ph(to, from, 0);
    case DataType::bf16:
      return store_bf16(to, from);
    case DataType::u8:
      return store_u8(to, from);
  }
}

void CodeletKernel::store_bf16(const Xbyak::Address& to, const Xmm& from) {
  const Xmm spare = vec(spare_register_);
  if (native_bf16_ && wide()) {
    const Ymm half(spare.getIdx());
    vcvtneps2bf16(half, Zmm(from.getIdx()));
    return vmovups(to, half);
  }
  vpsrld(spare, from, 16);
  if (wide())
    vpandd(spare, spare, constant(bits(1)));
  else
    vpand(spare, spare, constant(bits(1)));
  vpaddd(spare, spare, constant(bits(0x7fff)));
  if (wide()) {
    vpaddd(spare, spare, from);
    vcmpunordps(part_, from, from);
    vpord(Zmm(spare.getIdx()) | part_, Zmm(from.getIdx()), constant(bits(0x400000)));
    vpsrld(spare, spare, 16);
    return vpmovdw(to, Zmm(spare.getIdx()));
  }
  const Ymm y(spare.getIdx()), nan(spare.getIdx() + 1);
  vcmpunordps(nan, Ymm(from.getIdx()), Ymm(from.getIdx()));
  vpandn(y, nan, y);  // nothing is added to a NaN
  vpaddd(y, y, Ymm(from.getIdx()));
  vpand(nan, nan, constant(bits(0x400000)));
  vpor(y, y, nan);
  vpsrld(y, y, 16);
  vextracti128(Xmm(nan.getIdx()), y, 1);
  vpackusdw(Xmm(y.getIdx()), Xmm(y.getIdx()), Xmm(nan.getIdx()));
  vmovups(to, Xmm(y.getIdx()));
}

void CodeletKernel::store_u8(const Xbyak::Address& to, const Xmm& from) {
  const Xmm x = vec(spare_register_);
  vmaxps(x, from, constant(0.0f));  // a NaN becomes the second operand
  vminps(x, x, constant(255.0f));
  vcvtps2dq(x, x);
  if (wide()) return vpmovdb(to, Zmm(x.getIdx()));
  const Xmm low(x.getIdx()), high(x.getIdx() + 1);
  vextracti128(high, Ymm(x.getIdx()), 1);
  vpackusdw(low, low, high);
  vpackuswb(low, low, low);
  vmovq(to, low);
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
