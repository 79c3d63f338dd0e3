#include "depthwise/gradient/weight_trial.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "depthwise/choose/trial.hpp"
#include "depthwise/gradient/weight_choice.hpp"

namespace replk::depthwise {
namespace {

constexpr double most_error = 1e-6;     // of the channel's largest gradient, on data that errs most
constexpr double reference_macs = 3e8;  // multiply-adds of the reference, which takes a second for a billion

/// The last channel, which is in a tail where there is one, and others where they are little work.
std::vector<int> channels_of(const Problem& p) {
  const double each = static_cast<double>(p.useful_macs()) / p.channels;
  std::set<int> channels{p.channels - 1};
  for (const int channel : {0, p.channels / 2})
    if (each * static_cast<double>(channels.size() + 1) < reference_macs) channels.insert(channel);
  return {channels.begin(), channels.end()};
}

template <class T>
void move_buffer(core::Buffer<T>& buffer) {
  core::Buffer<T> other(buffer.size());
  if (buffer.size() > 0) std::memcpy(other.data(), buffer.data(), buffer.size() * sizeof(T));
  buffer = std::move(other);
}

}  // namespace

WeightTrial::WeightTrial(const Problem& problem, Isa isa, int threads)
    : problem_(problem), isa_(isa), threads_(threads) {}
WeightTrial::~WeightTrial() = default;

void WeightTrial::make_data() {
  kernel_ = merged_geometry(problem_);
  fill_even(src_, problem_.type, problem_.input_elements(), 1);
  fill_even(dy_, problem_.type, problem_.output_elements(), 2);
  for (const Branch& b : problem_.branches)
    dweights_.emplace_back(static_cast<std::size_t>(problem_.channels) * b.taps());
  dbias_ = core::Buffer<float>(static_cast<std::size_t>(problem_.channels));
  expected_ = weight_reference(problem_, src_.data(), dy_.data(), channels_of(problem_));
}

std::vector<float*> WeightTrial::dweights() {
  std::vector<float*> all;
  for (core::Buffer<float>& each : dweights_) all.push_back(each.data());
  return all;
}

bool WeightTrial::verify(const std::string& text) {
  return error_of(text) <= most_error;
}

double WeightTrial::error_of(const std::string& text) {
  if (dweights_.empty()) make_data();
  const std::optional<WeightChoice> choice = read_weight_choice(text, problem_, kernel_, isa_, threads_);
  if (!choice) return std::numeric_limits<double>::infinity();
  Prepared& prepared = prepared_[text];
  prepared = {choice->algorithm->prepare(problem_, kernel_, choice->tiling, isa_), choice->threads};
  const std::size_t needed = prepared.executor->workspace_bytes(prepared.threads);
  if (workspace_.size() < needed) workspace_ = core::Buffer<std::byte>(needed);
  // NaNs: what is not written is not right.
  for (core::Buffer<float>& each : dweights_) std::memset(each.data(), 0xff, each.size() * sizeof(float));
  std::memset(dbias_.data(), 0xff, dbias_.size() * sizeof(float));
  run(text);
  return weight_error(problem_, expected_, dweights(), dbias_.data());
}

void WeightTrial::run(const std::string& text) {
  const Prepared& prepared = prepared_.at(text);
  const std::vector<float*> to = dweights();
  prepared.executor->run({src_.data(), dy_.data(), to, dbias_.data()},
                         {problem_.batch, false, workspace_.data(), prepared.threads});
}

void WeightTrial::release(const std::string& text) {
  prepared_.erase(text);
}

void WeightTrial::move() {
  for (core::Buffer<std::byte>* buffer : {&src_, &dy_, &workspace_}) move_buffer(*buffer);
  for (core::Buffer<float>& each : dweights_) move_buffer(each);
  for (auto& [text, prepared] : prepared_)
    if (const auto choice = read_weight_choice(text, problem_, kernel_, isa_, threads_))
      prepared.executor = choice->algorithm->prepare(problem_, kernel_, choice->tiling, isa_);
}

const WeightExecutor& WeightTrial::executor(const std::string& text) const {
  return *prepared_.at(text).executor;
}

}  // namespace replk::depthwise
