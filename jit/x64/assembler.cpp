#include "jit/x64/assembler.hpp"

#include <algorithm>
#include <bit>

#include "core/error.hpp"

namespace replk::jit {

using Xbyak::Address;
using Xbyak::Reg64;
using Xbyak::Xmm;

std::vector<std::uint8_t> Assembler::take() {
  try {
    endbr64();  // an indirect-branch target, also where CET is enforced
    generate();
    if (!constants_.empty()) align(vector_bytes());
    for (auto& c : constants_) {
      L(c->label);
      for (std::uint32_t word : c->words) dd(word);
    }
    ready();
  } catch (const Xbyak::Error& e) {
    core::fail(core::Status::internal, "code generation failed: {}", e.what());
  }
  return {getCode(), getCode() + getSize()};
}

void Assembler::prologue() {
  for (const Reg64& r : {rbx, rbp, r12, r13, r14, r15}) push(r);
}

void Assembler::epilogue() {
  vzeroupper();
  for (const Reg64& r : {r15, r14, r13, r12, rbp, rbx}) pop(r);
  ret();
}

void Assembler::zero(const Xmm& v) {
  // The low half clears the whole register, and is the shorter instruction where the register number allows
  // it.
  if (v.getIdx() < 16)
    vxorps(Xmm(v.getIdx()), Xmm(v.getIdx()), Xmm(v.getIdx()));
  else
    vpxord(v, v, v);
}

void Assembler::mask_part(int count) {
  mov(scratch_.cvt32(), (1u << count) - 1);
  kmovw(part_, scratch_.cvt32());
}

void Assembler::load_part(const Xmm& v, const Reg64& base, std::int64_t displacement, int count) {
  const Address from = ptr[base + displacement];
  if (count == lanes()) return load(v, from);
  if (wide()) {
    mask_part(count);
    vmovups(v | part_ | T_z, from);
    return;
  }
  std::vector<std::uint32_t> mask(8, 0);
  std::fill_n(mask.begin(), count, 0xffffffffu);
  vmovups(v, table(mask));
  vmaskmovps(v, v, from);  // masked-out lanes cannot fault
}

void Assembler::store_part(const Reg64& base, std::int64_t displacement, const Xmm& v, int count) {
  if (count == lanes()) return store(ptr[base + displacement], v);
  if (wide()) {
    mask_part(count);
    vmovups(ptr[base + displacement] | part_, v);
    return;
  }
  // Not vmaskmovps: its store is microcoded on AMD. Pieces of 4, 2 and 1; the register's low part is used up.
  const Xmm low(v.getIdx());
  if (count >= 4) {
    vmovups(ptr[base + displacement], low);
    displacement += 16;
    count -= 4;
    if (count > 0) vextractf128(low, Xbyak::Ymm(v.getIdx()), 1);
  }
  if (count >= 2) {
    vmovlps(ptr[base + displacement], low);
    displacement += 8;
    count -= 2;
    if (count > 0) vmovhlps(low, low, low);
  }
  if (count == 1) vmovss(ptr[base + displacement], low);
}

Address Assembler::constant(float value) {
  return table(std::vector<std::uint32_t>(lanes(), std::bit_cast<std::uint32_t>(value)));
}

Address Assembler::table(const std::vector<std::uint32_t>& words) {
  Constant*& known = by_words_[words];
  if (!known) {
    constants_.push_back(std::make_unique<Constant>());
    constants_.back()->words = words;
    known = constants_.back().get();
  }
  return ptr[rip + known->label];
}

}  // namespace replk::jit
