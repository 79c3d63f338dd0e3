// The commands of the program: one function a file, each adding one command to its parent.
#pragma once

namespace CLI {
class App;
}

namespace replk::cli {

void add_cache(CLI::App& program);
void add_classify(CLI::App& program);
void add_completion(CLI::App& program);
void add_erf(CLI::App& program);
void add_eval(CLI::App& program);
void add_explain(CLI::App& program);
void add_features(CLI::App& program);
void add_info(CLI::App& program);
void add_quantize(CLI::App& program);
void add_tune(CLI::App& program);

void add_bench_depthwise(CLI::App& bench);
void add_bench_gradient(CLI::App& bench);
void add_bench_model(CLI::App& bench);

}  // namespace replk::cli
