#include "dense/narrow_weights.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/half.hpp"
#include "core/threads.hpp"

namespace replk::dense {
namespace {

using Bytes = core::Buffer<std::byte>;

core::Buffer<float> copy_of(std::span<const float> values, std::size_t count, float otherwise) {
  core::Buffer<float> copy(count);
  if (values.empty())
    std::fill(copy.begin(), copy.end(), otherwise);
  else
    std::copy(values.begin(), values.end(), copy.begin());
  return copy;
}

}  // namespace

NarrowWeights::NarrowWeights(int outputs, int inputs, Precision precision, std::span<const float> weights,
                             std::span<const float> bias)
    : precision_(precision),
      outputs_(outputs),
      inputs_(inputs),
      has_bias_(!bias.empty()),
      bias_(copy_of(bias, std::size_t(outputs), 0)),
      multiplier_(copy_of({}, std::size_t(outputs), 1)) {
  auto form = std::make_shared<Bytes>(weights.size() * 2 * parts());
  auto* to = reinterpret_cast<core::Bf16*>(form->data());
  for (std::size_t i = 0; i < weights.size(); i++) {
    to[i] = core::from_float<core::Bf16>(weights[i]);
    if (precision == Precision::bf16x3)
      to[weights.size() + i] = core::from_float<core::Bf16>(weights[i] - core::to_float(to[i]));
  }
  first(std::move(form));
}

NarrowWeights::NarrowWeights(int outputs, int inputs, const Int8Weights& weights)
    : precision_(Precision::int8),
      outputs_(outputs),
      inputs_(inputs),
      has_bias_(true),
      bias_(copy_of(weights.bias, std::size_t(outputs), 0)),
      multiplier_(copy_of(weights.multiplier, std::size_t(outputs), 1)) {
  if (weights.input) input_ = *weights.input;
  auto form = std::make_shared<Bytes>(weights.values.size());
  std::memcpy(form->data(), weights.values.data(), weights.values.size());
  first(std::move(form));
}

void NarrowWeights::first(Form form) {
  kept_ = std::move(form);
  entries_.push_back({{}, kept_});
}

std::size_t NarrowWeights::panel_bytes(const Panels& panels) const {
  return core::round_up(std::size_t(inputs_), std::size_t(panels.multiple)) * panels.width * element_bytes() *
         parts();
}

template <class T, bool pack>
void NarrowWeights::move(const Panels& panels, T* plain, T* packed) const {
  const std::size_t width = std::size_t(panels.width), group = std::size_t(panels.group);
  const std::size_t padded = core::round_up(std::size_t(inputs_), std::size_t(panels.multiple));
  const std::size_t inputs = std::size_t(inputs_), outputs = std::size_t(outputs_);
  core::parallel_for(std::int64_t((outputs + width - 1) / width), 0, [&](std::int64_t panel, int) {
    const std::size_t from = std::size_t(panel) * width, to = std::min(outputs, from + width);
    for (int part = 0; part < parts(); part++) {
      T* base = packed + (std::size_t(panel) * parts() + part) * padded * width;
      // Blocks of columns row by row: whole cache lines on both sides.
      for (std::size_t block = 0; block < inputs; block += 64)
        for (std::size_t o = from; o < to; o++) {
          T* row = plain + (part * outputs + o) * inputs;
          for (std::size_t i = block; i < std::min(inputs, block + 64); i++) {
            T& place = base[(i / group * width + o - from) * group + i % group];
            if constexpr (pack)
              place = row[i];
            else
              row[i] = place;
          }
        }
    }
  });
}

NarrowWeights::Form NarrowWeights::find(const Panels& panels) {
  for (const Entry& e : entries_)
    if (e.panels == panels)
      if (Form form = e.data.lock()) return form;
  return nullptr;
}

NarrowWeights::Form NarrowWeights::plain_locked() {
  if (Form form = find({})) return form;
  for (const Entry& e : entries_)
    if (const Form source = e.data.lock()) {
      auto form = std::make_shared<Bytes>(std::size_t(outputs_) * inputs_ * element_bytes() * parts());
      auto* from = const_cast<std::byte*>(source->data());
      if (precision_ == Precision::int8)
        move<std::int8_t, false>(e.panels, reinterpret_cast<std::int8_t*>(form->data()),
                                 reinterpret_cast<std::int8_t*>(from));
      else
        move<std::uint16_t, false>(e.panels, reinterpret_cast<std::uint16_t*>(form->data()),
                                   reinterpret_cast<std::uint16_t*>(from));
      entries_.push_back({{}, form});
      return form;
    }
  core::fail(core::Status::internal, "the weights of a dense layer have no form left");
}

NarrowWeights::Form NarrowWeights::plain() {
  std::lock_guard lock(mutex_);
  Form form = plain_locked();
  keep(form);
  return form;
}

NarrowWeights::Form NarrowWeights::panels(const Panels& panels) {
  std::lock_guard lock(mutex_);
  if (Form form = find(panels)) return keep(form), form;
  Form source = plain_locked();
  const std::size_t count = (std::size_t(outputs_) + panels.width - 1) / panels.width;
  auto form = std::make_shared<Bytes>(count * panel_bytes(panels), true);
  auto* from = const_cast<std::byte*>(source->data());
  if (precision_ == Precision::int8)
    move<std::int8_t, true>(panels, reinterpret_cast<std::int8_t*>(from),
                            reinterpret_cast<std::int8_t*>(form->data()));
  else
    move<std::uint16_t, true>(panels, reinterpret_cast<std::uint16_t*>(from),
                              reinterpret_cast<std::uint16_t*>(form->data()));
  source.reset();
  std::erase_if(entries_, [](const Entry& e) { return e.data.expired(); });
  entries_.push_back({panels, form});
  keep(form);
  return form;
}

void NarrowWeights::keep(const Form& form) {
  if (kept_.use_count() <= 1) kept_ = form;  // no plan uses the one kept so far
}

std::size_t NarrowWeights::bytes() const {
  std::lock_guard lock(mutex_);
  std::size_t total = (bias_.size() + multiplier_.size() + input_.scale.size() + input_.offset.size()) * 4;
  for (const Entry& e : entries_)
    if (const Form form = e.data.lock()) total += form->size();
  return total;
}

}  // namespace replk::dense
