#include "jit/kernels/toeplitz.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "jit/kernels/toeplitz_programs.hpp"
#include "jit/x64/codelet.hpp"

namespace replk::jit {
namespace {

Allocation assign(const ToeplitzSpec& spec, const Listing& list) {
  RegisterOptions options;
  options.registers = vector_registers(spec.isa);
  if (spec.half_weights) options.converted_inputs = 1u << ToeplitzPrograms::weights;
  return assign_registers(list, options);
}

/// More multiply-adds than this in one pair, and the pair is computed by three calls of one routine, so that
/// the code stays within the micro-operation cache (4096 on Zen 3).
constexpr int whole_pair_limit = 2400;

bool whole_pair(const ToeplitzSpec& spec) {
  if (!spec.gauss) return true;
  return static_cast<std::int64_t>(spec.outputs) * static_cast<std::int64_t>(spec.taps.size()) * 3 <
         whole_pair_limit;
}

/// What products by calls hand to each other, in bytes from the start of the scratch: the inputs' difference,
/// then these.
struct Scratch {
  explicit Scratch(const ToeplitzSpec& spec) {
    if (whole_pair(spec)) return;
    const int vector = 4 * vector_floats(spec.isa);
    product = ToeplitzPrograms(spec).product_weights() * vector;
    shared = spec.inputs * vector;
    zeros = shared + spec.outputs * vector;
    derived = zeros + spec.outputs * vector;
    bytes = derived + 3 * product;
  }
  int product = 0;  // the derived weights of one product
  int shared = 0;   // the product that both results share
  int zeros = 0;
  int derived = 0;  // of three products
  int bytes = 0;
};

/// for each real plane: its product
/// for each pair of planes: its products, and the next pair's weights prefetched
class ToeplitzKernel : public CodeletKernel {
 public:
  explicit ToeplitzKernel(const ToeplitzSpec& spec)
      : CodeletKernel(spec.isa), spec_(spec), whole_(whole_pair(spec)), at_(spec) {
    const ToeplitzPrograms programs(spec_);
    if (whole_) {
      real_ = assign(spec_, programs.real());
      pair_ = assign(spec_, programs.pair());
    } else {
      product_ = assign(spec_, programs.product());
      difference_ = assign(spec_, programs.difference());
      derive_real_ = assign(spec_, programs.derive_real());
      derive_pair_ = assign(spec_, programs.derive_pair());
    }
    slots_ = std::max({real_.slots, pair_.slots, product_.slots, difference_.slots, derive_real_.slots,
                       derive_pair_.slots});
  }

 private:
  DataType type(int stream) const override {
    return spec_.half_weights && stream == ToeplitzPrograms::weights ? DataType::f16 : DataType::f32;
  }
  int weight_bytes() const { return spec_.half_weights ? vector_bytes() / 2 : vector_bytes(); }

  void generate() override {
    with_frame(slots_, [&] {
      if (!whole_) clear(at_.zeros);
      loop_any(reals_, [&] { real_plane(); });
      loop_any(pairs_, [&] { pair_of_planes(); });
    });
    if (!whole_) product_routine();
  }

  void real_plane() {
    in_pair_ = false;
    if (whole_)
      put(real_);
    else
      real_by_call();
    advance(1);
  }

  void pair_of_planes() {
    in_pair_ = true;
    lea(ahead_, ptr[weights_ + 2 * taps() * weight_bytes()]);
    if (whole_)
      put(pair_, 0, vectors_ahead(2 * taps()));
    else
      pair_by_calls();
    advance(2);
  }

  /// Prefetches lines of the next pair's weights on the way.
  void put(const Allocation& code, int pushed = 0, int vectors_ahead = 0) {
    Ahead ahead;
    for (int i = 0; i < vectors_ahead * weight_bytes(); i += 64) ahead.lines.push_back(ptr[ahead_ + i]);
    emit(
        code, [this, pushed](const Operand& o) { return address(o, pushed); }, ahead);
  }

  /// out = initial + a product of in, which a call reaches with its return address above the slots.
  void product_routine() {
    L(routine_);
    put(product_, 8, vectors_ahead(taps_ahead()));
    add(ahead_, taps_ahead() * weight_bytes());
    ret();
  }

  void real_by_call() {
    lea(derived_, ptr[scratch_ + at_.derived]);
    put(derive_real_);
    lea(initial_, ptr[scratch_ + at_.zeros]);
    mov(ahead_, weights_);
    call(routine_);
  }

  /// Gauss's products one after the other, through the scratch.
  void pair_by_calls() {
    lea(derived_, ptr[scratch_ + at_.derived]);
    put(derive_pair_);
    emit(difference_, [this](const Operand& o) {
      return o.kind == Operand::Kind::output ? ptr[scratch_ + o.index * vector_bytes()] : address(o);
    });
    mov(saved_in_, in_);
    mov(saved_out_, out_);
    lea(initial_, ptr[scratch_ + at_.zeros]);
    mov(in_, scratch_);
    lea(out_, ptr[scratch_ + at_.shared]);
    if (spec_.accumulate) clear(at_.shared);  // the routine adds to what is there
    call(routine_);
    lea(initial_, ptr[scratch_ + at_.shared]);
    mov(in_, saved_in_);
    mov(out_, saved_out_);
    add(derived_, at_.product);
    call(routine_);
    add(in_, spec_.plane_stride);
    add(out_, spec_.plane_stride);
    add(derived_, at_.product);
    call(routine_);
    mov(in_, saved_in_);
    mov(out_, saved_out_);
  }

