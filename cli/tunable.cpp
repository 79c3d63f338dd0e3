#include "cli/tunable.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "dense/choice.hpp"
#include "depthwise/choose/choice.hpp"
#include "depthwise/gradient/input_gradient.hpp"
#include "depthwise/gradient/weight_choice.hpp"

namespace replk::cli {

namespace {

const std::map<std::string, depthwise::Pass>& passes() {
  static const std::map<std::string, depthwise::Pass> all = [] {
    std::map<std::string, depthwise::Pass> names;
    using enum depthwise::Pass;
    for (const depthwise::Pass pass : {forward, input_gradient, weight_gradient})
      names[std::string(name(pass))] = pass;
    return names;
  }();
  return all;
}

}  // namespace

void add_pass_option(CLI::App& command, depthwise::Pass& pass) {
  std::vector<std::string> names;
  for (const auto& [text, each] : passes()) names.push_back(text);
  command
      .add_option_function<std::string>(
          "--pass", [&pass](const std::string& text) { pass = passes().at(text); },
          "Which convolution of a depthwise layer (default: forward)")
      ->check(CLI::IsMember(names))
      ->type_name("PASS");
}

void add_cold_option(CLI::App& command, bool& cold) {
  command.add_flag(
      "--cold", cold,
      "As a network meets a layer: weights and input just written or prefetched, all else out of the L2");
}

std::vector<std::string> shapes_of_pass(const std::string& shape, depthwise::Pass pass) {
  if (pass != depthwise::Pass::input_gradient) return {shape};
  std::vector<std::string> shapes;
  for (const depthwise::Problem& p : depthwise::input_gradient_problems(depthwise::parse(shape)))
    if (std::string text = to_string(p); std::find(shapes.begin(), shapes.end(), text) == shapes.end())
      shapes.push_back(std::move(text));
  return shapes;
}

tuner::Question ask(const std::string& shape, int threads, depthwise::Pass pass, bool cold) {
  if (cold && pass != depthwise::Pass::forward)
    core::fail(core::Status::invalid_argument, "--cold: goes with the forward pass, not with {}", name(pass));
  if (threads == 0) threads = core::default_threads();
  if (pass == depthwise::Pass::weight_gradient)
    return depthwise::weight_question({depthwise::parse(shape), pass, depthwise::plan_features({}), threads},
                                      {});
  if (const auto linear = dense::parse_linear(shape)) return dense::question(*linear, threads);
  if (const auto convolution = dense::parse_convolution(shape)) return dense::question(*convolution, threads);
  depthwise::Request request(depthwise::parse(shape), depthwise::Pass::forward, depthwise::plan_features({}),
                             threads);
  request.cold = cold;
  return depthwise::question(request);
}

std::optional<tuner::Question> ask(const tuner::Record& record) try {
  const auto key = nlohmann::json::parse(record.key, nullptr, false);
  if (!key.is_object() || !key.contains("threads") || !key["threads"].is_string()) return std::nullopt;
  const std::string text = key["threads"].get<std::string>();
  if (text.empty() || text.size() > 4 || text.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  const int threads = std::stoi(text);
  if (threads < 1 || threads > 1024) return std::nullopt;
  // A pass that is not the forward one stands behind the shape, and so does what says that it was cold.
  const std::size_t end = std::min(record.shape.find(' '), record.shape.size());
  const std::string said = end < record.shape.size() ? record.shape.substr(end + 1) : "forward";
  const bool cold = said == "cold";
  const auto pass = passes().find(cold ? "forward" : said);
  if (pass == passes().end()) return std::nullopt;
  const std::string shape = record.shape.substr(0, end);
  tuner::Question question = ask(shape, threads, pass->second, cold);
  if (question.key.json() != record.key) return std::nullopt;
  return question;
} catch (const core::Error&) {  // the shape does not parse
  return std::nullopt;
}

std::vector<tuner::Question> questions_of(const model::NetworkWorkload& workload, int threads) {
  constexpr auto pass = depthwise::Pass::forward;
  constexpr bool cold = true;  // as a network meets them
  std::vector<tuner::Question> questions;
  const auto add = [&](const model::Workload& layers, int on_threads) {
    const auto add_one = [&](const std::string& shape) {
      questions.push_back(ask(shape, on_threads, pass, cold));
    };
    for (const auto& problem : layers.depthwise) add_one(depthwise::to_string(problem));
    for (const auto& layer : layers.convolutions) add_one(dense::to_string(layer));
    for (const auto& layer : layers.linears) add_one(dense::to_string(layer));
  };
  add(workload.bands, 1);
  add(workload.whole, threads);
  return questions;
}

}  // namespace replk::cli
