#include "jit/toeplitz.hpp"

#include <fmt/format.h>

#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "core/error.hpp"
#include "jit/codelet.hpp"

namespace replk::jit {
namespace {

enum Stream { input_plane, second_plane, weights, output_plane, second_output, initial, spread };

/// A weight, recorded where it is first used: what a product needs late is not kept in a register from the
/// start.
class Weight {
 public:
  explicit Weight(std::function<Real()> make) : make_(std::move(make)) {}
  Real get() {
    if (make_) value_ = std::exchange(make_, nullptr)();
    return value_;
  }

 private:
  std::function<Real()> make_;
  Real value_;
};

using Taps = std::map<int, std::shared_ptr<Weight>>;  // by distance: input minus output
using ValueAt = std::function<Real(int)>;
using Values = std::vector<Real>;

std::shared_ptr<Weight> weight(std::function<Real()> make) {
  return std::make_shared<Weight>(std::move(make));
}

/// Taps at distances 2d + shift, less those at 2d where asked.
Taps halve(const Taps& taps, int shift, bool less_even) {
  Taps half;
  for (const auto& [distance, tap] : taps)
    if ((distance - shift) % 2 == 0) half[(distance - shift) >> 1] = tap;
  if (!less_even) return half;
  for (const auto& [distance, tap] : taps) {
    if (distance % 2 != 0) continue;
    std::shared_ptr<Weight>& place = half[distance >> 1];
    // Named anew, since Clang 14 (./run fuzz) captures no structured binding.
    place = weight([minuend = place, tap = tap] { return (minuend ? minuend->get() : Real()) - tap->get(); });
  }
  return half;
}

/// The product of a Toeplitz matrix with a vector, recorded.
class Product {
 public:
  /// Where `numbered` is given, leaves take their weights from it by one running number, over all distances
  /// whether used or not: as spread() gives them.
  explicit Product(const ToeplitzSpec& spec, ValueAt numbered = nullptr)
      : spec_(spec), numbered_(std::move(numbered)) {}

  /// y[o] = initial(o) + sum.
  Values record(const Taps& taps, const ValueAt& x, const ValueAt& initial) {
    leaf_weights_.clear();
    return split(spec_.karatsuba, spec_.outputs, x, initial, taps);
  }

  /// The weights of all leaves in their order.
  Values spread(const Taps& taps) {
    record(taps, nothing, nothing);
    Values all;
    for (const auto& each : leaf_weights_) all.push_back(each->get());
    return all;
  }

  static Real nothing(int) { return {}; }

 private:
  /// With even and odd rows apart, y_even = A x_even + B x_odd and y_odd = C x_even + A' x_odd, where A = A'
  /// holds the even distances: so A (x_even + x_odd) serves both, and two products with B - A and C - A are
  /// left.
  Values split(int levels, int outputs, const ValueAt& x, const ValueAt& initial, const Taps& taps) {
    if (levels == 0 || outputs < 2) return leaf(outputs, x, initial, taps);
    const int even = (outputs + 1) / 2, odd = outputs / 2;
    const Values shared = split(
        levels - 1, even, [&](int i) { return x(2 * i) + x(2 * i + 1); }, nothing, halve(taps, 0, false));
    const auto start = [&](int i) { return shared[i]; };
    const Values from_odd = split(
        levels - 1, even, [&](int i) { return x(2 * i + 1); }, start, halve(taps, 1, true));
    const Values from_even = split(
        levels - 1, odd, [&](int i) { return x(2 * i); }, start, halve(taps, -1, true));
    Values y;
    for (int o = 0; o < outputs; o++) y.push_back((o % 2 ? from_even : from_odd)[o / 2] + initial(o));
    return y;
  }

