#include "dense/weights.hpp"

#include <algorithm>

#include "core/threads.hpp"
#include "dense/onednn/primitives.hpp"

namespace replk::dense {
namespace {

using Buffer = core::Buffer<float>;
using dnnl::memory;

void reorder(const memory::desc& from, const Buffer& source, const memory::desc& to, Buffer& target,
             int threads) {
  const core::TeamSize team(threads);
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
  entries_.push_back({Role::plain, std::nullopt, 0, kept_});
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

PackedWeights::Form PackedWeights::plain(int threads) {
  std::lock_guard lock(mutex_);
  Form form = plain_locked(threads);
  keep(form);
  return form;
}

PackedWeights::Form PackedWeights::packed(Role role, const memory::desc& wanted, int threads) {
  std::lock_guard lock(mutex_);
  for (const Entry& e : entries_)
    if (e.role == role && e.desc == wanted)
      if (Form form = e.data.lock()) return keep(form), form;
  Form source = plain_locked(threads);
  if (wanted == plain_desc(role)) return keep(source), source;
  // Zeroed: a primitive may read the padding of a packed form as weights.
  auto form = std::make_shared<Buffer>(wanted.get_size() / sizeof(float), true);
  reorder(plain_desc(role), *source, wanted, *form, threads);
  source.reset();
  enter(role, wanted, 0, form);
  return form;
}

PackedWeights::Form PackedWeights::panels(int width, int threads) {
  std::lock_guard lock(mutex_);
  for (const Entry& e : entries_)
    if (e.role == Role::panels && e.width == width)
      if (Form form = e.data.lock()) return keep(form), form;
  Form source = plain_locked(threads);
  const std::size_t count = (outputs_ + width - 1) / width;
  auto form = std::make_shared<Buffer>(count * width * inputs_, true);
  core::parallel_for(std::int64_t(count), threads, [&](std::int64_t panel, int) {
    const int first = int(panel) * width, last = std::min(outputs_, first + width);
    float* to = form->data() + std::size_t(first) * inputs_;
    // Row by row of the source, block by block of its columns: whole cache lines on both sides.
    for (int block = 0; block < inputs_; block += 16)
      for (int o = first; o < last; o++)
        for (int i = block; i < std::min(inputs_, block + 16); i++)
          to[std::size_t(i) * width + o - first] = (*source)[std::size_t(o) * inputs_ + i];
  });
  source.reset();
  enter(Role::panels, std::nullopt, width, form);
  return form;
}

PackedWeights::Form PackedWeights::plain_locked(int threads) {
  for (const Entry& e : entries_)
    if (e.role == Role::plain)
      if (Form form = e.data.lock()) return form;
  for (const Entry& e : entries_)
    if (Form source = e.data.lock()) {
      Form form = unpack(e, source, threads);
      entries_.push_back({Role::plain, std::nullopt, 0, form});
      return form;
    }
  core::fail(core::Status::internal, "the weights of a dense layer have no form left");
}

PackedWeights::Form PackedWeights::unpack(const Entry& entry, const Form& data, int threads) const {
  auto form = std::make_shared<Buffer>(std::size_t(outputs_) * kernel_h_ * kernel_w_ * inputs_);
  if (entry.role != Role::panels) {
    reorder(*entry.desc, *data, plain_desc(entry.role), *form, threads);
    return form;
  }
  const std::size_t width = entry.width;
  for (std::size_t o = 0; o < std::size_t(outputs_); o++)
    for (std::size_t i = 0; i < std::size_t(inputs_); i++)
      (*form)[o * inputs_ + i] = (*data)[(o / width * inputs_ + i) * width + o % width];
  return form;
}

void PackedWeights::enter(Role role, std::optional<memory::desc> desc, int width, const Form& form) {
  std::erase_if(entries_, [](const Entry& e) { return e.data.expired(); });
  entries_.push_back({role, std::move(desc), width, form});
  keep(form);
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
