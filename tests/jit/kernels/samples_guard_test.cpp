// Every sample of every kernel, run: all that its contract lets it touch lies between inaccessible pages, as
// long as the spec says and not a byte more, first at the one page then at the other. What is around it is
// full of NaNs and so are the registers, while all it is given is finite: what it writes must be finite too,
// and the same on both sides.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "core/cpu.hpp"
#include "core/memory.hpp"
#include "jit/kernels/column_fft.hpp"
#include "jit/kernels/direct.hpp"
#include "jit/kernels/gemm.hpp"
#include "jit/kernels/narrow_product.hpp"
#include "jit/kernels/row_transform.hpp"
#include "jit/kernels/samples.hpp"
#include "jit/kernels/tile_operand.hpp"
#include "jit/kernels/tile_product.hpp"
#include "jit/kernels/toeplitz.hpp"
#include "jit/kernels/weight_direct.hpp"
#include "jit/kernels/weight_transform.hpp"
#include "tests/guarded.hpp"

namespace replk::jit {
namespace {

using test::Guarded;
using test::Side;

/// The memory of one run of a sample.
class Memory {
 public:
  explicit Memory(Side side) : side_(side) {}
  /// 0x3f in every byte: some 0.75 in fp32 and bf16, 63 in a byte.
  template <class T = void>
  const T* in(std::int64_t bytes) {
    return add(bytes, 0x3f)->as<const T>();
  }
  /// What is written, whole or in part: zeros at first.
  template <class T = void>
  T* out(std::int64_t bytes) {
    written_.push_back(add(bytes, 0));
    if (std::is_same_v<T, float>) floats_.push_back(written_.back());
    return written_.back()->as<T>();
  }
  /// What is both read and written.
  template <class T = void>
  T* sums(std::int64_t bytes) {
    written_.push_back(add(bytes, 0x3f));
    if (std::is_same_v<T, float>) floats_.push_back(written_.back());
    return written_.back()->as<T>();
  }
  /// Written before it is read, of which nothing is looked at: NaNs at first.
  template <class T = void>
  T* scratch(std::int64_t bytes) {
    return add(static_cast<std::int64_t>(core::round_up(bytes, core::alignment)), 0xff)->as<T>();
  }
  template <class T>
  const T* list(const std::vector<T>& values) {
    void* const to = add(static_cast<std::int64_t>(sizeof(T) * values.size()), 0)->as();
    std::memcpy(to, values.data(), sizeof(T) * values.size());
    return static_cast<const T*>(to);
  }

  bool intact() const {
    return std::all_of(all_.begin(), all_.end(), [](const auto& each) { return each->intact(); });
  }
  /// Whether each result in fp32 is a number.
  bool finite() const {
    return std::all_of(floats_.begin(), floats_.end(), [](const Guarded* each) {
      const auto* const begin = each->as<const float>();
      return std::all_of(begin, begin + each->bytes() / 4, [](float x) { return std::isfinite(x); });
    });
  }
  std::vector<unsigned char> results() const {
    std::vector<unsigned char> bytes;
    for (const Guarded* each : written_)
      bytes.insert(bytes.end(), each->as<unsigned char>(), each->as<unsigned char>() + each->bytes());
    return bytes;
  }

 private:
  Guarded* add(std::int64_t bytes, int value) {
    all_.push_back(std::make_unique<Guarded>(static_cast<std::size_t>(bytes), side_));
    std::memset(all_.back()->as(), value, static_cast<std::size_t>(bytes));
    return all_.back().get();
  }