  Values leaf(int outputs, const ValueAt& x, const ValueAt& initial, Taps taps) {
    for (auto& [distance, tap] : taps) {
      const int number = static_cast<int>(leaf_weights_.size());
      if (numbered_) tap = weight([this, number] { return numbered_(number); });
      leaf_weights_.push_back(tap);
    }
    Values y;
    const int tiles = (outputs + spec_.tile - 1) / spec_.tile;
    for (int t = 0; t < tiles; t++) {
      const int begin = outputs * t / tiles, end = outputs * (t + 1) / tiles;
      Values sum;
      for (int o = begin; o < end; o++) sum.push_back(initial(o));
      const int lowest = begin * spec_.step + (taps.empty() ? 0 : taps.begin()->first);
      const int highest = (end - 1) * spec_.step + (taps.empty() ? -1 : taps.rbegin()->first);
      for (int i = lowest; i <= highest; i++) {
        Real input;
        bool read = false;
        for (int o = end - 1; o >= begin; o--) {
          const auto found = taps.find(i - o * spec_.step);
          if (found == taps.end()) continue;
          if (!read) input = x(i);
          read = true;
          if (input.zero()) break;
          sum[o - begin] = sum[o - begin] + input * found->second->get();
        }
      }
      y.insert(y.end(), sum.begin(), sum.end());
    }
    return y;
  }

  const ToeplitzSpec& spec_;
  const ValueAt numbered_;
  std::vector<std::shared_ptr<Weight>> leaf_weights_;
};

/// Taps of a program, from its stream of weights: those of a real plane, and what the products of a pair
/// need.
class PlaneTaps {
 public:
  PlaneTaps(Program& program, const ToeplitzSpec& spec) : program_(program), spec_(spec) {}

  Taps real() const {
    return taps([this](int t) { return program_.input(weights, t); });
  }
  Taps re() const {
    return taps([this](int t) { return re(t); });
  }
  Taps im() const {
    return taps([this](int t) { return im(t); });
  }
  /// Gauss: with P = im (x_re - x_im), the results are P + (re - im) x_re and P + (re + im) x_im.
  Taps difference() const {
    return taps([this](int t) { return re(t) - im(t); });
  }
  Taps sum() const {
    return taps([this](int t) { return re(t) + im(t); });
  }

 private:
  Taps taps(const ValueAt& value) const {
    Taps all;
    for (std::size_t t = 0; t < spec_.taps.size(); t++)
      all[spec_.taps[t]] = weight([value, t] { return value(static_cast<int>(t)); });
    return all;
  }
  Real re(int t) const { return program_.input(weights, 2 * t); }
  Real im(int t) const { return program_.input(weights, 2 * t + 1); }

