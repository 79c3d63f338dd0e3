// The column pass of row-spectral: a Toeplitz matrix times each plane.
#pragma once
#include "depthwise/row_spectral/column_pass.hpp"
#include "jit/kernels/toeplitz.hpp"

namespace replk::depthwise {

/// Products that a geometry's toeplitz() specifies, of all planes.
std::shared_ptr<const ColumnPass> toeplitz_columns();

/// The code of such products, which another pass needs for its real planes.
class ToeplitzCode final : public ColumnCode {
 public:
  explicit ToeplitzCode(const jit::ToeplitzSpec& spec);
  void run(const char* in, char* out, const void* weights, std::int64_t reals, std::int64_t pairs,
           void* scratch) const override;
  std::size_t scratch_bytes() const override { return scratch_bytes_; }
  std::vector<const jit::Code*> code() const override { return {code_.get()}; }

 private:
  std::shared_ptr<const jit::Code> code_;
  std::size_t scratch_bytes_;
};

}  // namespace replk::depthwise
