// The order of a listing's steps.
#pragma once
#include <vector>

#include "jit/program/lower.hpp"

namespace replk::jit {

/// A permutation of the listing's steps that keeps operands before their users. Each store follows the step
/// that gives its value, whatever the order: storing at once costs no register.
std::vector<Step> schedule(const Listing& listing, Order order);

}  // namespace replk::jit
