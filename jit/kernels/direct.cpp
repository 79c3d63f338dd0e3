#include "jit/kernels/direct.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <map>

#include "core/gelu.hpp"
#include "jit/x64/assembler.hpp"

namespace replk::jit {

using Xbyak::Label;
using Xbyak::Reg32;
using Xbyak::Reg64;
using Xbyak::Xmm;

std::string DirectSpec::text() const {
  std::string text = fmt::format(
      "direct {} tile={}x{} width={}>{} stride={}x{} x={} dst={},{} channels={} epilogue={},{}", name(isa),
      rows, columns, width, out_width, stride_h, stride_w, x_pixel_bytes, dst_pixel_bytes, dst_row_bytes,
      channels, static_cast<int>(activation), static_cast<int>(residual));
  if (block_rows + block_taps > 0) text += fmt::format(" blocks={},{}", block_rows, block_taps);
  text += " taps=";
  for (int tap : taps) text += fmt::format("{},", tap);
  text += " support=";
  for (std::size_t row = 0; row < support.size();) {  // runs of equal rows, since they are usually all alike
    std::size_t end = row;
    while (end < support.size() && support[end] == support[row]) end++;
    text += fmt::format("{}*", end - row);
    for (bool tap : support[row]) text += tap ? '1' : '0';
    text += ',';
    row = end;
  }
  return text;
}

namespace {

constexpr int most_roundings = 17;

int parts(int count, int each) {
  return (count + each - 1) / each;
}

/// How often a number can be halved until it is 1, rounded up: the height of a pairwise sum.
int height(int blocks) {
  return std::bit_width(static_cast<unsigned>(std::max(1, blocks) - 1));
}

}  // namespace

void cut_into_blocks(DirectSpec& spec) {
  const int rows = static_cast<int>(spec.support.size()), taps = static_cast<int>(spec.taps.size());
  if (rows * taps < most_roundings) return;
  for (int block = most_roundings / taps; block > 0; block--)
    if (block * taps + height(parts(rows, block)) <= most_roundings) {
      spec.block_rows = block;
      return;
    }
  spec.block_rows = 1;
  for (spec.block_taps = taps - 1; spec.block_taps > 1; spec.block_taps--)
    if (spec.block_taps + height(rows * parts(taps, spec.block_taps)) <= most_roundings) break;
  spec.block_taps = parts(taps, parts(taps, spec.block_taps));  // as many blocks, alike
}

namespace {

int input_rows(const DirectSpec& spec) {
  return static_cast<int>(spec.support.size()) + (spec.rows - 1) * spec.stride_h;
}

/// Whether blocks end in straight-line code, each output row's when it must: where there are so few input
/// rows that each may have code of its own. Elsewhere all end together, in a routine.
bool blocks_end_apart(const DirectSpec& spec) {
  constexpr int most_rows = 16;
  return spec.block_rows > 0 && spec.block_taps == 0 && input_rows(spec) <= most_rows;
}

/// How many blocks so many input rows make.
int blocks_of(const DirectSpec& spec, int rows) {
  const int in_row = spec.block_taps > 0 ? parts(static_cast<int>(spec.taps.size()), spec.block_taps) : 1;
  return parts(rows, spec.block_rows) * in_row;
}

}  // namespace

int direct_blocks(const DirectSpec& spec) {
  if (spec.block_rows == 0) return 1;
  return blocks_of(spec, blocks_end_apart(spec) ? static_cast<int>(spec.support.size()) : input_rows(spec));
}

DirectPhases direct_phases(const DirectSpec& spec) {
  DirectPhases phases;
  const int kernel_rows = static_cast<int>(spec.support.size());
  for (int j = 0; j < kernel_rows + (spec.rows - 1) * spec.stride_h; j++) {
    std::vector<std::vector<bool>> kind(spec.rows);
    bool any = false;
    for (int r = 0; r < spec.rows; r++) {
      const int row = j - r * spec.stride_h;
      if (row < 0 || row >= kernel_rows) continue;
      const auto& support = spec.support[row];
      if (std::find(support.begin(), support.end(), true) == support.end()) continue;
      kind[r] = support;
      any = true;
    }
    std::vector<bool> ends(spec.rows);
    for (int r = 0; blocks_end_apart(spec) && r < spec.rows; r++) {
      const int row = j - r * spec.stride_h;
      ends[r] = row > 0 && row < kernel_rows && row % spec.block_rows == 0;
    }
    const bool end = std::find(ends.begin(), ends.end(), true) != ends.end();
    if (end || (any && (phases.kinds.empty() || phases.kinds.back() != kind))) {
      phases.kinds.push_back(std::move(kind));
      phases.ends.push_back(std::move(ends));
    }
    phases.of_row.push_back(any ? static_cast<int>(phases.kinds.size()) - 1 : -1);
  }
  return phases;
}

namespace {

bool meets(const DirectSpec& spec, int column, int tap) {
  const int at = column * spec.stride_w + spec.taps[tap];
  return at >= 0 && at < spec.width;
}

/// Whether a tile's columns lie in the padding with all their taps.
bool outside(const DirectSpec& spec, int first, int width) {
  return (first + width - 1) * spec.stride_w + spec.taps.back() < 0 ||
         first * spec.stride_w + spec.taps.front() >= spec.width;
}

}  // namespace

std::vector<DirectTile> direct_tiles(const DirectSpec& spec) {
  std::vector<DirectTile> tiles;
  const int count = (spec.out_width + spec.columns - 1) / spec.columns;
  const int last = static_cast<int>(spec.taps.size()) - 1;
  const int wider = spec.out_width % count;  // tiles, the first ones
  for (int i = 0, first = 0; i < count;) {
    const int width = spec.out_width / count + (i < wider);
    const bool interior = meets(spec, first, 0) && meets(spec, first + width - 1, 0) &&
                          meets(spec, first, last) && meets(spec, first + width - 1, last);
    int repeat = 1;
    if (interior) {  // and so are all of its width whose last pixel's last tap is still inside
      const int room = spec.width - 1 - (first + width - 1) * spec.stride_w - spec.taps[last];
      repeat += std::min(room / (width * spec.stride_w), (i < wider ? wider : count) - i - 1);
    } else {
      while (i + repeat < (i < wider ? wider : count) && outside(spec, first, width) &&
             outside(spec, first + repeat * width, width))
        repeat++;
    }
    tiles.push_back({first, width, repeat, interior});
    i += repeat;
    first += repeat * width;
  }
  return tiles;
}

std::int64_t direct_code_fmas(const DirectSpec& spec) {
  // Columns a tap meets, over the tiles that have code of their own.
  std::vector<std::int64_t> columns(spec.taps.size(), 0);
  for (const DirectTile& tile : direct_tiles(spec))
    for (std::size_t tap = 0; tap < spec.taps.size(); tap++)
      for (int t = 0; t < tile.width; t++) columns[tap] += meets(spec, tile.first + t, static_cast<int>(tap));
  std::int64_t sum = 0;
  for (const auto& kind : direct_phases(spec).kinds)
    for (const auto& support : kind)
      for (std::size_t tap = 0; tap < support.size(); tap++) sum += support[tap] ? columns[tap] : 0;
  return sum;
}

bool direct_fits(Isa isa, int rows, int columns, Activation activation) {
  const int registers = vector_registers(isa), sums = rows * columns;
  const int temporaries = activation == Activation::gelu ? 3 : 1;
  return rows >= 1 && columns >= 1 && rows <= 8 && columns <= 32 &&
         sums + std::max(rows, temporaries) <= registers;
}

namespace {

class DirectGenerator final : public Assembler {
 public:
  explicit DirectGenerator(const DirectSpec& spec)
      : Assembler(spec.isa), spec_(spec), phases_(direct_phases(spec)) {}

