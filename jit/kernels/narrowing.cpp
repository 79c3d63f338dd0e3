#include "jit/kernels/narrowing.hpp"

namespace replk::jit {

using Xbyak::Ymm;
using Xbyak::Zmm;

Zmm NarrowingAssembler::keep(float value) {
  const Zmm kept = keep();
  load(kept, constant(value));
  return kept;
}
Zmm NarrowingAssembler::keep_words(const std::vector<std::uint32_t>& words) {
  const Zmm kept = keep();
  load(kept, table(words));
  return kept;
}

void NarrowingAssembler::load_bf16_constants() {
  if (native_bf16_) return;
  one_ = keep_words(std::vector<std::uint32_t>(16, 1));
  half_ = keep_words(std::vector<std::uint32_t>(16, 0x7fff));
  quiet_ = keep_words(std::vector<std::uint32_t>(16, 0x00400000));
  words_in_order_ = keep_words({0, 0, 2, 0, 4, 0, 6, 0, 1, 0, 3, 0, 5, 0, 7, 0});
}
void NarrowingAssembler::load_u8_constants() {
  most_ = keep(255.0f);
  bytes_in_order_ = keep_words({0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15});
}

void NarrowingAssembler::to_bf16(const Zmm& low, const Zmm& high, const Zmm& spare_low,
                                 const Zmm& spare_high) {
  if (native_bf16_) return vcvtne2ps2bf16(low, high, low);
  const auto round = [&](const Zmm& x, const Zmm& spare) {  // as core::from_float<Bf16> does
    vpsrld(spare, x, 16);
    vpandd(spare, spare, one_);
    vpaddd(spare, spare, half_);
    vpaddd(spare, spare, x);
    vcmpunordps(k4, x, x);
    vpord(spare | k4, x, quiet_);
    vpsrld(spare, spare, 16);
  };
  round(low, spare_low);
  round(high, spare_high);
  vpackusdw(low, spare_low, spare_high);  // within 128 bits
  vpermq(low, words_in_order_, low);
}

void NarrowingAssembler::split_bf16(const Zmm& x0, const Zmm& x1, const Zmm& high0, const Zmm& high1,
                                    const Zmm& spare0, const Zmm& spare1) {
  vmovaps(high0, x0);
  vmovaps(high1, x1);
  to_bf16(high0, high1, spare0, spare1);
  vextracti64x4(Ymm(spare1.getIdx()), high0, 1);
  vpmovzxwd(spare0, Ymm(high0.getIdx()));
  vpmovzxwd(spare1, Ymm(spare1.getIdx()));
  for (const Zmm& spare : {spare0, spare1}) vpslld(spare, spare, 16);
  vsubps(x0, x0, spare0);  // exact
  vsubps(x1, x1, spare1);
  to_bf16(x0, x1, spare0, spare1);
}

void NarrowingAssembler::quantise(const Zmm& x) {
  // A NaN is the second operand and stays; it then becomes the least integer, which packs take for 0, as they
  // take every negative one.
  vminps(x, most_, x);
  vcvtps2dq(x | T_rn_sae, x);
}

void NarrowingAssembler::pack_u8(const Zmm& x0, const Zmm& x1) {
  vpackusdw(x0, x0, x1);
  vpackuswb(x0, x0, x0);
  vpermd(x0, bytes_in_order_, x0);
}
void NarrowingAssembler::pack_u8(const Zmm& x0, const Zmm& x1, const Zmm& x2, const Zmm& x3) {
  vpackusdw(x0, x0, x1);
  vpackusdw(x2, x2, x3);
  vpackuswb(x0, x0, x2);
  vpermd(x0, bytes_in_order_, x0);
}

}  // namespace replk::jit
