#include "jit/toeplitz.hpp"

#include <fmt/format.h>

#include <functional>
#include <map>

#include "core/error.hpp"
#include "jit/codelet.hpp"

namespace replk::jit {
namespace {

enum Stream { input_plane, second_plane, weights, output_plane, second_output, initial };

using Combination = std::vector<TapTerm>;
using Taps = std::map<int, Combination>;  // by distance: input minus output
using ValueAt = std::function<Real(int)>;
using Weight = std::function<Real(int)>;
using Values = std::vector<Real>;

void add_terms(Combination& to, const Combination& terms, int sign) {
  for (const TapTerm& t : terms) to.push_back({t.tap, sign * t.sign});
}

/// Taps at distances 2d + shift, less those at 2d where asked.
Taps halve(const Taps& taps, int shift, bool less_even) {
  Taps half;
  for (const auto& [distance, terms] : taps) {
    if ((distance - shift) % 2 == 0) add_terms(half[(distance - shift) >> 1], terms, 1);
    if (less_even && distance % 2 == 0) add_terms(half[distance >> 1], terms, -1);
  }
  return half;
}

/// The product of a Toeplitz matrix with a vector, recorded. Leaves take their weights from one running
/// number, over all distances whether used or not, so that the packing does not depend on which rows exist.
class Product {
 public:
  Product(const ToeplitzSpec& spec, Weight weight) : spec_(spec), weight_(std::move(weight)) {
    for (std::size_t i = 0; i < spec.taps.size(); i++) taps_[spec.taps[i]] = {{static_cast<int>(i), 1}};
  }

  /// y[o] = initial(o) + sum. Weights are numbered from `base` on.
  Values record(const ValueAt& x, const ValueAt& initial, int base = 0) {
    next_weight_ = base;
    return split(spec_.karatsuba, spec_.outputs, x, initial, taps_);
  }

  std::vector<Combination> packed() {
    record([](int) { return Real(); }, [](int) { return Real(); });
    return packed_;
  }

 private:
  /// With even and odd rows apart, y_even = A x_even + B x_odd and y_odd = C x_even + A' x_odd, where A = A'
  /// holds the even distances: so A (x_even + x_odd) serves both, and two products with B - A and C - A are
  /// left.
  Values split(int levels, int outputs, const ValueAt& x, const ValueAt& initial, const Taps& taps) {
    if (levels == 0 || outputs < 2) return leaf(outputs, x, initial, taps);
    const int even = (outputs + 1) / 2, odd = outputs / 2;
    const auto none = [](int) { return Real(); };
    const Values shared = split(
        levels - 1, even, [&](int i) { return x(2 * i) + x(2 * i + 1); }, none, halve(taps, 0, false));
    const auto start = [&](int i) { return shared[i]; };
    const Values from_odd = split(
        levels - 1, even, [&](int i) { return x(2 * i + 1); }, start, halve(taps, 1, true));
    const Values from_even = split(
        levels - 1, odd, [&](int i) { return x(2 * i); }, start, halve(taps, -1, true));
    Values y;
    for (int o = 0; o < outputs; o++) y.push_back((o % 2 ? from_even : from_odd)[o / 2] + initial(o));
    return y;
  }

  Values leaf(int outputs, const ValueAt& x, const ValueAt& initial, const Taps& taps) {
    std::map<int, int> number;
    for (const auto& [distance, terms] : taps) {
      number[distance] = next_weight_++;
      packed_.push_back(terms);
    }
    Values y;
    const int tiles = (outputs + spec_.tile - 1) / spec_.tile;
    for (int t = 0; t < tiles; t++) {
      const int begin = outputs * t / tiles, end = outputs * (t + 1) / tiles;
      Values sum;
      for (int o = begin; o < end; o++) sum.push_back(initial(o));
      const int lowest = begin * spec_.step + (number.empty() ? 0 : number.begin()->first);
      const int highest = (end - 1) * spec_.step + (number.empty() ? -1 : number.rbegin()->first);
      for (int i = lowest; i <= highest; i++) {
        Real input;
        bool read = false;
        for (int o = end - 1; o >= begin; o--) {
          const auto found = number.find(i - o * spec_.step);
          if (found == number.end()) continue;
          if (!read) input = x(i);
          read = true;
          if (input.zero()) break;
          sum[o - begin] = sum[o - begin] + input * weight_(found->second);
        }
      }
      y.insert(y.end(), sum.begin(), sum.end());
    }
    return y;
  }