  Program& program_;
  const ToeplitzSpec& spec_;
};

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

/// One real plane: y = W x.
Listing real_listing(const ToeplitzSpec& spec) {
  Program program;
  store(program, output_plane, 0,
        Product(spec).record(PlaneTaps(program, spec).real(), plane(program, spec, input_plane),
                             Product::nothing));
  return lower(program, {});
}

/// One real plane: y = initial + W x, with weights that are spread already.
Listing product_listing(const ToeplitzSpec& spec) {
  Program program;
  Product product(spec, [&](int number) { return program.input(spread, number); });
  const ValueAt start = [&](int o) { return program.input(initial, o); };
  store(program, output_plane, 0,
        product.record(PlaneTaps(program, spec).real(), plane(program, spec, input_plane), start));
  return lower(program, {});
}

/// Weights as product_listing takes them, of all products of a real plane or of a pair.
Listing spread_listing(const ToeplitzSpec& spec, bool pair) {
  Program program;
  const PlaneTaps from(program, spec);
  int number = 0;
  for (const Taps& taps :
       pair ? std::vector<Taps>{from.im(), from.difference(), from.sum()} : std::vector<Taps>{from.real()}) {
    const Values all = Product(spec).spread(taps);
    store(program, spread, number, all);
    number += static_cast<int>(all.size());
  }
  return lower(program, {});
}

int spread_size(const ToeplitzSpec& spec) {
  Program program;
  return static_cast<int>(Product(spec).spread(PlaneTaps(program, spec).real()).size());
}

/// Records outputs begin..end-1 of a pair of planes.
void record_pair(Program& program, const ToeplitzSpec& spec, int begin, int end) {
  ToeplitzSpec part = spec;
  part.outputs = end - begin;
  Product product(part);
  const PlaneTaps from(program, spec);
  const int shift = begin * spec.step;
  const ValueAt re_plane = plane(program, spec, input_plane), im_plane = plane(program, spec, second_plane);
  const ValueAt re = [&](int i) { return re_plane(i + shift); },
                im = [&](int i) { return im_plane(i + shift); };
  const auto start = [](const Values& v) { return [&v](int o) { return v[o]; }; };
  if (spec.gauss) {
    const Values shared = product.record(
        from.im(), [&](int i) { return re(i) - im(i); }, Product::nothing);
    store(program, output_plane, begin, product.record(from.difference(), re, start(shared)));
    store(program, second_output, begin, product.record(from.sum(), im, start(shared)));
  } else {
    const Values minus = product.record(
        from.im(), [&](int i) { return -im(i); }, Product::nothing);
    store(program, output_plane, begin, product.record(from.re(), re, start(minus)));
    const Values cross = product.record(from.re(), im, Product::nothing);
    store(program, second_output, begin, product.record(from.im(), re, start(cross)));
  }
}

/// A whole pair of planes, without Karatsuba tile by tile, so that what the products share stays in
/// registers.
Listing pair_listing(const ToeplitzSpec& spec) {
  Program program;
  const int tiles = spec.karatsuba > 0 ? 1 : (spec.outputs + spec.tile - 1) / spec.tile;
  for (int t = 0; t < tiles; t++)
    record_pair(program, spec, spec.outputs * t / tiles, spec.outputs * (t + 1) / tiles);
  return lower(program, {});
}

Listing difference_listing(const ToeplitzSpec& spec) {
  Program program;
  for (int i = 0; i < spec.inputs; i++)
    program.output(output_plane, i, program.input(input_plane, i) - program.input(second_plane, i));
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
      : CodeletKernel(spec.isa), spec_(spec), whole_(whole_pair(spec)) {
    const RegisterOptions options = register_options(spec.isa);
    if (whole_) {
      real_ = assign_registers(real_listing(spec), options);
      pair_ = assign_registers(pair_listing(spec), options);
    } else {
      spread_ = spread_size(spec);
      real_ = assign_registers(product_listing(spec), options);
      differences_ = assign_registers(difference_listing(spec), options);
      spread_real_ = assign_registers(spread_listing(spec, false), options);
      spread_pair_ = assign_registers(spread_listing(spec, true), options);
    }
    slots_ = std::max({real_.slots, pair_.slots, spread_real_.slots, spread_pair_.slots});
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
    if (whole_)
      put(real_);
    else
      real_by_call();
    advance(1);
    dec(reals_);
    jmp(real, T_NEAR);
    L(pairs);
    test(pairs_, pairs_);
    jz(done, T_NEAR);
    L(pair);
    lea(ahead_, ptr[weights_ + 2 * taps() * vector_bytes()]);
    if (whole_)
      put(pair_, 0, 2 * taps());
    else
      pair_by_calls();
    advance(2);
    dec(pairs_);
    jnz(pair, T_NEAR);
    L(done);
    mov(rsp, rbp);
    epilogue();
    if (!whole_) {
      L(product_);
      put(real_, 8, taps_ahead());
      add(ahead_, taps_ahead() * vector_bytes());
      ret();
    }
  }

  /// Calls up lines of the next pair's weights on the way.
  void put(const Allocation& code, int pushed = 0, int vectors_ahead = 0) {
    Ahead ahead;
    for (int i = 0; i < vectors_ahead * vector_bytes(); i += 64) ahead.lines.push_back(ptr[ahead_ + i]);
    emit(
        code, [this, pushed](const Operand& o) { return address(o, pushed); }, ahead);
  }

  void real_by_call() {
    lea(products_, ptr[rsp + products()]);
    put(spread_real_);
    lea(initial_, ptr[rsp + zeros()]);
    mov(ahead_, weights_);
    call(product_);
  }

  /// Gauss's products one after the other, through the frame.
  void pair_by_calls() {
    lea(products_, ptr[rsp + products()]);
    put(spread_pair_);
    emit(differences_, [this](const Operand& o) {
      return o.kind == Operand::Kind::output ? ptr[rsp + differences() + o.index * vector_bytes()]
                                             : address(o);
    });
    mov(saved_in_, in_);
    mov(saved_out_, out_);
    lea(initial_, ptr[rsp + zeros()]);
    lea(in_, ptr[rsp + differences()]);
    lea(out_, ptr[rsp + shared()]);
    call(product_);
    lea(initial_, ptr[rsp + shared()]);
    mov(in_, saved_in_);
    mov(out_, saved_out_);
    add(products_, spread_ * vector_bytes());
    call(product_);
    add(in_, spec_.plane_stride);
    add(out_, spec_.plane_stride);
    add(products_, spread_ * vector_bytes());
    call(product_);
    mov(in_, saved_in_);
    mov(out_, saved_out_);
  }

  void advance(int planes) {
    add(in_, planes * spec_.plane_stride);
    add(out_, planes * spec_.plane_stride);
    add(weights_, planes * taps() * vector_bytes());
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
      case spread:
        return ptr[products_ + row];
      case output_plane:
        return ptr[out_ + row];
      case second_output:
        return ptr[out_ + spec_.plane_stride + row];
      default:
        return ptr[initial_ + row];
    }
  }

