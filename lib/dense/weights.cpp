#include "dense/weights.hpp"

#include <algorithm>

#include "dense/onednn.hpp"

namespace replk::dense {
namespace {

using Buffer = core::Buffer<float>;
using dnnl::memory;

void reorder(const memory::desc& from, const Buffer& source, const memory::desc& to, Buffer& target) {
  dnnl::stream stream(onednn_engine());
  memory src(from, onednn_engine(), const_cast<float*>(source.data()));
  memory dst(to, onednn_engine(), target.data());
  dnnl::reorder(src, dst).execute(stream, src, dst);
  stream.wait();
}

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
  entries_.push_back({Role::convolution, {}, kept_});
}

memory::desc PackedWeights::plain_desc(Role role) const {
  using tag = memory::format_tag;
  constexpr auto f32 = memory::data_type::f32;
  switch (role) {
    case Role::matmul:
      return {{inputs_, outputs_}, f32, tag::ba};
    case Role::inner_product:
      return {{outputs_, inputs_}, f32, tag::ab};
    default:
      return {{outputs_, inputs_, kernel_h_, kernel_w_}, f32, tag::acdb};
  }
}

PackedWeights::Form PackedWeights::plain() {
  std::lock_guard lock(mutex_);
  Form form = plain_locked();
  keep(form);
  return form;
}

PackedWeights::Form PackedWeights::packed(Role role, const memory::desc& wanted) {
  std::lock_guard lock(mutex_);
  std::erase_if(entries_, [](const Entry& e) { return e.data.expired(); });
  for (const Entry& e : entries_)
    if (e.role == role && e.desc == wanted)
      if (Form form = e.data.lock()) return keep(form), form;
  Form source = plain_locked();
  if (wanted == plain_desc(role)) return keep(source), source;
  // Zeroed: a primitive may read the padding of a packed form as weights.
  auto form = std::make_shared<Buffer>(wanted.get_size() / sizeof(float), true);
  reorder(plain_desc(role), *source, wanted, *form);
  entries_.push_back({role, wanted, form});
  source.reset();
  keep(form);
  return form;
}

PackedWeights::Form PackedWeights::plain_locked() {
  for (const Entry& e : entries_)
    if (e.desc.is_zero())
      if (Form form = e.data.lock()) return form;
  for (const Entry& e : entries_)
    if (Form source = e.data.lock()) {
      auto form = std::make_shared<Buffer>(std::size_t(outputs_) * kernel_h_ * kernel_w_ * inputs_);
      reorder(e.desc, *source, plain_desc(e.role), *form);
      entries_.push_back({Role::convolution, {}, form});
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
