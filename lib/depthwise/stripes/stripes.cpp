#include "depthwise/stripes/stripes.hpp"

#include <algorithm>
#include <functional>

#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

/// The part of a kernel inside a rectangle, where `keep` says so.
template <class Keep>
Kernel part(const Kernel& kernel, int row, int rows, int column, int columns, Keep keep) {
  Kernel k{rows, columns, kernel.offset_h + row, kernel.offset_w + column, {}};
  for (int a = 0; a < rows; a++)
    for (int b = 0; b < columns; b++)
      k.support.push_back(kernel.has(row + a, column + b) && keep(column + b));
  return k;
}

/// Of the first pass.
Request vertical_request(const Request& request, const Stripes& stripes) {
  Request r = request;
  r.kernel = stripes.vertical;
  return r;
}
/// Of the second, which adds to what the first has written.
Request horizontal_request(const Request& request, const Stripes& stripes) {
  Request r = request;
  r.kernel = stripes.horizontal;
  r.problem.epilogue = {.bias = false, .activation = Activation::none, .residual = true};
  return r;
}

bool suits(const Problem& problem) {
  return problem.type == DataType::f32 && problem.output_type() == DataType::f32 &&
         problem.epilogue.activation == Activation::none && !problem.epilogue.scale;
}

/// The fields with a prefix, as a tiling of their own; and back.
Tiling inner(const Tiling& tiling, std::string_view prefix) {
  Tiling found;
  found.algorithm = tiling.word(prefix);
  for (const auto& [name, value] : tiling.fields)
    if (name.size() > prefix.size() && name.starts_with(prefix) && name[prefix.size()] == '.')
      found.set(std::string_view(name).substr(prefix.size() + 1), value);
  return found;
}
void add_inner(Tiling& tiling, const std::string& prefix, const Tiling& from) {
  tiling.set(prefix, from.algorithm);
  for (const auto& [name, value] : from.fields) tiling.set(prefix + "." + name, value);
}

std::unique_ptr<Variant> read_stripe(const Request& stripe, const Tiling& tiling) {
  const Algorithm* algorithm = find_algorithm(tiling.algorithm);
  return algorithm && algorithm != &stripes_algorithm() ? algorithm->read(stripe, tiling) : nullptr;
}

/// The few best predicted of all other algorithms for one stripe.
std::vector<Candidate> stripe_candidates(const Request& stripe) {
  constexpr std::size_t most = 3;
  std::vector<Candidate> found;
  for (const Algorithm* algorithm : algorithms()) {
    if (algorithm == &stripes_algorithm()) continue;
    const std::vector<Candidate> more = algorithm->candidates(stripe, most);
    found.insert(found.end(), more.begin(), more.end());
  }
  std::stable_sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
    return a.predicted_seconds < b.predicted_seconds;
  });
  found.resize(std::min(found.size(), most));
  return found;
}

Tiling both(const Tiling& vertical, const Tiling& horizontal) {
  Tiling t{"stripes", {}};
  add_inner(t, "v", vertical);
  add_inner(t, "h", horizontal);
  return t;
}

class StripesExecutor final : public Executor {
 public:
  StripesExecutor(std::int64_t batch, std::unique_ptr<Executor> vertical,
                  std::unique_ptr<Executor> horizontal)
      : batch_(batch), vertical_(std::move(vertical)), horizontal_(std::move(horizontal)) {}

  void set_weights(const Weights& weights, int threads) override {
    vertical_->set_weights(weights, threads);
    horizontal_->set_weights(weights.without_bias(), threads);
  }
  std::size_t workspace_bytes(int threads) const override {
    return std::max({vertical_->workspace_bytes(threads), horizontal_->workspace_bytes(threads),
                     each() * static_cast<std::size_t>(threads)});
  }
  void run(const Tensors& tensors, const Run& run) const override {
    const Tensors added{tensors.src, tensors.dst, tensors.dst};
    const ChannelTasks tasks = side_by_side(run.batch, run.threads);
    if (tasks.count == 0) {
      vertical_->run(tensors, run);
      horizontal_->run(added, run);
      return;
    }
    // Both stripes of some channels, while these are in the L2.
    const std::size_t each = this->each();
    const auto body = [&](std::int64_t index, int thread) {
      char* const scratch = static_cast<char*>(run.workspace) + each * static_cast<std::size_t>(thread);
      vertical_->run_task(tensors, scratch, index);
      horizontal_->run_task(added, scratch, index);
    };
    core::parallel_for(tasks.count, run.threads, std::ref(body));
  }
  std::vector<Phase> phases(int threads) const override {
    if (const ChannelTasks tasks = side_by_side(batch_, threads); tasks.count > 0)
      return {{"both stripes of a group", tasks.count}};
    std::vector<Phase> all;
    for (const Phase& p : vertical_->phases(threads)) all.push_back({"vertical " + p.name, p.tasks});
    for (const Phase& p : horizontal_->phases(threads)) all.push_back({"horizontal " + p.name, p.tasks});
    return all;
  }
  Work work() const override {
    const Work a = vertical_->work(), b = horizontal_->work();
    return {a.fma + b.fma, a.add + b.add, a.bytes_read + b.bytes_read, a.bytes_written + b.bytes_written};
  }
  std::size_t prepared_bytes() const override {
    return vertical_->prepared_bytes() + horizontal_->prepared_bytes();
  }