 private:
  // The loop nest: column tiles, channel blocks, phases, input rows; tap columns are straight-line.
  void generate() override {
    prologue();
    enter();
    mov(x_, argument(offsetof(DirectArguments, x)));
    mov(dst_, argument(offsetof(DirectArguments, dst)));
    if (spec_.residual) mov(residual_, argument(offsetof(DirectArguments, residual)));
    mov(counts_, argument(offsetof(DirectArguments, counts)));
    for (const DirectTile& tile : direct_tiles(spec_)) tiles(tile);
    if (cut())
      mov(rsp, qword[rsp + saved_stack]);
    else
      add(rsp, frame_bytes);
    epilogue();
    for (auto& [width, label] : ends_of_blocks_) end_of_block(width, label);
  }

  void enter() {
    if (!cut()) return sub(rsp, frame_bytes);
    mov(rax, rsp);
    sub(rsp, sums_at + levels() * level_bytes());
    and_(rsp, -64);
    mov(qword[rsp + saved_stack], rax);
  }

  void tiles(const DirectTile& tile) {
    Label again;
    if (tile.repeat > 1) {
      mov(tiles_left_, tile.repeat);
      align(16);
      L(again);
    }
    blocks(tile);
    add_constant(x_, tile.width * spec_.stride_w * spec_.x_pixel_bytes);
    add_constant(dst_, tile.width * spec_.dst_pixel_bytes);
    if (spec_.residual) add_constant(residual_, tile.width * spec_.dst_pixel_bytes);
    if (tile.repeat > 1) {
      dec(tiles_left_);
      jnz(again, T_NEAR);
    }
  }

