#include "jit/kernels/row_transform.hpp"

#include <fmt/format.h>

#include <map>
#include <mutex>
#include <utility>

#include "jit/x64/codelet.hpp"

namespace replk::jit {
namespace {

enum Stream { pixels, planes, bias, residual };

/// Records the real transform of the given inputs and hands out its planes in order.
void record_planes(Program& program, const RowTransform& t, const std::vector<Complex>& x,
                   const std::vector<int>& signs = {}) {
  const std::vector<Complex> spectrum = dft(x, t.factors);
  int plane = 0;
  const auto put = [&](Real value) {
    const bool negated = !signs.empty() && signs[plane] < 0;
    program.output(planes, plane++, negated ? -value : value);
  };
  put(spectrum[0].re);
  if (t.n % 2 == 0) put(spectrum[t.n / 2].re);
  for (int k = 1; k <= t.pairs(); k++) {
    put(spectrum[k].re);
    put(spectrum[k].im);
  }
}

Listing forward_listing(const RowForwardSpec& spec) {
  Program program;
  std::vector<Complex> x(spec.transform.n);
  for (int i = 0; i < spec.count; i++) x[spec.first + i * spec.step].re = program.input(pixels, i);
  record_planes(program, spec.transform, x, spec.signs);
  return lower(program, spec.free_signs ? 1u << planes : 0);
}

Listing inverse_listing(const RowInverseSpec& spec) {
  Program forward;
  std::vector<Complex> x(spec.transform.n);
  for (int i = 0; i < spec.count; i++)
    x[(spec.first + i * spec.step) % spec.transform.n].re = forward.input(pixels, i);
  record_planes(forward, spec.transform, x);

  Program program;
  std::vector<Real> inflow;
  for (const Output& o : forward.outputs()) {
    const Real plane = program.input(planes, o.index);
    inflow.push_back(spec.signs[o.index] < 0 ? -plane : plane);
    const double factor = (o.index < spec.transform.reals() ? 1.0 : 2.0) / spec.transform.n;
    if (spec.scaled) inflow.back() = factor * inflow.back();
  }
  // A constant over the row is all in X[0], so the bias costs one addition a row.
  inflow[0] = inflow[0] + program.input(bias, 0);
  for (const Outflow& out : transpose(forward, inflow)) {
    Real y = spec.relu ? relu(out.value) : out.value;
    if (spec.residual) y = y + program.input(residual, out.index);
    program.output(pixels, out.index, y);
  }
  return lower(program);
}

/// How a kernel's pixels are stored, and what it keeps registers for.
struct Storage {
  Isa isa;
  DataType type;
  bool native_bf16 = false, writes = false, relu = false;

  Conversion conversion() const { return jit::conversion(isa, type, native_bf16); }
  int zero_register() const { return relu ? vector_registers(isa) - 1 : -1; }
  int spare_register() const { return vector_registers(isa) - relu - conversion().spare_registers; }
  RegisterOptions register_options() const {
    RegisterOptions options;
    options.registers = writes ? spare_register() : vector_registers(isa);
    options.readable_outputs = 1u << planes;
    if (type != DataType::f32) options.converted_inputs = 1u << pixels | 1u << residual;
    return options;
  }
  /// Of the codelet, its conversions too.
  Counts count(const Listing& list) const {
    const Allocation code = assign_registers(list, register_options());
    Counts counts = code.counts;
    for (const Instruction& i : code.instructions) {
      if (i.load && i.a.kind == Operand::Kind::input && i.a.stream != planes && i.a.stream != bias)
        counts.instructions += conversion().load;
      if (i.result.kind == Operand::Kind::output && i.result.stream == pixels)
        counts.instructions += conversion().store;
    }
    return counts;
  }
};
Storage storage_of(const RowForwardSpec& spec) {
  return {spec.isa, spec.type};
}
Storage storage_of(const RowInverseSpec& spec) {
  return {spec.isa, spec.type, spec.native_bf16, true, spec.relu};
}

/// for each row: for each block: the codelet
class RowKernel : public CodeletKernel {
 public:
  RowKernel(const Storage& storage, const Listing& list, const RowStrides& strides, int row_pixels)
      : CodeletKernel(storage.isa),
        code_(assign_registers(list, storage.register_options())),
        storage_(storage),
        strides_(strides),
        row_pixels_(row_pixels),
        inverse_(storage.writes) {
    zero_register_ = storage.zero_register();
    spare_register_ = storage.spare_register();
    native_bf16_ = storage.native_bf16;
  }