  int taps() const { return static_cast<int>(spec_.taps.size()); }
  int taps_ahead() const { return (2 * taps() + 2) / 3; }  // of the pair, in each of its three products

  // The frame: slots, then for products by calls the inputs' difference, the shared product, zeros and the
  // weights of three products.
  int differences() const { return slots_ * vector_bytes(); }
  int shared() const { return differences() + spec_.inputs * vector_bytes(); }
  int zeros() const { return shared() + spec_.outputs * vector_bytes(); }
  int products() const { return zeros() + spec_.outputs * vector_bytes(); }
  int frame_bytes() const { return whole_ ? differences() : products() + 3 * spread_ * vector_bytes(); }

  const ToeplitzSpec spec_;
  const bool whole_;
  int spread_ = 0;  // weights of one product
  Allocation real_, pair_, differences_, spread_real_, spread_pair_;
  int slots_ = 0;
  Xbyak::Label product_;
  const Xbyak::Reg64 in_ = rdi, out_ = rsi, weights_ = rdx, reals_ = rcx, pairs_ = r8, initial_ = r9,
                     saved_in_ = r10, saved_out_ = r11, products_ = r12, ahead_ = r13;
};

}  // namespace

std::string ToeplitzSpec::text() const {
  std::string list;
  for (int t : taps) list += fmt::format("{}{}", list.empty() ? "" : ",", t);
  return fmt::format(
      "toeplitz {} outputs={} inputs={}+{} step={} taps={} karatsuba={} tile={} gauss={:d} stride={}",
      name(isa), outputs, first, inputs, step, list, karatsuba, tile, gauss, plane_stride);
}

std::vector<std::uint8_t> generate(const ToeplitzSpec& spec) {
  return ToeplitzKernel(spec).take();
}

namespace {

Counts counted(const ToeplitzSpec& spec, const Listing& list) {
  return assign_registers(list, register_options(spec.isa)).counts;
}

}  // namespace

Counts count_real(const ToeplitzSpec& spec) {
  if (whole_pair(spec)) return counted(spec, real_listing(spec));
  return counted(spec, spread_listing(spec, false)) + counted(spec, product_listing(spec));
}

Counts count_pair(const ToeplitzSpec& spec) {
  if (whole_pair(spec)) return counted(spec, pair_listing(spec));
  const Counts product = counted(spec, product_listing(spec));
  return counted(spec, spread_listing(spec, true)) + counted(spec, difference_listing(spec)) + product +
         product + product;
}

}  // namespace replk::jit
