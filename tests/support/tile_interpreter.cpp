#include "tests/support/tile_interpreter.hpp"

#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace replk::test {
namespace {

constexpr int tiles = 8, most_rows = 16, line = 64;

struct Palette {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t line_bytes[16];
  std::uint8_t rows[16];
};
static_assert(sizeof(Palette) == 64);

struct State {
  Palette palette{};
  unsigned char tile[tiles][most_rows][line] = {};
};
thread_local State state;
std::atomic<std::int64_t> interpreted{0};

/// A VEX instruction of three prefix bytes in map 0F38, as far as it concerns tiles.
struct Instruction {
  int opcode = 0, prefix = 0;  // prefix: 0 none, 1 66, 2 F3, 3 F2
  int reg = 0, rm = 0, vvvv = 0;
  bool memory = false;
  std::int64_t address = 0, stride = 0;  // stride: the index register times its scale
  int length = 0;
};

std::int64_t general_register(const mcontext_t& context, int number) {
  constexpr int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                           REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return context.gregs[order[number]];
}

template <class T>
T read(const unsigned char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// False for what is not such an instruction.
bool decode(const unsigned char* code, const mcontext_t& context, Instruction& i) {
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2) return false;
  const bool r = !(code[1] & 0x80), x = !(code[1] & 0x40), b = !(code[1] & 0x20);
  const bool w = code[2] & 0x80, l = code[2] & 0x04;
  if (w || l || r) return false;
  i.vvvv = ~(code[2] >> 3) & 15;
  i.prefix = code[2] & 3;
  i.opcode = code[3];
  const int mod = code[4] >> 6;
  i.reg = (code[4] >> 3) & 7;
  i.rm = code[4] & 7;
  i.length = 5;
  i.memory = mod != 3;
  if (!i.memory) return !b && !x;
  int base = i.rm;
  if (base == 4) {
    const int sib = code[i.length++], index = ((sib >> 3) & 7) | (x ? 8 : 0);
    base = sib & 7;
    if (index != 4) i.stride = general_register(context, index) << (sib >> 6);
  }
  if (mod == 0 && base == 5) return false;  // from rip, or without a base: not written here
  i.address = general_register(context, base | (b ? 8 : 0));
  if (mod == 1) i.address += static_cast<std::int8_t>(code[i.length]);
  if (mod == 2) i.address += read<std::int32_t>(code + i.length);
  i.length += mod == 1 ? 1 : mod == 2 ? 4 : 0;
  return true;
}

bool configured(int tile) {
  return tile < tiles && state.palette.palette == 1 && state.palette.rows[tile] > 0;
}
int rows(int tile) {
  return state.palette.rows[tile];
}
int bytes(int tile) {
  return state.palette.line_bytes[tile];
}

bool configure(const Palette& palette) {
  for (int t = 0; t < tiles; t++)
    if (palette.palette > 1 || palette.rows[t] > most_rows || palette.line_bytes[t] > line) return false;
  state = State{};
  state.palette = palette;
  return true;
}

float flushed(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0f, value) : value;
}
float from_bf16(std::uint16_t bits) {
  return flushed(std::bit_cast<float>(std::uint32_t{bits} << 16));
}

/// The sums of the even and of the odd elements are apart until the end; the tile joins last.
void add_bf16(int to, int a, int b) {
  for (int m = 0; m < rows(to); m++)
    for (int n = 0; n < bytes(to) / 4; n++) {
      float sums[2] = {};
      for (int k = 0; k < bytes(a) / 4; k++)
        for (int half = 0; half < 2; half++) {
          const float left = from_bf16(read<std::uint16_t>(&state.tile[a][m][4 * k + 2 * half]));
          const float right = from_bf16(read<std::uint16_t>(&state.tile[b][k][4 * n + 2 * half]));
          sums[half] = flushed(std::fma(left, right, sums[half]));
        }
      const float sum = flushed(flushed(read<float>(&state.tile[to][m][4 * n])) + flushed(sums[0] + sums[1]));
      std::memcpy(&state.tile[to][m][4 * n], &sum, 4);
    }
}