  void blocks(const DirectTile& tile) {
    Label again, done;
    mov(qword[rsp], x_);
    mov(qword[rsp + 8], dst_);
    if (spec_.residual) mov(qword[rsp + 16], residual_);
    mov(weights_, argument(offsetof(DirectArguments, weights)));
    mov(bias_, argument(offsetof(DirectArguments, bias)));
    mov(blocks_left_, argument(offsetof(DirectArguments, blocks)));
    L(again);
    sums(tile);
    finish(tile);
    dec(blocks_left_);
    jz(done);
    add(x_, argument(offsetof(DirectArguments, x_block_bytes)));
    add(dst_, argument(offsetof(DirectArguments, dst_block_bytes)));
    if (spec_.residual) add(residual_, argument(offsetof(DirectArguments, dst_block_bytes)));
    add_constant(weights_,
                 static_cast<std::int64_t>(spec_.support.size() * spec_.taps.size()) * vector_bytes());
    add(bias_, vector_bytes());
    jmp(again, T_NEAR);
    L(done);
    mov(x_, qword[rsp]);
    mov(dst_, qword[rsp + 8]);
    if (spec_.residual) mov(residual_, qword[rsp + 16]);
  }

  void sums(const DirectTile& tile) {
    load(sum(0, 0), ptr[bias_]);
    for (int r = 0; r < spec_.rows; r++)
      for (int t = 0; t < tile.width; t++)
        if (r + t > 0) vmovaps(sum(r, t), sum(0, 0));
    if (counted()) {
      xor_(blocks_done_, blocks_done_);
      mov(dword[rsp + rows_until], spec_.block_rows);
    }
    std::vector<int> ended(spec_.rows);  // blocks, where each output row's end apart
    mov(steps_, argument(offsetof(DirectArguments, steps)));
    for (std::size_t phase = 0; phase < phases_.kinds.size(); phase++) {
      Label again, done;
      for (int r = 0; r < spec_.rows; r++)
        if (phases_.ends[phase][r]) end_block_of(r, tile.width, ended[r]++);
      mov(rows_left_, dword[counts_ + 4 * phase]);
      test(rows_left_, rows_left_);
      jz(done, T_NEAR);
      align(16);
      L(again);
      if (counted()) before_row(tile);
      mov(row_, qword[steps_ + offsetof(DirectStep, x)]);
      mov(row_weights_, qword[steps_ + offsetof(DirectStep, weights)]);
      add(row_, x_);
      add(row_weights_, weights_);
      add(steps_, sizeof(DirectStep));
      input_row(tile, phases_.kinds[phase]);
      dec(rows_left_);
      jnz(again, T_NEAR);
      L(done);
    }
    if (counted()) add_blocks(tile.width);
    for (int r = 0; r < spec_.rows; r++)
      for (int level = 0; ended[r] >> level > 0; level++)
        if (ended[r] >> level & 1) add_level(r, tile.width, level);
  }