  Side side_;
  std::vector<std::unique_ptr<Guarded>> all_;
  std::vector<const Guarded*> written_, floats_;
};

/// Bytes from the first of `count` things `stride` bytes apart to the last one's end.
std::int64_t extent(std::int64_t count, std::int64_t stride, std::int64_t each) {
  return (count - 1) * stride + each;
}
std::int64_t vector_bytes(Isa isa) {
  return 4 * std::int64_t{vector_floats(isa)};
}

template <class Function, class Spec>
Function code(const Spec& spec) {
  return get_code(spec.text(), [&] { return generate(spec); })->template entry<Function>();
}

// How each kernel is called. Numbers of rounds are chosen so that every loop goes on at least once.

void run(const DirectSpec& spec, Memory& memory) {
  const std::int64_t vector = vector_bytes(spec.isa),
                     blocks = spec.channels == vector_floats(spec.isa) ? 2 : 1;
  const std::int64_t taps = static_cast<std::int64_t>(spec.taps.size()),
                     kernel_rows = static_cast<std::int64_t>(spec.support.size());
  const DirectPhases phases = direct_phases(spec);
  const std::int64_t row_bytes = spec.width * spec.x_pixel_bytes;
  std::vector<DirectStep> steps;
  std::vector<std::int32_t> counts(phases.kinds.size());
  for (int j = 0; j < spec.input_rows(); j++) {
    if (phases.of_row[j] < 0) continue;
    counts[phases.of_row[j]]++;
    steps.push_back({j * row_bytes, j * taps * vector});
  }
  const std::int64_t more = (blocks - 1) * vector;
  const auto output =
      extent(spec.rows, spec.dst_row_bytes, extent(spec.out_width, spec.dst_pixel_bytes, 4 * spec.channels)) +
      more;
  DirectArguments a{};
  a.x =
      memory.in(extent(spec.input_rows(), row_bytes, extent(spec.width, spec.x_pixel_bytes, vector)) + more);
  a.weights = memory.in<float>(blocks * kernel_rows * taps * vector);
  a.bias = memory.in<float>(blocks * vector);
  a.dst = memory.out<float>(output);
  a.residual = memory.in<float>(spec.residual ? output : 0);
  a.steps = memory.list(steps);
  a.counts = memory.list(counts);
  a.blocks = blocks;
  a.x_block_bytes = a.dst_block_bytes = vector;
  code<void (*)(const DirectArguments*)>(spec)(&a);
}

void run(const WeightDirectSpec& spec, Memory& memory) {
  const std::int64_t vector = vector_bytes(spec.isa), rows = 2 * weight_direct_rows(spec) + 1;
  const std::int64_t last = std::min<std::int64_t>(
      spec.width - 1, (spec.out_width - 1) * spec.stride + (spec.columns - 1) * spec.step + spec.offset);
  const auto x = memory.in(extent(rows, spec.x_row_bytes, 0) + extent(spec.rows, spec.x_tap_bytes, 0) +
                           last * spec.x_pixel_bytes + vector);
  const auto dy =
      memory.in(extent(rows, spec.dy_row_bytes, extent(spec.out_width, spec.dy_pixel_bytes, vector)));
  const auto sums = memory.sums<float>(extent(spec.rows, spec.sums_row_bytes, spec.columns * vector));
  code<WeightDirect>(spec)(x, dy, sums, rows);
}

constexpr int rows_of_planes = 5, blocks_of_planes = 3;

std::int64_t tensor_bytes(Isa isa, const RowStrides& s, int count, DataType type) {
  const std::int64_t pixel = vector_floats(isa) * static_cast<std::int64_t>(size_of(type));
  return extent(rows_of_planes, s.row,
                extent(count, s.pixel, extent(blocks_of_planes, s.tensor_block, pixel)));
}
std::int64_t planes_bytes(Isa isa, const RowStrides& s, const RowTransform& transform) {
  return extent(blocks_of_planes, s.plane_block,
                extent(transform.planes(), s.plane, rows_of_planes * vector_bytes(isa)));
}

void run(const RowForwardSpec& spec, Memory& memory) {
  const auto src = memory.in(tensor_bytes(spec.isa, spec.strides, spec.count, spec.type));
  const auto planes = memory.out<float>(planes_bytes(spec.isa, spec.strides, spec.transform));
  code<RowForward>(spec)(src, planes, rows_of_planes, blocks_of_planes);
}

void run(const RowInverseSpec& spec, Memory& memory) {
  const auto planes = memory.in(planes_bytes(spec.isa, spec.strides, spec.transform));
  const std::int64_t bytes = tensor_bytes(spec.isa, spec.strides, spec.count, spec.type);
  void* const dst = spec.type == DataType::f32 ? memory.out<float>(bytes) : memory.out(bytes);
  const auto bias = memory.in(blocks_of_planes * vector_bytes(spec.isa));
  const auto residual = memory.in(spec.residual ? bytes : 0);
  code<RowInverse>(spec)(planes, dst, bias, residual, rows_of_planes, blocks_of_planes);
}

void run(const ToeplitzSpec& spec, Memory& memory) {
  const std::int64_t vector = vector_bytes(spec.isa), reals = 2, pairs = 3, planes = reals + 2 * pairs;
  const std::int64_t taps = static_cast<std::int64_t>(spec.taps.size());
  const auto in = memory.in(extent(planes, spec.plane_stride, spec.inputs * vector));
  const std::int64_t results = extent(planes, spec.plane_stride, spec.outputs * vector);
  const auto out = spec.accumulate ? memory.sums<float>(results) : memory.out<float>(results);
  const auto weights = memory.in(spec.weight_planes ? extent(planes, spec.plane_stride, taps * vector)
                                                    : planes * taps * vector);
  code<Toeplitz>(spec)(in, out, weights, reals, pairs,
                       memory.scratch(static_cast<std::int64_t>(scratch_bytes(spec))));
}

void run(const ColumnFftSpec& spec, Memory& memory) {
  const std::int64_t vector = vector_bytes(spec.isa), pairs = spec.chunk + 1;
  const auto in = memory.in(extent(2 * pairs, spec.plane_stride, spec.inputs * vector));
  const auto out = memory.out<float>(extent(2 * pairs, spec.plane_stride, spec.outputs * vector));
  const auto weights = memory.in(pairs * 2 * spec.n * vector);
  code<ColumnFft>(spec)(in, out, weights, pairs,
                        memory.scratch(static_cast<std::int64_t>(scratch_bytes(spec))));
}

void run(const RowWeightsSpec& spec, Memory& memory) {
  const std::int64_t vector = vector_bytes(spec.isa), rows = 3;
  const auto taps = memory.in(rows * spec.taps * vector);
  const auto reals = memory.out<float>(extent(spec.transform.reals(), spec.real_stride, rows * vector));
  const auto pairs = memory.out<float>(extent(spec.transform.pairs(), spec.pair_stride, 2 * rows * vector));
  code<WeightTransform>(spec)(taps, reals, pairs, rows);
}

void run(const ColumnWeightsSpec& spec, Memory& memory) {
  const std::int64_t pair = 2 * vector_bytes(spec.isa);
  const auto taps = memory.in(static_cast<std::int64_t>(spec.places.size()) * pair);
  code<WeightTransform>(spec)(taps, nullptr, memory.out<float>(spec.n * pair), 1);
}

void run(const GemmSpec& spec, Memory& memory) {
  GemmArguments a{};
  a.depth = 2 * gemm_unroll + 1;
  a.tiles = 2;
  a.a_stride = 4 * a.depth;
  a.c_stride = 4 * (spec.columns + 3);
  const std::int64_t rows = a.tiles * spec.rows, c = extent(rows, a.c_stride, 4 * spec.columns);
  a.a = memory.in<float>(rows * a.a_stride);
  a.panel = memory.in<float>(a.depth * gemm_panel(spec.isa) * 4);
  a.c = spec.add_c ? memory.sums<float>(c) : memory.out<float>(c);
  a.bias = memory.in<float>(spec.bias ? gemm_panel(spec.isa) * 4 : 0);
  a.residual = memory.in<float>(spec.add_residual || spec.end_residual ? c : 0);
  a.prefetch = a.panel;
  a.later = reinterpret_cast<const char*>(a.panel);
  code<GemmKernel>(spec)(&a);
}

void run(const NarrowProductSpec& spec, Memory& memory) {
  const std::int64_t panel = gemm_panel(spec.isa),
                     vectors = (spec.columns * 4 + vector_bytes(spec.isa) - 1) / vector_bytes(spec.isa);
  NarrowProductArguments a{};
  a.steps = 2 * gemm_unroll + 1;
  a.tiles = 2;
  a.a_stride = 4 * a.steps;
  a.dst_stride = 4 * (spec.columns + 3);
  const auto element = static_cast<std::int64_t>(size_of(spec.outputs.copy));
  a.copy_stride = element * (spec.columns + 3);
  const std::int64_t rows = a.tiles * spec.rows, dst = extent(rows, a.dst_stride, 4 * spec.columns);
  a.a = memory.in(rows * a.a_stride);
  // s8 weights take half the bytes of the s16 that they become.
  a.panel = memory.in(a.steps * panel * (spec.dot == NarrowDot::vpmaddwd ? 2 : 4));
  a.channels = memory.in<float>(narrow_channel_rows * panel * 4);
  const bool writes = spec.last;
  a.dst = memory.out<float>(writes && spec.outputs.result ? dst : 0);
  a.residual = memory.in<float>(writes && spec.outputs.residual ? dst : 0);
  a.copy = memory.out(
      writes && spec.outputs.copy != Element::f32 ? extent(rows, a.copy_stride, element * spec.columns) : 0);
  a.waiting = memory.sums<float>(spec.first && spec.last ? 0 : rows * vectors * vector_bytes(spec.isa));
  a.prefetch = a.panel;
  a.later = static_cast<const char*>(a.panel);
  code<NarrowProductKernel>(spec)(&a);
}

void run(const TileOperandSpec& spec, Memory& memory) {
  const bool int8 = spec.precision == Precision::int8;
  TileOperandArguments a{};
  a.rows = 3;
  a.src_stride = spec.inputs * (spec.from_fp32 ? 4 : int8 ? 1 : 2);
  const int step = tile_step(spec.precision);
  const std::int64_t steps = (spec.inputs + step - 1) / step;
  a.dst_stride = tile_step_bytes(spec.precision);
  a.dst_step = a.rows * a.dst_stride;
  a.src = memory.in(a.rows * a.src_stride);
  a.dst = memory.out(steps * a.dst_step);
  const bool quantised = int8 && spec.from_fp32;
  a.scale = memory.in<float>(quantised ? 4 * spec.inputs : 0);
  a.offset = memory.in<float>(quantised ? 4 * spec.inputs : 0);
  code<TileOperandKernel>(spec)(&a);
}

void run(const TileProductSpec& spec, Memory& memory) {
  constexpr int height = 13, columns = 19;
  TileProductArguments a{};
  a.both = 3;
  a.rows = 2;
  a.steps = 1;
  const std::int64_t steps = a.both + a.steps, done = a.both * spec.rows_per_step + a.rows;
  a.a_step = height * tile_step_bytes(spec.precision);
  a.a0 = memory.in(steps * a.a_step);
  a.a1 = memory.in(steps * a.a_step);
  const std::int64_t run_bytes = steps * tile_step_weight_bytes,
                     low = spec.precision == Precision::bf16x3 ? run_bytes : 0;
  a.weights = memory.in(run_bytes + low);
  a.low_weights = low;
  a.first = 1;
  a.sums0 = memory.out(height * tile_sums_line);
  a.sums1 = memory.out(height * tile_sums_line);
  a.done = memory.in(done * tile_sums_line);
  a.dst_stride = 4 * (columns + 3);
  // Columns of a copy as sums of two are whole pieces.
  const bool pieces = spec.copy == Element::bf16x2_tiles;
  const std::int64_t row = pieces ? 2 * tile_line : static_cast<std::int64_t>(size_of(spec.copy)) * columns;
  a.copy_stride = row + (pieces ? 0 : 3);
  const std::int64_t dst = extent(done, a.dst_stride, 4 * columns);
  a.dst = memory.out<float>(spec.result ? dst : 0);
  a.residual = memory.in<float>(spec.residual ? dst : 0);
  a.copy = memory.out(spec.copy != Element::f32 ? extent(done, a.copy_stride, row) : 0);
  a.multiplier = memory.in<float>(4 * tile_panel);
  a.bias = memory.in<float>(4 * tile_panel);
  a.scale = memory.in<float>(4 * tile_panel);
  a.offset = memory.in<float>(4 * tile_panel);
  a.columns = (std::uint64_t{1} << columns) - 1;
  a.prefetch = a.weights;
  a.later = a.weights;
  const TileProductKernel product = code<TileProductKernel>(spec);
  const auto configure = tile_configure_code(), release = tile_release_code();
  const TilePalette palette(height);
  configure->entry<TileConfigure>()(&palette);
  product(&a);
  release->entry<TileRelease>()();
}

class SamplesGuard : public testing::Test {
 protected:
  template <class Spec>
  void sweep(Features features) {
    for (const Spec& spec : Spec::samples(features)) {
      SCOPED_TRACE(spec.text());
      std::vector<unsigned char> results[2];
      for (const Side side : {Side::begin, Side::end}) {
        Memory memory(side);
        test::poison();
        run(spec, memory);
        EXPECT_TRUE(memory.intact());
        results[side == Side::end] = memory.results();
        EXPECT_TRUE(memory.finite());
      }
      EXPECT_EQ(results[0], results[1]);
      EXPECT_TRUE(std::any_of(results[0].begin(), results[0].end(), [](int byte) { return byte != 0; }))
          << "it wrote nothing";
      swept_.insert(spec.text());
    }
  }

