#include "depthwise/choose/trial.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <span>
#include <utility>

#include "core/cpu.hpp"
#include "core/error.hpp"
#include "core/half.hpp"
#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

constexpr std::int64_t kSamples = 2000;

/// A third each of half a number, itself and twice it. Products of two such values have one mantissa, so that
/// a sum of thousands rounds most of its steps alike: errors that would cancel on random numbers add up, as
/// they do on constants and in boxes. Unlike on constants, a wrong tap shows too.
float even_value(float number, std::uint32_t& state) {
  state = state * 1664525u + 1013904223u;  // a linear congruence: large tensors are to be filled in no time
  return number * static_cast<float>(1 << ((state >> 16) * 3 >> 16)) * 0.5f;
}
constexpr float even_input = 0.7109375f, even_mean = even_input * 7 / 6;  // exact in bf16 and fp16

/// What makes values of some 1 large enough to be told apart as integers.
float level(DataType type) {
  return type == DataType::u8 ? 64 : 1;
}

template <class T>
void fill_as(core::Buffer<std::byte>& buffer, std::int64_t elements, float number, std::uint32_t seed) {
  buffer = core::Buffer<std::byte>(static_cast<std::size_t>(elements) * sizeof(T));
  T* data = reinterpret_cast<T*>(buffer.data());
  for (std::int64_t i = 0; i < elements; i++) data[i] = core::from_float<T>(even_value(number, seed));
}

std::vector<std::span<const float>> spans(const std::vector<std::vector<float>>& all) {
  return {all.begin(), all.end()};
}

/// Three whole channels where that is little work, since errors are relative to a channel's largest output;
/// sampled places on a large map. Few, because a race has many candidates.
std::vector<Sample> few_samples(const Problem& p) {
  const std::int64_t area = std::int64_t{p.out_height()} * p.out_width();
  double taps = 0;
  for (const Branch& branch : p.branches) taps += branch.taps();
  if (static_cast<double>(area) * taps > 1e7) return sampled_outputs(p, kSamples, 1);
  std::vector<Sample> samples;
  const std::set<std::pair<std::int64_t, int>> planes{
      {0, 0}, {p.batch / 2, p.channels / 2}, {p.batch - 1, p.channels - 1}};
  for (const auto& [image, channel] : planes)
    for (int row = 0; row < p.out_height(); row++)
      for (int column = 0; column < p.out_width(); column++) samples.push_back({image, channel, row, column});
  return samples;
}

/// Reads a byte of every line, and writes it back where asked.
void touch(std::span<std::byte> bytes, bool write) {
  volatile std::byte* const lines = bytes.data();
  for (std::size_t i = 0; i < bytes.size(); i += core::alignment) {
    const std::byte value = lines[i];
    if (write) lines[i] = value;
  }
}

}  // namespace

void fill_even(core::Buffer<std::byte>& buffer, DataType type, std::int64_t elements, std::uint32_t seed) {
  core::with_type(type, [&](auto stored) {
    fill_as<decltype(stored)>(buffer, elements, level(type) * even_input, seed);
  });
}

Trial::Trial(const Request& request) : request_(request) {}
Trial::~Trial() = default;

void Trial::make_data() {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(0.75f, 1.5f);
  std::uint32_t state = 4;
  const float out_level = level(problem_.output_type());
  double taps = 0;
  for (const Branch& branch : problem_.branches) taps += branch.taps();
  for (const Branch& branch : problem_.branches) {
    std::vector<float>& w = weights_.emplace_back();
    for (int c = 0; c < problem_.channels; c++) {
      const float number =
          uniform(random) * out_level / (level(problem_.type) * static_cast<float>(even_mean * taps));
      for (int t = 0; t < branch.taps(); t++) w.push_back(even_value(number, state));
    }
  }
  if (problem_.epilogue.bias) {  // on either side of a ReLU
    bias_.resize(static_cast<std::size_t>(problem_.channels));
    for (float& value : bias_) value = -out_level * uniform(random);
  }
  if (problem_.epilogue.scale) {
    scale_.resize(static_cast<std::size_t>(problem_.channels));
    for (float& value : scale_) value = uniform(random);
  }
  fill_even(src_, problem_.type, problem_.input_elements(), 1);
  fill_even(dst_, problem_.output_type(), problem_.output_elements(), 2);
  if (problem_.epilogue.residual) fill_even(residual_, problem_.output_type(), problem_.output_elements(), 3);
  samples_ = few_samples(problem_);
  expected_ = reference(problem_, spans(weights_), bias_, tensors(), samples_, scale_);
}

Tensors Trial::tensors() {
  return {src_.data(), dst_.data(), problem_.epilogue.residual ? residual_.data() : nullptr};
}

void Trial::prepare(Prepared& prepared) {
  // What was there before is freed when the new one has its memory, which is therefore another.
  prepared.executor = prepared.choice.variant->prepare();
  prepared.executor->set_weights(Weights(problem_, spans(weights_), bias_, scale_), request_.threads);
}

bool Trial::verify(const std::string& text) {
  // Class exact sums in one fixed order, whose error grows with the number of taps.
  const double factor = problem_.numerics == Numerics::exact ? request_.kernel.support.size() + 2.0 : 1.0;
  return error_of_bound(text) <= factor;
}

double Trial::error_of_bound(const std::string& text) {
  if (samples_.empty()) make_data();
  std::optional<Choice> choice = read_choice(text, request_);
  if (!choice) return std::numeric_limits<double>::infinity();
  Prepared& prepared = prepared_[text];
  prepared.choice = *std::move(choice);
  prepare(prepared);
  const std::size_t needed = prepared.executor->workspace_bytes(prepared.choice.threads);
  if (workspace_.size() < needed) workspace_ = core::Buffer<std::byte>(needed);
  std::memset(dst_.data(), 0xff, dst_.size());  // NaNs: what is not written is not right
  run(text);
  return compare(problem_, spans(weights_), bias_, tensors(), samples_, expected_, scale_).max_of_allowed;
}

void Trial::run(const std::string& text) {
  const Prepared& prepared = prepared_.at(text);
  prepared.executor->run(tensors(), {problem_.batch, workspace_.data(), prepared.choice.threads});
}

void Trial::cool(const std::string& text) {
  if (others_.size() == 0) others_ = core::Buffer<std::byte>(2 * core::cpu().l2_bytes, true);
  const std::int64_t threads = prepared_.at(text).choice.threads, bytes = std::ssize(src_);
  const auto body = [&](std::int64_t thread, int) {
    touch({others_.data(), others_.size()}, false);
    const std::int64_t begin = bytes * thread / threads, end = bytes * (thread + 1) / threads;
    touch({src_.data() + begin, static_cast<std::size_t>(end - begin)}, true);
  };
  core::parallel_for(threads, static_cast<int>(threads), std::ref(body));
}

void Trial::release(const std::string& text) {
  prepared_.erase(text);
}

void Trial::move() {
  const auto elsewhere = [](core::Buffer<std::byte>& buffer) {
    core::Buffer<std::byte> other(buffer.size());
    if (buffer.size() > 0) std::memcpy(other.data(), buffer.data(), buffer.size());
    buffer = std::move(other);
  };
  for (core::Buffer<std::byte>* buffer : {&src_, &dst_, &residual_, &workspace_}) elsewhere(*buffer);
  for (auto& [text, prepared] : prepared_) prepare(prepared);
}

const Executor& Trial::executor(const std::string& text) const {
  return *prepared_.at(text).executor;
}

}  // namespace replk::depthwise