  void advance(int planes) {
    add(in_, planes * spec_.plane_stride);
    add(out_, planes * spec_.plane_stride);
    add(weights_, planes * (spec_.weight_planes ? spec_.plane_stride : taps() * weight_bytes()));
  }

  void clear(int at) {
    zero(vec(0));
    for (int o = 0; o < spec_.outputs; o++) store(ptr[scratch_ + at + o * vector_bytes()], vec(0));
  }

  Xbyak::Address address(const Operand& o, int pushed = 0) const {
    const int row = o.index * vector_bytes();
    if (o.kind == Operand::Kind::slot) return ptr[rsp + pushed + row];
    switch (o.stream) {
      case ToeplitzPrograms::input_plane:
        return ptr[in_ + row];
      case ToeplitzPrograms::second_plane:
        return ptr[in_ + spec_.plane_stride + row];
      case ToeplitzPrograms::weights:
        return ptr[weights_ + weight_at(o.index)];
      case ToeplitzPrograms::derived:
        return ptr[derived_ + row];
      case ToeplitzPrograms::output_plane:
        return ptr[out_ + row];
      case ToeplitzPrograms::second_output:
        return ptr[out_ + spec_.plane_stride + row];
      default:
        return ptr[initial_ + row];
    }
  }

  std::int64_t weight_at(int index) const {
    const int parts = in_pair_ ? 2 : 1, part = index % parts;
    const int tap = spec_.backwards ? taps() - 1 - index / parts : index / parts;
    if (spec_.weight_planes) return part * spec_.plane_stride + std::int64_t{tap} * vector_bytes();
    return (std::int64_t{tap} * parts + part) * weight_bytes();
  }

  int taps() const { return static_cast<int>(spec_.taps.size()); }
  int vectors_ahead(int count) const { return spec_.weight_planes ? 0 : count; }  // planes lie in the L2
  int taps_ahead() const { return (2 * taps() + 2) / 3; }  // of the pair, in each of its three products

  const ToeplitzSpec spec_;
  const bool whole_;
  const Scratch at_;
  Allocation real_, pair_;                                       // of whole_
  Allocation product_, difference_, derive_real_, derive_pair_;  // otherwise
  int slots_ = 0;
  bool in_pair_ = false;  // whether the weights of a pair are meant
  Xbyak::Label routine_;
  const Xbyak::Reg64 in_ = rdi, out_ = rsi, weights_ = rdx, reals_ = rcx, pairs_ = r8, scratch_ = r9,
                     initial_ = r14, saved_in_ = r10, saved_out_ = r11, derived_ = r12, ahead_ = r13;
};

}  // namespace

std::string ToeplitzSpec::text() const {
  std::string list;
  for (int t : taps) list += fmt::format("{}{}", list.empty() ? "" : ",", t);
  return fmt::format(
      "toeplitz {} outputs={} inputs={}+{} step={} taps={} karatsuba={} tile={} gauss={:d} stride={}{}{}{}{}",
      name(isa), outputs, first, inputs, step, list, karatsuba, tile, gauss, plane_stride,
      half_weights ? " half" : "", weight_planes ? " planes" : "", backwards ? " backwards" : "",
      accumulate ? " accumulate" : "");
}

std::vector<ToeplitzSpec> ToeplitzSpec::samples(Features features) {
  ToeplitzSpec spec;
  spec.isa = isa_of(features);
  spec.plane_stride = 32 * 4 * vector_floats(spec.isa);
  std::vector<ToeplitzSpec> all;
  const auto add = [&](int rows, int taps, int karatsuba, bool gauss) {
    spec.outputs = spec.inputs = rows;
    spec.first = taps / 2;
    spec.karatsuba = karatsuba;
    spec.gauss = gauss;
    spec.taps.clear();
    for (int tap = 0; tap < taps; tap++) spec.taps.push_back(tap);
    all.push_back(spec);
  };
  add(7, 7, 0, true);
  add(7, 7, 1, false);
  add(29, 28, 0, true);  // by calls
  add(29, 28, 1, true);
  spec.backwards = true;  // of an input gradient that reads the layer's weights
  add(7, 7, 0, true);
  add(29, 28, 1, true);
  spec.backwards = false;
  spec.half_weights = true;
  add(7, 7, 0, true);
  add(29, 28, 1, true);
  spec.half_weights = false;
  spec.weight_planes = spec.accumulate = true;  // of a weight gradient
  add(7, 7, 1, true);
  add(29, 28, 1, true);
  return all;
}

std::size_t scratch_bytes(const ToeplitzSpec& spec) {
  return static_cast<std::size_t>(Scratch(spec).bytes);
}

std::vector<std::uint8_t> generate(const ToeplitzSpec& spec) {
  return ToeplitzKernel(spec).take();
}

Counts count_real(const ToeplitzSpec& spec) {
  const ToeplitzPrograms programs(spec);
  if (whole_pair(spec)) return assign(spec, programs.real()).counts;
  return assign(spec, programs.derive_real()).counts + assign(spec, programs.product()).counts;
}

Counts count_pair(const ToeplitzSpec& spec) {
  const ToeplitzPrograms programs(spec);
  if (whole_pair(spec)) return assign(spec, programs.pair()).counts;
  const Counts product = assign(spec, programs.product()).counts;
  return assign(spec, programs.derive_pair()).counts + assign(spec, programs.difference()).counts + product +
         product + product;
}

}  // namespace replk::jit
