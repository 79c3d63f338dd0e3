#include "jit/x64/fingerprint.hpp"

#include <array>
#include <mutex>
#include <vector>

#include "jit/kernels/column_fft.hpp"
#include "jit/kernels/direct.hpp"
#include "jit/kernels/gemm.hpp"
#include "jit/kernels/narrow_product.hpp"
#include "jit/kernels/row_transform.hpp"
#include "jit/kernels/tile_operand.hpp"
#include "jit/kernels/tile_product.hpp"
#include "jit/kernels/toeplitz.hpp"

namespace replk::jit {
namespace {

/// FNV-1a of the bytes of one kernel after the other.
class Hash {
 public:
  void add(const std::vector<std::uint8_t>& bytes) {
    for (const std::uint8_t byte : bytes) value_ = (value_ ^ byte) * 0x100000001b3u;
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

DirectSpec direct_spec(Isa isa, int rows, int columns, int channels) {
  DirectSpec spec;
  spec.isa = isa;
  spec.rows = rows;
  spec.columns = columns;
  spec.width = spec.out_width = 7;
  spec.taps = {-1, 0, 1};
  spec.support.assign(3, {true, true, true});
  spec.x_pixel_bytes = spec.dst_pixel_bytes = 256;
  spec.dst_row_bytes = 7 * 256;
  spec.channels = channels;
  spec.activation = rows > 1 ? Activation::relu : Activation::gelu;
  spec.residual = true;
  return spec;
}

GemmSpec gemm_spec(Isa isa, int columns, Activation activation) {
  GemmSpec spec;
  spec.isa = isa;
  spec.rows = gemm_max_rows(isa);
  spec.columns = columns;
  spec.bias = true;
  spec.activation = activation;
  spec.end_residual = true;
  return spec;
}

NarrowProductSpec narrow_spec(Isa isa, NarrowDot dot, int columns, Element copy) {
  NarrowProductSpec spec;
  spec.isa = isa;
  spec.dot = dot;
  spec.rows = gemm_max_rows(isa);
  spec.columns = columns;
  spec.first = sums_integers(dot);
  spec.outputs = {sums_integers(dot), Activation::gelu, true, true, copy};
  return spec;
}

void add_tiles(Hash& hash) {
  TileProductSpec spec;
  spec.activation = Activation::gelu;
  spec.residual = true;
  for (const Precision precision : {Precision::bf16, Precision::bf16x3, Precision::int8}) {
    spec.precision = precision;
    spec.copy = precision == Precision::int8 ? Element::u8 : Element::bf16;
    hash.add(generate(spec));
    hash.add(generate(TileOperandSpec{precision, true, 70, true}));
  }
}

std::uint64_t computed(Isa isa) {
  Hash hash;
  const int lanes = vector_floats(isa);
  const std::int64_t vector = 4 * lanes;
  hash.add(generate(direct_spec(isa, 1, 6, lanes - 1)));
  hash.add(generate(direct_spec(isa, 3, 3, lanes)));
  DirectSpec cut = direct_spec(isa, 2, 3, lanes);
  cut.block_rows = 1;
  for (const int taps : {0, 2}) {  // both ways to end a block
    cut.block_taps = taps;
    hash.add(generate(cut));
  }

  const RowTransform transform{12, {3, 4}};
  const RowStrides strides{256, 7 * 256, 16 * vector, vector, 12 * 16 * vector};
  const RowForwardSpec forward{isa, transform, 2, 7, 1, strides, true, {}};
  hash.add(generate(forward));
  RowInverseSpec inverse{isa, transform, row_signs(forward), 0, 7, 1, strides};
  inverse.relu = inverse.residual = true;
  hash.add(generate(inverse));
  inverse.scaled = true;
  hash.add(generate(inverse));

  ToeplitzSpec toeplitz;
  toeplitz.isa = isa;
  toeplitz.outputs = toeplitz.inputs = 7;
  for (int tap = 0; tap < 7; tap++) toeplitz.taps.push_back(tap);
  toeplitz.plane_stride = 16 * vector;
  for (const int levels : {0, 1}) {
    toeplitz.karatsuba = levels;
    hash.add(generate(toeplitz));
  }
  toeplitz.weight_planes = toeplitz.accumulate = true;
  hash.add(generate(toeplitz));

  ColumnFftSpec column;
  column.isa = isa;
  column.n = 12;
  column.factors = {3, 4};
  column.inputs = column.outputs = 7;
  column.plane_stride = 16 * vector;
  hash.add(generate(column));

  hash.add(generate(gemm_spec(isa, gemm_panel(isa), Activation::gelu)));
  hash.add(generate(gemm_spec(isa, 1, Activation::relu)));
  hash.add(generate(narrow_spec(isa, NarrowDot::vpmaddwd, gemm_panel(isa) - 1, Element::u8)));
  hash.add(generate(narrow_spec(isa, NarrowDot::fma, gemm_panel(isa), Element::bf16)));
  if (isa == Isa::avx512) add_tiles(hash);
  return hash.value();
}

}  // namespace

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