 private:
  /// The tasks that both stripes are cut into, if they are cut alike.
  ChannelTasks side_by_side(std::int64_t batch, int threads) const {
    const ChannelTasks tasks = vertical_->channel_tasks(batch, threads);
    return tasks == horizontal_->channel_tasks(batch, threads) ? tasks : ChannelTasks{};
  }
  std::size_t each() const {
    return std::max(vertical_->workspace_bytes(1), horizontal_->workspace_bytes(1));
  }

  std::int64_t batch_;  // as planned
  std::unique_ptr<Executor> vertical_, horizontal_;
};

class StripesVariant final : public Variant {
 public:
  StripesVariant(std::int64_t batch, std::unique_ptr<Variant> vertical, std::unique_ptr<Variant> horizontal)
      : batch_(batch), vertical_(std::move(vertical)), horizontal_(std::move(horizontal)) {}
  Tiling tiling() const override { return both(vertical_->tiling(), horizontal_->tiling()); }
  double predict(const Machine& machine) const override {
    return vertical_->predict(machine) + horizontal_->predict(machine);
  }
  std::unique_ptr<Executor> prepare() const override {
    return std::make_unique<StripesExecutor>(batch_, vertical_->prepare(), horizontal_->prepare());
  }

 private:
  std::int64_t batch_;
  std::unique_ptr<Variant> vertical_, horizontal_;
};

class StripesAlgorithm final : public Algorithm {
 public:
  std::string_view name() const override { return "stripes"; }
  bool exact() const override { return false; }  // the order of the taps differs from portable's
  int complexity() const override { return 100; }

 private:
  std::unique_ptr<Variant> read_fields(const Request& request, const Tiling& tiling) const override {
    const auto stripes = suits(request.problem) ? split_stripes(request.kernel) : std::nullopt;
    const Tiling v = inner(tiling, "v"), h = inner(tiling, "h");
    if (!stripes || v.fields.size() + h.fields.size() + 2 != tiling.fields.size())
      return nullptr;  // some field is nobody's
    auto vertical = read_stripe(vertical_request(request, *stripes), v);
    auto horizontal = read_stripe(horizontal_request(request, *stripes), h);
    if (!vertical || !horizontal) return nullptr;
    return std::make_unique<StripesVariant>(request.problem.batch, std::move(vertical),
                                            std::move(horizontal));
  }

  std::vector<Candidate> every_candidate(const Request& request) const override {
    const auto stripes = suits(request.problem) ? split_stripes(request.kernel) : std::nullopt;
    if (!stripes) return {};
    std::vector<Candidate> all;
    const std::vector<Candidate> horizontal = stripe_candidates(horizontal_request(request, *stripes));
    for (const Candidate& v : stripe_candidates(vertical_request(request, *stripes)))
      for (const Candidate& h : horizontal) {
        Candidate c{both(v.tiling, h.tiling), v.predicted_seconds + h.predicted_seconds};
        if (c.tiling.to_string().size() <= 256) all.push_back(std::move(c));
      }
    return all;
  }
};

}  // namespace

std::optional<Stripes> split_stripes(const Kernel& kernel) {
  // The first row belongs to the vertical stripe alone (the kernel is trimmed): it gives the band of columns.
  int first = kernel.width, end = 0;
  for (int b = 0; b < kernel.width; b++)
    if (kernel.has(0, b)) {
      first = std::min(first, b);
      end = b + 1;
    }
  const auto outside = [&](int column) { return column < first || column >= end; };
  int top = kernel.height, bottom = 0;
  for (int a = 0; a < kernel.height; a++)
    for (int b = 0; b < kernel.width; b++)
      if (kernel.has(a, b) && outside(b)) {
        top = std::min(top, a);
        bottom = a + 1;
      }
  if (end == 0 || bottom == 0) return std::nullopt;
  const int rows = bottom - top, columns = end - first;
  if (2 * (kernel.height * columns + rows * kernel.width) >= kernel.height * kernel.width)
    return std::nullopt;
  return Stripes{part(kernel, 0, kernel.height, first, columns, [](int) { return true; }),
                 part(kernel, top, rows, 0, kernel.width, outside)};
}

const Algorithm& stripes_algorithm() {
  static const StripesAlgorithm algorithm;
  return algorithm;
}

}  // namespace replk::depthwise