  void sweep_all(Features features) {
    sweep<DirectSpec>(features);
    sweep<WeightDirectSpec>(features);
    sweep<RowForwardSpec>(features);
    sweep<RowInverseSpec>(features);
    sweep<RowWeightsSpec>(features);
    sweep<ToeplitzSpec>(features);
    sweep<ColumnFftSpec>(features);
    sweep<ColumnWeightsSpec>(features);
    sweep<GemmSpec>(features);
    sweep<NarrowProductSpec>(features);
    sweep<TileOperandSpec>(features);
    sweep<TileProductSpec>(features);
  }

  std::set<std::string> swept_;
};

TEST_F(SamplesGuard, TouchNothingThatIsNotTheirs) {
  if (!code_allowed()) GTEST_SKIP() << "no code can be generated here";
  std::size_t samples_here = 0;
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    if (isa > core::cpu().isa) continue;
    const Features features = core::features() & features_beside(isa);
    sweep_all(features);
    for (const Sample& sample : samples(features)) {
      if (sample.text.starts_with("codelet-forms"))
        continue;  // instructions side by side, which make no function
      samples_here++;
      EXPECT_TRUE(swept_.contains(sample.text)) << sample.text << " is run by no line above";
    }
  }
  if (core::cpu().isa == Isa::portable) GTEST_SKIP() << "this CPU can run no sample";
  EXPECT_EQ(swept_.size(), samples_here);
  std::printf("%zu samples on both sides\n", samples_here);
}

}  // namespace
}  // namespace replk::jit