  const ToeplitzSpec& spec_;
  const Weight weight_;
  Taps taps_;
  int next_weight_ = 0;
  std::vector<Combination> packed_;
};

int packed_size(const ToeplitzSpec& spec) {
  return static_cast<int>(Product(spec, [](int) { return Real(); }).packed().size());
}

bool exists(const ToeplitzSpec& spec, int i) {
  return i >= spec.first && i < spec.first + spec.inputs;
}

ValueAt plane(Program& program, const ToeplitzSpec& spec, Stream stream) {
  return [&program, &spec, stream](int i) {
    return exists(spec, i) ? program.input(stream, i - spec.first) : Real();
  };
}

void store(Program& program, Stream stream, int begin, const Values& y) {
  for (std::size_t o = 0; o < y.size(); o++) program.output(stream, begin + static_cast<int>(o), y[o]);
}

/// One real plane: y = initial + W x.
Listing real_listing(const ToeplitzSpec& spec, bool with_initial) {
  Program program;
  Product product(spec, [&](int w) { return program.input(weights, w); });
  const ValueAt start = [&](int o) { return with_initial ? program.input(initial, o) : Real(); };
  store(program, output_plane, 0, product.record(plane(program, spec, input_plane), start));
  return lower(program, {});
}

/// Records outputs begin..end-1 of a pair of planes.
void record_pair(Program& program, const ToeplitzSpec& spec, int begin, int end, int packed) {
  ToeplitzSpec part = spec;
  part.outputs = end - begin;
  Product product(part, [&](int w) { return program.input(weights, w); });
  const int shift = begin * spec.step;
  const ValueAt re_plane = plane(program, spec, input_plane), im_plane = plane(program, spec, second_plane);
  const ValueAt re = [&](int i) { return re_plane(i + shift); },
                im = [&](int i) { return im_plane(i + shift); };
  const auto none = [](int) { return Real(); };
  const auto from = [](const Values& v) { return [&v](int o) { return v[o]; }; };
  if (spec.gauss) {
    const Values shared = product.record([&](int i) { return re(i) + im(i); }, none);
    store(program, output_plane, begin, product.record(im, from(shared), packed));
    store(program, second_output, begin, product.record(re, from(shared), 2 * packed));
  } else {
    const Values minus = product.record([&](int i) { return -im(i); }, none, packed);
    store(program, output_plane, begin, product.record(re, from(minus)));
    const Values cross = product.record(im, none);
    store(program, second_output, begin, product.record(re, from(cross), packed));
  }
}

/// A whole pair of planes, without Karatsuba tile by tile, so that what the products share stays in
/// registers.
Listing pair_listing(const ToeplitzSpec& spec) {
  Program program;
  const int packed = packed_size(spec);
  const int tiles = spec.karatsuba > 0 ? 1 : (spec.outputs + spec.tile - 1) / spec.tile;
  for (int t = 0; t < tiles; t++)
    record_pair(program, spec, spec.outputs * t / tiles, spec.outputs * (t + 1) / tiles, packed);
  return lower(program, {});
}

Listing sum_listing(const ToeplitzSpec& spec) {
  Program program;
  for (int i = 0; i < spec.inputs; i++)
    program.output(output_plane, i, program.input(input_plane, i) + program.input(second_plane, i));
  return lower(program, {});
}

RegisterOptions register_options(Isa isa) {
  RegisterOptions options;
  options.registers = isa == Isa::avx512 ? 32 : 16;
  return options;
}

/// More multiply-adds than this in one pair, and the pair is computed by three calls of one routine, so that
/// the code stays within the micro-operation cache (4096 on Zen 3).
constexpr int whole_pair_limit = 2400;

bool whole_pair(const ToeplitzSpec& spec) {
  if (!spec.gauss) return true;
  return static_cast<std::int64_t>(spec.outputs) * static_cast<std::int64_t>(spec.taps.size()) * 3 <
         whole_pair_limit;
}

class ToeplitzKernel : public CodeletKernel {
 public:
  explicit ToeplitzKernel(const ToeplitzSpec& spec)
      : CodeletKernel(spec.isa), spec_(spec), whole_(whole_pair(spec)), packed_(packed_size(spec)) {
    const RegisterOptions options = register_options(spec.isa);
    if (whole_) {
      real_ = assign_registers(real_listing(spec, false), options);
      pair_ = assign_registers(pair_listing(spec), options);
    } else {
      real_ = assign_registers(real_listing(spec, true), options);
      sums_ = assign_registers(sum_listing(spec), options);
    }
    slots_ = std::max(real_.slots, pair_.slots);
  }

 private:
  void generate() override {
    prologue();
    mov(rbp, rsp);
    sub(rsp, frame_bytes() + 64);
    and_(rsp, -64);
    if (!whole_) clear(zeros());
    Xbyak::Label real, pairs, pair, done;
    L(real);
    test(reals_, reals_);
    jz(pairs, T_NEAR);
    if (whole_) {
      emit(real_, [this](const Operand& o) { return address(o); });
    } else {
      lea(initial_, ptr[rsp + zeros()]);
      call(product_);
    }
    advance(1, 1);
    dec(reals_);
    jmp(real, T_NEAR);
    L(pairs);
    test(pairs_, pairs_);
    jz(done, T_NEAR);
    L(pair);
    if (whole_)
      emit(pair_, [this](const Operand& o) { return address(o); });
    else
      pair_by_calls();
    advance(2, static_cast<int>(pair_parts(spec_.gauss).size()));
    dec(pairs_);
    jnz(pair, T_NEAR);
    L(done);
    mov(rsp, rbp);
    epilogue();
    if (!whole_) {
      L(product_);
      emit(real_, [this](const Operand& o) { return address(o, 8); });
      ret();
    }
  }

