#include "jit/kernels/direct.hpp"

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
    if (tile.repeat == 1) return one_tile(tile);
    mov(tiles_left_, tile.repeat);
    loop(
        tiles_left_, [&] { one_tile(tile); }, loop_alignment);
  }

  void one_tile(const DirectTile& tile) {
    blocks(tile);
    add_constant(x_, tile.width * spec_.stride_w * spec_.x_pixel_bytes);
    add_constant(dst_, tile.width * spec_.dst_pixel_bytes);
    if (spec_.residual) add_constant(residual_, tile.width * spec_.dst_pixel_bytes);
  }

  void blocks(const DirectTile& tile) {
    mov(qword[rsp], x_);
    mov(qword[rsp + 8], dst_);
    if (spec_.residual) mov(qword[rsp + 16], residual_);
    mov(weights_, argument(offsetof(DirectArguments, weights)));
    mov(bias_, argument(offsetof(DirectArguments, bias)));
    mov(blocks_left_, argument(offsetof(DirectArguments, blocks)));
    loop(blocks_left_, [&] {
      sums(tile);
      finish(tile);
      add(x_, argument(offsetof(DirectArguments, x_block_bytes)));
      add(dst_, argument(offsetof(DirectArguments, dst_block_bytes)));
      if (spec_.residual) add(residual_, argument(offsetof(DirectArguments, dst_block_bytes)));
      add_constant(weights_,
                   static_cast<std::int64_t>(spec_.support.size() * spec_.taps.size()) * vector_bytes());
      add(bias_, vector_bytes());
    });
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
      for (int r = 0; r < spec_.rows; r++)
        if (phases_.ends[phase][r]) end_block_of(r, tile.width, ended[r]++);
      mov(rows_left_, dword[counts_ + 4 * phase]);
      loop_any(
          rows_left_, [&] { step(tile, phases_.kinds[phase]); }, loop_alignment);
    }
    if (counted()) add_blocks(tile.width);
    for (int r = 0; r < spec_.rows; r++)
      for (int level = 0; ended[r] >> level > 0; level++)
        if (ended[r] >> level & 1) add_level(r, tile.width, level);
  }

  void step(const DirectTile& tile, const std::vector<std::vector<bool>>& kind) {
    if (counted()) before_row(tile);
    mov(row_, qword[steps_ + offsetof(DirectStep, x)]);
    mov(row_weights_, qword[steps_ + offsetof(DirectStep, weights)]);
    add(row_, x_);
    add(row_weights_, weights_);
    add(steps_, sizeof(DirectStep));
    input_row(tile, kind);
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
    align(16);
    L(label);
    push(rows_left_.cvt64());
    lea(level_, ptr[rsp + 16 + sums_at]);
    // The levels that carry are the lowest bits that are set.
    const Reg32 carries = rows_left_;
    mov(carries, blocks_done_);
    not_(carries);
    bsf(carries, carries);
    inc(blocks_done_);
    loop_any(carries, [&] {
      add_level(width);
      add(level_, level_bytes());
    });
    for (int r = 0; r < spec_.rows; r++)
      for (int t = 0; t < width; t++) {
        store(in_level(r, t), sum(r, t));
        zero(sum(r, t));
      }
    pop(rows_left_.cvt64());
    ret();
  }

  /// The last block's sums and those of all levels.
  void add_blocks(int width) {
    lea(level_, ptr[rsp + sums_at]);
    const Reg32 levels_left = rows_left_;
    mov(levels_left, levels());
    loop(levels_left, [&] {
      Label empty;
      shr(blocks_done_, 1);
      jnc(empty, T_NEAR);
      add_level(width);
      L(empty);
      add(level_, level_bytes());
    });
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
        if (spec_.meets(tile.first + t, tap)) columns.push_back(t);
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
  bool counted() const { return cut() && !spec_.blocks_end_apart(); }
  int levels() const { return std::bit_width(static_cast<unsigned>(spec_.blocks_of(spec_.input_rows()))); }
  Xbyak::Address in_level(int r, int t) { return ptr[level_ + (r * spec_.columns + t) * vector_bytes()]; }

  Xmm sum(int r, int t) const { return vec(r * spec_.columns + t); }
  Xmm weight(int r) const { return vec(spec_.rows * spec_.columns + r); }
  Xmm input() const { return vec(spec_.rows * spec_.columns + spec_.rows); }
  Xmm temporary(int i) const { return vec(spec_.rows * spec_.columns + i); }

  const Reg64 arguments_ = rdi, x_ = rsi, weights_ = rdx, steps_ = r8, row_ = r9, row_weights_ = r10,
              bias_ = r11, dst_ = rbx, residual_ = rbp, counts_ = r12, blocks_left_ = r14,
              level_ = scratch_;  // no part is loaded or stored while it counts
  const Reg32 rows_left_ = ecx, tiles_left_ = r13d, blocks_done_ = r15d;
  static constexpr int loop_alignment = 16;
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
