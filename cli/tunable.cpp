#include "cli/tunable.hpp"

#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "dense/choice.hpp"
#include "depthwise/choose/choice.hpp"

namespace replk::cli {

tuner::Question ask(const std::string& shape, int threads) {
  if (threads == 0) threads = core::default_threads();
  if (const auto linear = dense::parse_linear(shape)) return dense::question(*linear, threads);
  if (const auto convolution = dense::parse_convolution(shape)) return dense::question(*convolution, threads);
  return depthwise::question(
      {depthwise::parse(shape), depthwise::Pass::forward, depthwise::plan_features({}), threads});
}

std::optional<tuner::Question> ask(const tuner::Record& record) try {
  const auto key = nlohmann::json::parse(record.key, nullptr, false);
  if (!key.is_object() || !key.contains("threads") || !key["threads"].is_string()) return std::nullopt;
  const std::string text = key["threads"].get<std::string>();
  if (text.empty() || text.size() > 4 || text.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  const int threads = std::stoi(text);
  if (threads < 1 || threads > 1024) return std::nullopt;
  tuner::Question question = ask(record.shape, threads);
  if (question.key.json() != record.key) return std::nullopt;
  return question;
} catch (const core::Error&) {  // the shape does not parse
  return std::nullopt;
}

std::vector<std::string> shapes_of(const model::Workload& workload) {
  std::vector<std::string> shapes;
  for (const auto& problem : workload.depthwise) shapes.push_back(depthwise::to_string(problem));
  for (const auto& layer : workload.convolutions) shapes.push_back(dense::to_string(layer));
  for (const auto& layer : workload.linears) shapes.push_back(dense::to_string(layer));
  return shapes;
}

}  // namespace replk::cli