  // Sums of blocks lie in the frame: level i has the sum of 2^i blocks or nothing, as bit i of their number
  // says. A block that ends takes what is there into its sum, level by level, as a binary counter carries,
  // and is put where nothing is.

  /// Of one output row, after so many others.
  void end_block_of(int r, int width, int ended) {
    int level = 0;
    for (; ended >> level & 1; level++) add_level(r, width, level);
    for (int t = 0; t < width; t++) {
      store(in_frame(r, t, level), sum(r, t));
      zero(sum(r, t));
    }
  }
  void add_level(int r, int width, int level) {
    for (int t = 0; t < width; t++) vaddps(sum(r, t), sum(r, t), in_frame(r, t, level));
  }
  Xbyak::Address in_frame(int r, int t, int level) {
    return ptr[rsp + sums_at + level * level_bytes() + (r * spec_.columns + t) * vector_bytes()];
  }

  void before_row(const DirectTile& tile) {
    Label inside;
    dec(dword[rsp + rows_until]);
    jns(inside);
    call(ends_of_blocks_[tile.width]);
    mov(dword[rsp + rows_until], spec_.block_rows - 1);
    L(inside);
  }

  /// Of all output rows.
  void end_of_block(int width, Label& label) {
    Label carry, free;
    align(16);
    L(label);
    push(rcx);
    lea(level_, ptr[rsp + 16 + sums_at]);
    mov(ecx, blocks_done_);
    inc(blocks_done_);
    L(carry);
    shr(ecx, 1);
    jnc(free, T_NEAR);
    add_level(width);
    add(level_, level_bytes());
    jmp(carry, T_NEAR);
    L(free);
    for (int r = 0; r < spec_.rows; r++)
      for (int t = 0; t < width; t++) {
        store(in_level(r, t), sum(r, t));
        zero(sum(r, t));
      }
    pop(rcx);
    ret();
  }

  /// The last block's sums and those of all levels.
  void add_blocks(int width) {
    Label next, empty, done;
    lea(level_, ptr[rsp + sums_at]);
    L(next);
    test(blocks_done_, blocks_done_);
    jz(done, T_NEAR);
    shr(blocks_done_, 1);
    jnc(empty, T_NEAR);
    add_level(width);
    L(empty);
    add(level_, level_bytes());
    jmp(next, T_NEAR);
    L(done);
  }

  void add_level(int width) {
    for (int r = 0; r < spec_.rows; r++)
      for (int t = 0; t < width; t++) vaddps(sum(r, t), sum(r, t), in_level(r, t));
  }

  /// All taps of one input row. Tap columns ascend, so that every sum adds its taps in the order of class
  /// exact.
  void input_row(const DirectTile& tile, const std::vector<std::vector<bool>>& kind) {
    const int taps = static_cast<int>(spec_.taps.size());
    for (int tap = 0; tap < taps; tap++) {
      std::vector<int> rows, columns;
      for (int r = 0; r < spec_.rows; r++)
        if (!kind[r].empty() && kind[r][tap]) rows.push_back(r);
      for (int t = 0; t < tile.width; t++)
        if (meets(spec_, tile.first + t, tap)) columns.push_back(t);
      if (spec_.block_taps > 0 && tap > 0 && tap % spec_.block_taps == 0) call(ends_of_blocks_[tile.width]);
      if (rows.empty() || columns.empty()) continue;
      for (int r : rows)
        load(weight(r), ptr[row_weights_ + (tap - r * spec_.stride_h * taps) * vector_bytes()]);
      // An input is loaded once for all output rows where a register is left for it.
      const bool loaded = rows.size() > 1 && spec_.rows * spec_.columns + spec_.rows < registers();
      for (int t : columns) {
        const Xbyak::Address from = ptr[row_ + (t * spec_.stride_w + spec_.taps[tap]) * spec_.x_pixel_bytes];
        if (loaded) load(input(), from);
        for (int r : rows) {
          if (loaded)
            vfmadd231ps(sum(r, t), weight(r), input());
          else
            vfmadd231ps(sum(r, t), weight(r), from);
        }
      }
    }
  }

