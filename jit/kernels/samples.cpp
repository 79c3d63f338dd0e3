#include "jit/kernels/samples.hpp"

#include <fmt/format.h>

#include <array>
#include <mutex>

#include "jit/kernels/column_fft.hpp"
#include "jit/kernels/direct.hpp"
#include "jit/kernels/gemm.hpp"
#include "jit/kernels/narrow_product.hpp"
#include "jit/kernels/row_transform.hpp"
#include "jit/kernels/tile_operand.hpp"
#include "jit/kernels/tile_product.hpp"
#include "jit/kernels/toeplitz.hpp"
#include "jit/kernels/weight_direct.hpp"
#include "jit/kernels/weight_transform.hpp"
#include "jit/x64/codelet.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::jit {
namespace {

/// Every instruction that a codelet may have, in every form: which of them a small transform meets is up to
/// the registers that happen to be free.
class CodeletForms : public CodeletKernel {
 public:
  explicit CodeletForms(Isa isa) : CodeletKernel(isa) { zero_register_ = 0; }

 private:
  void generate() override {
    using Kind = Operand::Kind;
    const Operand result{Kind::reg, 0, 1, 0}, other{Kind::reg, 0, 2, 0}, third{Kind::reg, 0, 3, 0};
    const Operand memory{Kind::input, 0, 1, 0};
    Allocation forms;
    for (const Operand& from : {other, memory}) {
      forms.instructions.push_back({Op::store, true, result, from, {}, {}});
      for (const Op op : {Op::add, Op::sub, Op::mul})
        forms.instructions.push_back({op, false, result, other, from, {}});
      for (const Op op : {Op::fma, Op::fms, Op::fnma, Op::fnms}) {  // the sum overwritten, then a factor
        forms.instructions.push_back({op, false, result, other, from, result});
        forms.instructions.push_back({op, false, result, from, other, result});
        forms.instructions.push_back({op, false, result, result, from, third});
        forms.instructions.push_back({op, false, result, from, result, third});
        forms.instructions.push_back({op, false, result, result, other, from});
      }
    }
    for (const Op op : {Op::negate, Op::relu, Op::zero})
      forms.instructions.push_back({op, false, result, other, {}, {}});
    forms.instructions.push_back({Op::store, false, memory, result, {}, {}});
    with_frame(
        0, [&] { emit(forms, [this](const Operand& o) { return ptr[rdi + o.index * vector_bytes()]; }); });
  }
};

Counts count(const ColumnFftSpec& spec) {
  return count_pair(spec);
}
Counts count(const ToeplitzSpec& spec) {
  return count_real(spec) + count_pair(spec);
}

template <class Spec>
void add(std::vector<Sample>& all, Features features) {
  for (const Spec& spec : Spec::samples(features)) {
    Sample sample{spec.text(), [spec] { return generate(spec); }, nullptr};
    if constexpr (requires { count(spec); }) sample.count = [spec] { return count(spec); };
    all.push_back(std::move(sample));
  }
}

std::uint64_t computed(Isa isa) {
  Fingerprint fingerprint;
  for (const Sample& sample : samples(features_beside(isa))) {
    fingerprint.add(sample.text);
    fingerprint.add(sample.generate());
  }
  return fingerprint.value();
}

}  // namespace

std::vector<Sample> samples(Features features) {
  std::vector<Sample> all;
  const Isa isa = isa_of(features);
  all.push_back({fmt::format("codelet-forms {}", name(isa)), [isa] { return CodeletForms(isa).take(); }, {}});
  add<DirectSpec>(all, features);
  add<WeightDirectSpec>(all, features);
  add<RowForwardSpec>(all, features);
  add<RowInverseSpec>(all, features);
  add<RowWeightsSpec>(all, features);
  add<ToeplitzSpec>(all, features);
  add<ColumnFftSpec>(all, features);
  add<ColumnWeightsSpec>(all, features);
  add<GemmSpec>(all, features);
  add<NarrowProductSpec>(all, features);
  add<TileOperandSpec>(all, features);
  add<TileProductSpec>(all, features);
  return all;
}

Features features_beside(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return {};
    case Isa::avx2:
      return Feature::avx2 | Feature::avx_vnni;
    case Isa::avx512:
      break;
  }
  return Feature::avx2 | Feature::avx512 | Feature::avx512_vnni | Feature::avx512_bf16 | Feature::amx_tile |
         Feature::amx_bf16 | Feature::amx_int8;
}

std::uint64_t fingerprint(Isa isa) {
  if (isa == Isa::portable) return 0;
  struct Known {
    std::once_flag once;
    std::uint64_t value = 0;
  };
  static auto* const known = new std::array<Known, 3>;
  Known& own = (*known)[static_cast<std::size_t>(isa)];
  std::call_once(own.once, [&] { own.value = computed(isa); });
  return own.value;
}

}  // namespace replk::jit
