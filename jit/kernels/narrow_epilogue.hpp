// What becomes of the sums of narrow products: shared by every kernel that makes them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/types.hpp"
#include "jit/kernels/product_tile.hpp"

namespace replk::jit {

struct NarrowOutputs {
  bool integers = false;  // the sums are s32; else fp32
  Activation activation = Activation::none;
  bool residual = false;
  bool result = true;           // fp32
  Element copy = Element::f32;  // f32: none
  std::string text() const;
};

/// Rows of an array of floats with one for each column of a panel, [narrow_channel_rows][panel], of which
/// whole vectors are read.
enum NarrowChannelRow { multiplier_row, bias_row, scale_row, offset_row, narrow_channel_rows };

/// Base of generators: y = fma(float(sum), multiplier, bias) (or sum + bias), activation, residual; then what
/// is written. The operations and their order are those of lib/dense's portable engine, so that integer sums
/// give the same bits.
class NarrowEpilogue : public ProductTile {
 protected:
  NarrowEpilogue(Isa isa, int rows, int columns, const NarrowOutputs& outputs)
      : ProductTile(isa, rows, columns), outputs_(outputs), panel_width_(gemm_panel(isa)) {}

  /// A vector of sums: of a row, and which of the row's vectors.
  struct Sums {
    Xbyak::Xmm x;
    int row, v;
  };
  struct Pointers {
    Xbyak::Reg64 channels;                 // floats, see NarrowChannelRow
    Xbyak::Reg64 dst, residual, copy;      // of the first row; left behind the last
    Xbyak::Reg64 dst_stride, copy_stride;  // bytes; the residual's is dst's
  };
  /// Finishes the tile. temporaries: at least 4, an even number. Takes scratch_, part_ and k6.
  void finish(const std::vector<Xbyak::Xmm>& temporaries, const Pointers& at);

 private:
  void scale_and_activate(const std::vector<Sums>& group, const std::vector<Xbyak::Xmm>& temporaries,
                          const Xbyak::Reg64& channels);
  void gelu(const std::vector<Sums>& group, const std::vector<Xbyak::Xmm>& temporaries);
  void write(const std::vector<Sums>& row, const std::vector<Xbyak::Xmm>& temporaries, const Pointers& at);
  void write_u8(const std::vector<Sums>& row, const Xbyak::Xmm& temporary, const Pointers& at);
  void write_bf16(const std::vector<Sums>& row, const std::vector<Xbyak::Xmm>& temporaries,
                  const Pointers& at);
  /// The lower `bytes` bytes of v, which is used up.
  void store_bytes(const Xbyak::Reg64& base, const Xbyak::Xmm& v, int bytes);
  /// 16 words of a row's two vectors of dwords, in order, in the first.
  void pack_words(const Xbyak::Xmm& first, const Xbyak::Xmm& second);
  /// A mask for the first `count` lanes, all of them needing none. Takes scratch_ and part_.
  Xbyak::Address masked(const Xbyak::Address& address, int count);
  Xbyak::Address channel(const Xbyak::Reg64& channels, NarrowChannelRow row, int v) {
    return ptr[channels + 4 * (row * panel_width_ + v * lanes())];
  }
  Xbyak::Address words(std::uint32_t word) { return table(std::vector<std::uint32_t>(lanes(), word)); }

  NarrowOutputs outputs_;
  int panel_width_;
};

}  // namespace replk::jit