  /// Gauss: P = W1 (re + im); re' = P + W2 im; im' = P + W3 re.
  void pair_by_calls() {
    emit(sums_, [this](const Operand& o) {
      return o.kind == Operand::Kind::output ? ptr[rsp + sums() + o.index * vector_bytes()] : address(o);
    });
    mov(saved_in_, in_);
    mov(saved_out_, out_);
    mov(saved_weights_, weights_);
    lea(initial_, ptr[rsp + zeros()]);
    lea(in_, ptr[rsp + sums()]);
    lea(out_, ptr[rsp + shared()]);
    call(product_);
    lea(initial_, ptr[rsp + shared()]);
    lea(in_, ptr[saved_in_ + spec_.plane_stride]);
    mov(out_, saved_out_);
    add(weights_, packed_ * vector_bytes());
    call(product_);
    mov(in_, saved_in_);
    add(out_, spec_.plane_stride);
    add(weights_, packed_ * vector_bytes());
    call(product_);
    mov(out_, saved_out_);
    mov(weights_, saved_weights_);
  }

  void advance(int planes, int weight_planes) {
    add(in_, planes * spec_.plane_stride);
    add(out_, planes * spec_.plane_stride);
    add(weights_, weight_planes * packed_ * vector_bytes());
  }

  void clear(int at) {
    zero(vec(0));
    for (int o = 0; o < spec_.outputs; o++) store(ptr[rsp + at + o * vector_bytes()], vec(0));
  }

  Xbyak::Address address(const Operand& o, int pushed = 0) const {
    const int row = o.index * vector_bytes();
    if (o.kind == Operand::Kind::slot) return ptr[rsp + pushed + row];
    switch (o.stream) {
      case input_plane:
        return ptr[in_ + row];
      case second_plane:
        return ptr[in_ + spec_.plane_stride + row];
      case weights:
        return ptr[weights_ + row];
      case output_plane:
        return ptr[out_ + row];
      case second_output:
        return ptr[out_ + spec_.plane_stride + row];
      default:
        return ptr[initial_ + row];
    }
  }

  // The frame: slots, then for pairs by calls the sums of the inputs, the shared product, zeros.
  int sums() const { return slots_ * vector_bytes(); }
  int shared() const { return sums() + spec_.inputs * vector_bytes(); }
  int zeros() const { return shared() + spec_.outputs * vector_bytes(); }
  int frame_bytes() const { return whole_ ? sums() : zeros() + spec_.outputs * vector_bytes(); }

  const ToeplitzSpec spec_;
  const bool whole_;
  const int packed_;
  Allocation real_, pair_, sums_;
  int slots_ = 0;
  Xbyak::Label product_;
  const Xbyak::Reg64 in_ = rdi, out_ = rsi, weights_ = rdx, reals_ = rcx, pairs_ = r8, initial_ = r9,
                     saved_in_ = r10, saved_out_ = r11, saved_weights_ = r12;
};

}  // namespace

std::string ToeplitzSpec::text() const {
  std::string list;
  for (int t : taps) list += fmt::format("{}{}", list.empty() ? "" : ",", t);
  return fmt::format(
      "toeplitz {} outputs={} inputs={}+{} step={} taps={} karatsuba={} tile={} gauss={:d} stride={}",
      name(isa), outputs, first, inputs, step, list, karatsuba, tile, gauss, plane_stride);
}

std::vector<Combination> toeplitz_weights(const ToeplitzSpec& spec) {
  return Product(spec, [](int) { return Real(); }).packed();
}

std::span<const PairPart> pair_parts(bool gauss) {
  // Of static storage: addresses of weights are computed with it in every run, and a run allocates nothing.
  static constexpr PairPart three[] = {{1, 0}, {-1, -1}, {-1, 1}}, two[] = {{1, 0}, {0, 1}};
  if (gauss) return three;
  return two;
}

std::vector<std::uint8_t> generate(const ToeplitzSpec& spec) {
  return ToeplitzKernel(spec).take();
}

Counts count_real(const ToeplitzSpec& spec) {
  return assign_registers(real_listing(spec, !whole_pair(spec)), register_options(spec.isa)).counts;
}

Counts count_pair(const ToeplitzSpec& spec) {
  if (whole_pair(spec)) return assign_registers(pair_listing(spec), register_options(spec.isa)).counts;
  Counts once = count_real(spec);
  const Counts sums = assign_registers(sum_listing(spec), register_options(spec.isa)).counts;
  return {3 * once.instructions + sums.instructions, 3 * once.multiplies, 3 * once.adds + sums.adds,
          3 * once.loads + sums.loads, 3 * once.stores + sums.stores};
}

}  // namespace replk::jit
