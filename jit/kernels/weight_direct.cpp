#include "jit/kernels/weight_direct.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "jit/x64/assembler.hpp"

namespace replk::jit {
namespace {

using Xbyak::Label;
using Xbyak::Reg64;
using Xbyak::Xmm;

constexpr int inputs = 2;        // registers that take turns
constexpr int most_outputs = 8;  // dy's vectors in registers

/// Neighbouring output columns whose sums are added up together; `repeat` of them differ in their place
/// alone.
struct Piece {
  int first = 0, width = 0, repeat = 1;
};

bool meets(const WeightDirectSpec& s, int q, int tap) {
  const int at = q * s.stride + tap * s.step + s.offset;
  return at >= 0 && at < s.width;
}

std::vector<Piece> pieces_of(const WeightDirectSpec& s) {
  std::vector<Piece> pieces;
  const int count = (s.out_width + weight_direct_chain - 1) / weight_direct_chain;
  const auto inside = [&](int first, int width) {
    for (const int tap : {0, s.columns - 1})
      if (!meets(s, first, tap) || !meets(s, first + width - 1, tap)) return false;
    return true;
  };
  for (int i = 0, first = 0; i < count; i++) {
    const int width = s.out_width / count + (i < s.out_width % count);
    Piece* const last = pieces.empty() ? nullptr : &pieces.back();
    if (last && last->width == width && inside(last->first, width) && inside(first, width))
      last->repeat++;
    else
      pieces.push_back({first, width, 1});
    first += width;
  }
  return pieces;
}

/// Output rows whose products are added up in the accumulators.
int rows_together(const WeightDirectSpec& s) {
  return s.out_width >= weight_direct_chain ? 1 : weight_direct_chain / s.out_width;
}

int outputs_together(const WeightDirectSpec& s) {
  return std::min(most_outputs, vector_registers(s.isa) - s.rows * s.columns - inputs);
}

/// for each few output rows: for each piece of columns: accumulators from zero; for each of the rows: its
/// columns, straight-line; accumulators to the sums
class WeightDirectKernel final : public Assembler {
 public:
  explicit WeightDirectKernel(const WeightDirectSpec& spec) : Assembler(spec.isa), spec_(spec) {}

 private:
  void generate() override {
    prologue();
    Label next;
    L(next);
    mov(together_, rows_together(spec_));
    cmp(together_, left_);
    cmovg(together_, left_);
    mov(x_of_piece_, x_);
    mov(dy_of_piece_, dy_);
    for (const Piece& each : pieces_of(spec_)) pieces(each);
    imul(rax, together_, spec_.x_row_bytes);
    add(x_, rax);
    imul(rax, together_, spec_.dy_row_bytes);
    add(dy_, rax);
    sub(left_, together_);
    jnz(next, T_NEAR);
    epilogue();
  }

  void pieces(const Piece& p) {
    Label again;
    if (p.repeat > 1) mov(repeat_, p.repeat);
    L(again);
    for (int i = 0; i < spec_.rows * spec_.columns; i++) zero(vec(i));
    mov(x_of_row_, x_of_piece_);
    mov(dy_of_row_, dy_of_piece_);
    mov(rows_, together_);
    Label row;
    align(16);
    L(row);
    for (int q = 0; q < p.width; q += outputs_together(spec_))
      columns(p.first, q, std::min(outputs_together(spec_), p.width - q));
    add(x_of_row_, spec_.x_row_bytes);
    add(dy_of_row_, spec_.dy_row_bytes);
    dec(rows_);
    jnz(row, T_NEAR);
    add_to_sums();
    add(x_of_piece_, p.width * spec_.stride * spec_.x_pixel_bytes);
    add(dy_of_piece_, p.width * spec_.dy_pixel_bytes);
    if (p.repeat > 1) {
      dec(repeat_);
      jnz(again, T_NEAR);
    }
  }

  /// Output columns q .. q + count - 1 of a piece that begins at column `first`. Each input is loaded once
  /// for all outputs that meet it.
  void columns(int first, int q, int count) {
    std::map<int, std::vector<std::pair<int, int>>> uses;  // of an input column: which output, which tap
    for (int u = 0; u < count; u++)
      for (int tap = 0; tap < spec_.columns; tap++)
        if (meets(spec_, first + q + u, tap))
          uses[(q + u) * spec_.stride + tap * spec_.step + spec_.offset].push_back({u, tap});
    if (uses.empty()) return;
    for (int u = 0; u < count; u++) load(output(u), ptr[dy_of_row_ + (q + u) * spec_.dy_pixel_bytes]);
    for (const auto& [at, all] : uses) {
      for (int r = 0; r < spec_.rows; r++) {
        const Xbyak::Address from = ptr[x_of_row_ + (at * spec_.x_pixel_bytes + r * spec_.x_tap_bytes)];
        if (all.size() == 1) {
          vfmadd231ps(sum(r, all[0].second), output(all[0].first), from);
          continue;
        }
        const Xmm input = next_input();
        load(input, from);
        for (const auto& [u, tap] : all) vfmadd231ps(sum(r, tap), output(u), input);
      }
    }
  }

  void add_to_sums() {
    for (int r = 0; r < spec_.rows; r++)
      for (int tap = 0; tap < spec_.columns; tap++) {
        const Xbyak::Address at = ptr[sums_ + (r * spec_.sums_row_bytes + tap * vector_bytes())];
        vaddps(sum(r, tap), sum(r, tap), at);
        store(at, sum(r, tap));
      }
  }

  Xmm sum(int r, int tap) const { return vec(r * spec_.columns + tap); }
  Xmm output(int u) const { return vec(spec_.rows * spec_.columns + u); }
  Xmm next_input() { return vec(registers() - inputs + turn_++ % inputs); }

  const WeightDirectSpec& spec_;
  int turn_ = 0;
  const Reg64 x_ = rdi, dy_ = rsi, sums_ = rdx, left_ = rcx, together_ = r8, x_of_piece_ = r9,
              dy_of_piece_ = r10, x_of_row_ = r11, dy_of_row_ = rbx, rows_ = rbp, repeat_ = r12;
};

}  // namespace

std::string WeightDirectSpec::text() const {
  return fmt::format(
      "weight-direct {} taps={}x{} width={}>{} stride={} step={} offset={} x={},{},{} dy={},{} "
      "sums={}",
      name(isa), rows, columns, width, out_width, stride, step, offset, x_pixel_bytes, x_tap_bytes,
      x_row_bytes, dy_pixel_bytes, dy_row_bytes, sums_row_bytes);
}

int weight_direct_adds(const WeightDirectSpec& s, int rows) {
  const int pieces = (s.out_width + weight_direct_chain - 1) / weight_direct_chain,
            together = rows_together(s);
  return pieces * ((rows + together - 1) / together);
}

bool weight_direct_fits(Isa isa, int rows, int columns) {
  return rows >= 1 && columns >= 1 && rows * columns + inputs + 1 <= vector_registers(isa);
}

std::int64_t weight_direct_fmas(const WeightDirectSpec& s) {
  std::int64_t columns = 0;
  for (const Piece& p : pieces_of(s)) columns += p.width;
  return columns * s.rows * s.columns;
}

std::vector<std::uint8_t> generate(const WeightDirectSpec& spec) {
  return WeightDirectKernel(spec).take();
}

}  // namespace replk::jit