 private:
  DataType type(int stream) const override {
    return stream == pixels || stream == residual ? storage_.type : DataType::f32;
  }

  void generate() override {
    with_frame(code_.slots, [&] {
      if (inverse_) {
        xchg(planes_, pixels_);  // (planes, dst, bias, residual, rows, blocks) to where the loop wants them
        xchg(rows_, bias_);
        xchg(blocks_, residual_);
      }
      if (zero_register_ >= 0) zero(vec(zero_register_));
      loop(rows_, [&] {
        row();
        add(pixels_, strides_.row);
        add(planes_, vector_bytes());
        if (inverse_) add(residual_, strides_.row);
      });
    });
  }

  void row() {
    mov(saved_pixels_, pixels_);
    mov(saved_planes_, planes_);
    if (inverse_) {
      mov(saved_bias_, bias_);
      mov(saved_residual_, residual_);
    }
    mov(left_, blocks_);
    lea(ahead_, ptr[pixels_ + strides_.row]);
    loop(left_, [&] { block(); });
    mov(pixels_, saved_pixels_);
    mov(planes_, saved_planes_);
    if (inverse_) {
      mov(bias_, saved_bias_);
      mov(residual_, saved_residual_);
    }
  }

  void block() {
    emit(
        code_, [this](const Operand& o) { return address(o); }, ahead());
    if (strides_.ahead) add(ahead_, pixels_ahead() * strides_.pixel);
    add(pixels_, strides_.tensor_block);
    add(planes_, strides_.plane_block);
    if (inverse_) {
      add(bias_, vector_bytes());
      add(residual_, strides_.tensor_block);
    }
  }

  int pixels_ahead() const { return (row_pixels_ + strides_.ahead - 1) / strides_.ahead; }
  Ahead ahead() const {
    Ahead ahead{{}, inverse_};
    if (strides_.ahead == 0) return ahead;
    for (int i = 0; i < pixels_ahead(); i++)
      for (int b = 0; b < strides_.ahead * lanes() * static_cast<int>(size_of(storage_.type)); b += 64)
        ahead.lines.push_back(ptr[ahead_ + i * strides_.pixel + b]);
    return ahead;
  }

  Xbyak::Address address(const Operand& o) const {
    if (o.kind == Operand::Kind::slot) return ptr[rsp + o.index * vector_bytes()];
    switch (o.stream) {
      case pixels:
        return ptr[pixels_ + o.index * strides_.pixel];
      case planes:
        return ptr[planes_ + o.index * strides_.plane];
      case bias:
        return ptr[bias_];
      default:
        return ptr[residual_ + o.index * strides_.pixel];
    }
  }

