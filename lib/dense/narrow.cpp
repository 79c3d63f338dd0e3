#include "dense/narrow.hpp"

#include "core/error.hpp"
#include "dense/amx.hpp"
#include "dense/narrow_plain.hpp"
#include "dense/narrow_product.hpp"
#include "jit/x64/code.hpp"

namespace replk::dense {
namespace {

/// No other engine knows that order.
bool in_tiles(const Linear& linear) {
  return replk::in_tiles(linear.src) || replk::in_tiles(linear.copy);
}

}  // namespace

bool multiplies_tiles(Precision precision, Features features) {
  return jit::code_allowed() && amx_suffices(precision, features);
}

std::vector<std::string> narrow_choices(const Linear& linear, int, Features features) {
  std::vector<std::string> all;
  if (jit::code_allowed()) all = amx_choices(linear, features);
  if (in_tiles(linear)) {
    if (all.empty())
      core::fail(core::Status::unsupported, "a layer with src {} and copy {} needs AMX, which is not there",
                 name(linear.src), name(linear.copy));
    return all;
  }
  if (jit::code_allowed()) {
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
  if (jit::code_allowed() && choice.starts_with("amx "))
    return amx_linear(linear, weights, copy, choice, threads, features);
  if (in_tiles(linear)) return nullptr;
  if (choice == "plain" && linear.precision != Precision::bf16x3)
    return narrow_plain(linear, weights, copy, threads);
  if (!jit::code_allowed()) return nullptr;
  if (choice.starts_with("product ")) return product_linear(linear, weights, copy, choice, threads, features);
  return nullptr;
}

}  // namespace replk::dense