  void finish(const DirectTile& tile) {
    for (int r = 0; r < spec_.rows; r++)
      for (int t = 0; t < tile.width; t++) {
        const Xmm value = sum(r, t);
        const std::int64_t at = r * spec_.dst_row_bytes + t * spec_.dst_pixel_bytes;
        if (spec_.activation == Activation::relu) relu(value);
        if (spec_.activation == Activation::gelu) gelu(value);
        if (spec_.residual && spec_.channels == lanes()) {
          vaddps(value, value, ptr[residual_ + at]);
        } else if (spec_.residual) {
          load_part(temporary(0), residual_, at, spec_.channels);
          vaddps(value, value, temporary(0));
        }
        store_part(dst_, at, value, spec_.channels);
      }
  }

  void relu(const Xmm& value) {
    zero(temporary(0));
    vmaxps(value, temporary(0), value);  // the second operand where it is a NaN
  }

  /// core::gelu, operation by operation.
  void gelu(const Xmm& value) {
    const Xmm t = temporary(0), p = temporary(1), limit = temporary(2);
    load(limit, constant(core::gelu_limit));
    vandps(t, value, table(std::vector<std::uint32_t>(lanes(), 0x7fffffff)));
    vminps(t, limit, t);
    load(p, constant(core::gelu_scale));
    vfmadd213ps(t, p, constant(-1.0f));  // from here on t holds u
    load(p, constant(core::gelu_coefficients[core::gelu_degree]));
    for (int i = core::gelu_degree - 1; i >= 0; i--) vfmadd213ps(p, t, constant(core::gelu_coefficients[i]));
    vandps(t, value, table(std::vector<std::uint32_t>(lanes(), 0x7fffffff)));
    vminps(t, limit, t);
    vsubps(limit, limit, t);
    vmulps(t, t, limit);
    vmulps(t, t, p);
    zero(limit);
    vmaxps(value, limit, value);
    vsubps(value, value, t);
  }

  Xbyak::Address argument(std::size_t offset) { return qword[arguments_ + offset]; }
  void add_constant(const Reg64& r, std::int64_t value) {
    if (value != 0) add(r, static_cast<std::uint32_t>(static_cast<std::int32_t>(value)));
  }

  bool cut() const { return spec_.block_rows > 0; }
  int level_bytes() const { return spec_.rows * spec_.columns * vector_bytes(); }
  bool counted() const { return cut() && !blocks_end_apart(spec_); }
  int levels() const { return std::bit_width(static_cast<unsigned>(blocks_of(spec_, input_rows(spec_)))); }
  Xbyak::Address in_level(int r, int t) { return ptr[level_ + (r * spec_.columns + t) * vector_bytes()]; }

  Xmm sum(int r, int t) const { return vec(r * spec_.columns + t); }
  Xmm weight(int r) const { return vec(spec_.rows * spec_.columns + r); }
  Xmm input() const { return vec(spec_.rows * spec_.columns + spec_.rows); }
  Xmm temporary(int i) const { return vec(spec_.rows * spec_.columns + i); }

  const Reg64 arguments_ = rdi, x_ = rsi, weights_ = rdx, steps_ = r8, row_ = r9, row_weights_ = r10,
              bias_ = r11, dst_ = rbx, residual_ = rbp, counts_ = r12, blocks_left_ = r14, level_ = rax;
  const Reg32 rows_left_ = ecx, tiles_left_ = r13d, blocks_done_ = r15d;
  static constexpr int frame_bytes = 24;
  static constexpr int saved_stack = 24, rows_until = 32, sums_at = 64;  // of a frame with levels of sums
  std::map<int, Label> ends_of_blocks_;                                  // by a tile's width

  const DirectSpec& spec_;
  const DirectPhases phases_;
};

}  // namespace

std::vector<std::uint8_t> generate(const DirectSpec& spec) {
  return DirectGenerator(spec).take();
}

DirectKernel::DirectKernel(const DirectSpec& spec)
    : code_(get_code(spec.text(), [&] { return generate(spec); })),
      entry_(code_->entry<void (*)(const DirectArguments*)>()) {}

}  // namespace replk::jit
