#include "dense/weights.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/error.hpp"
#include "core/threads.hpp"

namespace replk::dense {
namespace {

using Buffer = core::Buffer<float>;

/// Of the generated product.
class Panels final : public PackedForm {
 public:
  Panels(int outputs, int inputs, int width) : outputs_(outputs), inputs_(inputs), width_(width) {}

  bool same(const PackedForm& other) const override {
    const auto* const panels = dynamic_cast<const Panels*>(&other);
    return panels && panels->width_ == width_;
  }
  std::size_t floats() const override { return std::size_t(panels()) * width_ * inputs_; }

  void pack(const Buffer& plain, Buffer& packed, int threads) const override {
    core::parallel_for(panels(), threads, [&](std::int64_t panel, int) {
      const int first = int(panel) * width_, last = std::min(outputs_, first + width_);
      float* to = packed.data() + std::size_t(first) * inputs_;
      // Row by row of the source, block by block of its columns: whole cache lines on both sides.
      for (int block = 0; block < inputs_; block += 16)
        for (int o = first; o < last; o++)
          for (int i = block; i < std::min(inputs_, block + 16); i++)
            to[std::size_t(i) * width_ + o - first] = plain[std::size_t(o) * inputs_ + i];
    });
  }
  void unpack(const Buffer& packed, Buffer& plain, int /*threads*/) const override {
    const std::size_t width = width_;
    for (std::size_t o = 0; o < std::size_t(outputs_); o++)
      for (std::size_t i = 0; i < std::size_t(inputs_); i++)
        plain[o * inputs_ + i] = packed[(o / width * inputs_ + i) * width + o % width];
  }

 private:
  std::int64_t panels() const { return (outputs_ + width_ - 1) / width_; }

  int outputs_, inputs_, width_;
};

}  // namespace

PackedWeights::PackedWeights(int outputs, int inputs, int kernel_h, int kernel_w,
                             std::span<const float> weights, std::span<const float> bias)
    : outputs_(outputs), inputs_(inputs), kernel_h_(kernel_h), kernel_w_(kernel_w), bias_(bias.size()) {
  std::copy(bias.begin(), bias.end(), bias_.begin());
  const std::size_t taps = std::size_t(kernel_h) * kernel_w;
  auto form = std::make_shared<Buffer>(weights.size());
  for (std::size_t o = 0; o < std::size_t(outputs); o++)
    for (std::size_t t = 0; t < taps; t++)
      for (std::size_t i = 0; i < std::size_t(inputs); i++)
        (*form)[(o * taps + t) * inputs + i] = weights[(o * inputs + i) * taps + t];
  kept_ = std::move(form);
  entries_.push_back({nullptr, kept_});
}

PackedWeights::Form PackedWeights::plain(int threads) {
  std::lock_guard lock(mutex_);
  Form form = plain_locked(threads);
  keep(form);
  return form;
}

PackedWeights::Form PackedWeights::packed(std::shared_ptr<const PackedForm> wanted, int threads) {
  std::lock_guard lock(mutex_);
  for (const Entry& e : entries_)
    if (e.form && e.form->same(*wanted))
      if (Form form = e.data.lock()) return keep(form), form;
  Form source = plain_locked(threads);
  auto form = std::make_shared<Buffer>(wanted->floats(), true);
  wanted->pack(*source, *form, threads);
  source.reset();
  std::erase_if(entries_, [](const Entry& e) { return e.data.expired(); });
  entries_.push_back({std::move(wanted), form});
  keep(form);
  return form;
}

PackedWeights::Form PackedWeights::panels(int width, int threads) {
  return packed(std::make_shared<Panels>(outputs_, inputs_, width), threads);
}

PackedWeights::Form PackedWeights::plain_locked(int threads) {
  for (const Entry& e : entries_)
    if (!e.form)
      if (Form form = e.data.lock()) return form;
  for (const Entry& e : entries_)
    if (Form source = e.data.lock()) {
      auto form = std::make_shared<Buffer>(std::size_t(outputs_) * kernel_h_ * kernel_w_ * inputs_);
      e.form->unpack(*source, *form, threads);
      entries_.push_back({nullptr, form});
      return form;
    }
  core::fail(core::Status::internal, "the weights of a dense layer have no form left");
}

void PackedWeights::keep(const Form& form) {
  if (kept_.use_count() <= 1) kept_ = form;  // no plan uses the one kept so far
}

std::size_t PackedWeights::bytes() const {
  std::lock_guard lock(mutex_);
  std::size_t total = bias_.size() * sizeof(float);
  for (const Entry& e : entries_)
    if (const Form form = e.data.lock()) total += form->size() * sizeof(float);
  return total;
}

}  // namespace replk::dense