  const Allocation code_;
  const Storage storage_;
  const RowStrides strides_;
  const int row_pixels_;
  const bool inverse_;
  const Xbyak::Reg64 pixels_ = rdi, planes_ = rsi, rows_ = rdx, blocks_ = rcx, left_ = rax, bias_ = r8,
                     residual_ = r9, saved_pixels_ = r10, saved_planes_ = r11, saved_bias_ = r12,
                     saved_residual_ = r13, ahead_ = r14;
};

}  // namespace

std::string RowTransform::text() const {
  return fmt::format("n={} factors={}", n, to_string(factors));
}
std::string RowStrides::text() const {
  return fmt::format("strides={},{},{},{},{} ahead={}", pixel, row, plane, tensor_block, plane_block, ahead);
}
namespace {

/// The planes that are stored negated.
std::string minus(const std::vector<int>& signs) {
  std::string text;
  for (std::size_t j = 0; j < signs.size(); j++)
    if (signs[j] < 0) text += fmt::format("{}{}", text.empty() ? "" : ",", j);
  return text;
}

}  // namespace

std::string RowForwardSpec::text() const {
  return fmt::format("row-forward {} {} inputs={}+{}*{} {} type={} free={:d} minus={}", name(isa),
                     transform.text(), first, count, step, strides.text(), name(type), free_signs,
                     minus(signs));
}
std::string RowInverseSpec::text() const {
  return fmt::format(
      "row-inverse {} {} outputs={}+{}*{} {} type={} native={:d} relu={:d} residual={:d} scaled={:d} "
      "minus={}",
      name(isa), transform.text(), first, count, step, strides.text(), name(type), native_bf16, relu,
      residual, scaled, minus(signs));
}

namespace {

RowStrides sample_strides(Isa isa, int ahead) {
  const std::int64_t vector = 4 * vector_floats(isa);
  return {256, 7 * 256, 16 * vector, vector, 12 * 16 * vector, ahead};
}

}  // namespace

std::vector<RowForwardSpec> RowForwardSpec::samples(Features features) {
  const Isa isa = isa_of(features);
  const std::vector<int> signs{1, 1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};  // of dy, in a weight gradient
  std::vector<RowForwardSpec> all;
  const auto add = [&](int n, const std::vector<int>& factors, int first, int count, int ahead,
                       bool free_signs) {
    RowForwardSpec spec;
    spec.isa = isa;
    spec.transform.n = n;
    spec.transform.factors = factors;
    spec.first = first;
    spec.count = count;
    spec.strides = sample_strides(isa, ahead);
    spec.free_signs = free_signs;
    all.push_back(spec);
  };
  add(12, {3, 4}, 2, 7, 0, true);
  add(27, {27}, 0, 14, 2, false);
  add(12, {12}, 0, 6, 0, false);
  add(12, {3, 4}, 0, 4, 0, false);
  all.back().step = 2;
  all.back().signs = signs;
  for (const DataType type : {DataType::bf16, DataType::f16, DataType::u8}) {
    add(12, {3, 4}, 2, 7, 2, true);
    all.back().type = type;
    all.back().strides.tensor_block = static_cast<std::int64_t>(size_of(type)) * vector_floats(isa);
  }
  return all;
}
std::vector<RowInverseSpec> RowInverseSpec::samples(Features features) {
  std::vector<RowInverseSpec> all;
  for (const RowForwardSpec& forward : RowForwardSpec::samples(features)) {
    RowInverseSpec spec{forward.isa, forward.transform, row_signs(forward), 0, 7, 1, forward.strides};
    spec.type = forward.type;
    spec.native_bf16 = spec.type == DataType::bf16 && features.has(Feature::avx512_bf16);
    spec.relu = spec.residual = forward.free_signs;
    all.push_back(spec);
    spec.scaled = true;
    all.push_back(spec);
  }
  return all;
}

std::vector<int> row_signs(const RowForwardSpec& spec) {
  // They depend on little of the spec, and a plan that finds its code in the cache asks for them too.
  struct Known {
    std::mutex mutex;
    std::map<std::string, std::vector<int>> signs;
  };
  static Known* const known = new Known;
  RowForwardSpec bare = spec;
  bare.strides = {};
  bare.type = DataType::f32;
  const std::string key = bare.text();
  {
    std::lock_guard lock(known->mutex);
    if (const auto found = known->signs.find(key); found != known->signs.end()) return found->second;
  }
  std::vector<int> signs = forward_listing(spec).signs;
  std::lock_guard lock(known->mutex);
  if (known->signs.size() > 10000) known->signs.clear();
  return known->signs[key] = std::move(signs);
}

std::vector<std::uint8_t> generate(const RowForwardSpec& spec) {
  return RowKernel(storage_of(spec), forward_listing(spec), spec.strides, spec.count).take();
}
std::vector<std::uint8_t> generate(const RowInverseSpec& spec) {
  return RowKernel(storage_of(spec), inverse_listing(spec), spec.strides, spec.count).take();
}

Counts count(const RowForwardSpec& spec) {
  return storage_of(spec).count(forward_listing(spec));
}
Counts count(const RowInverseSpec& spec) {
  return storage_of(spec).count(inverse_listing(spec));
}

}  // namespace replk::jit
