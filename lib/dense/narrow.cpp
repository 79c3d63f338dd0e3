#include "dense/narrow.hpp"

#include "core/error.hpp"
#include "dense/amx.hpp"
#include "dense/narrow_plain.hpp"
#include "dense/narrow_product.hpp"
#include "jit/x64/code.hpp"

namespace replk::dense {

std::vector<std::string> narrow_choices(const Linear& linear, int, Features features) {
  std::vector<std::string> all;
  if (jit::code_allowed()) {
    all = amx_choices(linear, features);
    const std::vector<std::string> vectors = product_choices(linear, features);
    all.insert(all.end(), vectors.begin(), vectors.end());
  }
  if (linear.precision != Precision::bf16x3) all.push_back("plain");
  if (all.empty())
    core::fail(core::Status::unsupported,
               "precision {} needs AMX (amx_bf16), which this CPU, this Linux or REPLK_MAX_ISA does not give",
               name(linear.precision));
  return all;
}

std::unique_ptr<Engine> narrow_linear(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                      const std::string& choice, int threads, Features features) {
  if (choice == "plain" && linear.precision != Precision::bf16x3)
    return narrow_plain(linear, weights, copy, threads);
  if (!jit::code_allowed()) return nullptr;
  if (choice.starts_with("amx ")) return amx_linear(linear, weights, copy, choice, threads, features);
  if (choice.starts_with("product ")) return product_linear(linear, weights, copy, choice, threads, features);
  return nullptr;
}

}  // namespace replk::dense