void add_u8_by_s8(int to, int a, int b) {
  for (int m = 0; m < rows(to); m++)
    for (int n = 0; n < bytes(to) / 4; n++) {
      auto sum = read<std::uint32_t>(&state.tile[to][m][4 * n]);  // wraps around, as in hardware
      for (int k = 0; k < bytes(a); k++)
        sum += static_cast<std::uint32_t>(state.tile[a][m][k] *
                                          static_cast<std::int8_t>(state.tile[b][k / 4][4 * n + k % 4]));
      std::memcpy(&state.tile[to][m][4 * n], &sum, 4);
    }
}

bool multiply(const Instruction& i) {
  const int to = i.reg, a = i.rm, b = i.vvvv;
  if (!configured(to) || !configured(a) || !configured(b) || to == a || to == b || a == b) return false;
  if (rows(to) != rows(a) || bytes(to) != bytes(b) || bytes(a) != 4 * rows(b) || bytes(to) % 4) return false;
  if (i.opcode == 0x5c && i.prefix == 2)
    add_bf16(to, a, b);
  else if (i.opcode == 0x5e && i.prefix == 1)
    add_u8_by_s8(to, a, b);
  else
    return false;
  return true;
}

bool move(const Instruction& i) {
  const bool store = i.prefix == 2;
  if (!i.memory || i.prefix == 0 || !configured(i.reg)) return false;
  for (int row = 0; row < most_rows; row++) {
    auto* const memory = reinterpret_cast<unsigned char*>(i.address + row * i.stride);
    unsigned char* const own = state.tile[i.reg][row];
    if (row < rows(i.reg))
      std::memcpy(store ? memory : own, store ? own : memory, static_cast<std::size_t>(bytes(i.reg)));
    else if (!store)
      std::memset(own, 0, line);
  }
  return true;
}

bool carry_out(const Instruction& i) {
  switch (i.opcode) {
    case 0x49:
      if (i.prefix == 0 && i.memory) return configure(*reinterpret_cast<const Palette*>(i.address));
      if (i.prefix == 0) return state = State{}, true;
      if (i.prefix != 3 || i.memory || !configured(i.reg)) return false;
      std::memset(state.tile[i.reg], 0, sizeof state.tile[i.reg]);
      return true;
    case 0x4b:
      return move(i);
    default:
      return !i.memory && multiply(i);
  }
}

/// The palette that the hardware holds, where it has one although tiles trap; false where it has none.
bool hardware_palette(const ucontext_t& context, Palette& palette) {
  constexpr int component = 17;
  unsigned size, offset, c, d;
  if (!__get_cpuid_count(0xd, component, &size, &offset, &c, &d) || size != sizeof palette) return false;
  const auto* const frame = reinterpret_cast<const unsigned char*>(context.uc_mcontext.fpregs);
  constexpr std::size_t magic_at = 464, features_at = 512;
  if (read<std::uint32_t>(frame + magic_at) != 0x46505853u) return false;  // FP_XSTATE_MAGIC1
  if (!(read<std::uint64_t>(frame + features_at) >> component & 1)) return false;
  palette = read<Palette>(frame + offset);
  return true;
}

void handle(int, siginfo_t*, void* opaque) {
  auto& context = *static_cast<ucontext_t*>(opaque);
  auto& instruction_pointer = context.uc_mcontext.gregs[REG_RIP];
  Palette palette;
  if (hardware_palette(context, palette) && std::memcmp(&palette, &state.palette, sizeof palette) != 0 &&
      !configure(palette))
    std::abort();
  Instruction i;
  const auto* const code = reinterpret_cast<const unsigned char*>(instruction_pointer);
  if (!decode(code, context.uc_mcontext, i) || !carry_out(i)) {
    signal(SIGILL, SIG_DFL);  // the instruction runs again, and ends the process
    return;
  }
  interpreted.fetch_add(1, std::memory_order_relaxed);
  instruction_pointer += i.length;
}

}  // namespace

void interpret_tiles() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGILL, &action, nullptr);
}

std::int64_t interpreted_tiles() {
  return interpreted.load(std::memory_order_relaxed);
}

}  // namespace replk::test
