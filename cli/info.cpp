// replk info: this machine as the library sees it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/info_weights.hpp"
#include "core/cpu.hpp"
#include "core/features.hpp"
#include "dense/onednn/version.hpp"
#include "jit/x64/code.hpp"
#include "tuner/cache.hpp"

namespace replk::cli {
namespace {

std::string readable_bytes(std::size_t bytes) {
  if (bytes == 0) return "unknown";
  return bytes % (1 << 20) == 0 ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} KiB", bytes >> 10);
}

nlohmann::ordered_json words(Features features) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  std::istringstream text(features == Features() ? "" : to_string(features));
  for (std::string word; text >> word;) all.push_back(word);
  return all;
}

ExitCode run(bool json) {
  const core::Cpu& cpu = core::cpu();
  const bool code_allowed = jit::code_allowed();
  const std::string onednn = dense::onednn_version();
  const std::string tune_cache = tuner::process_cache().user_path();
  if (json) {
    print_json(
        {{"version", REPLK_VERSION},
         {"cpu",
          {{"vendor", cpu.vendor},
           {"brand", cpu.brand},
           {"family", cpu.family},
           {"model", cpu.model},
           {"stepping", cpu.stepping},
           {"cores", cpu.cores},
           {"l1d_bytes", cpu.l1d_bytes},
           {"l2_bytes", cpu.l2_bytes},
           {"l3_bytes", cpu.l3_bytes}}},
         {"isa", name(cpu.isa)},
         {"hardware_isa", name(cpu.hardware)},
         {"features", words(core::features())},
         {"onednn", onednn},
         {"tune_cache", tune_cache.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(tune_cache)},
         {"code_generation", code_allowed}});
    return exit_done;
  }
  fmt::print("replk            {}\n", REPLK_VERSION);
  fmt::print("CPU              {} ({}, family {} model {} stepping {})\n", cpu.brand, cpu.vendor, cpu.family,
             cpu.model, cpu.stepping);
  fmt::print("cores            {} that this process may use\n", cpu.cores);
  fmt::print("instruction set  {}{}\n", name(cpu.isa),
             cpu.isa == cpu.hardware
                 ? ""
                 : fmt::format(" (REPLK_MAX_ISA; the hardware has {})", name(cpu.hardware)));
  fmt::print("features         {}\n", to_string(core::features()));
  fmt::print("caches           L1d {}, L2 {}, L3 {}\n", readable_bytes(cpu.l1d_bytes),
             readable_bytes(cpu.l2_bytes), readable_bytes(cpu.l3_bytes));
  fmt::print("oneDNN           {}\n", onednn);
  fmt::print("tune cache       {}\n", tune_cache.empty() ? "none: there is no directory for it" : tune_cache);
  fmt::print("code generation  {}\n",
             code_allowed ? "allowed" : "refused by the system; portable code runs, many times slower");
  return exit_done;
}

}  // namespace

void add_info(CLI::App& program) {
  struct Arguments {
    std::string weights, model;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(program, "info",
                                  "Show CPU, instruction set, caches, oneDNN and whether code can be "
                                  "generated; or what a file of weights is",
                                  [arguments](bool json) {
                                    return arguments->weights.empty()
                                               ? run(json)
                                               : show_weights(arguments->weights, arguments->model, json);
                                  });
  CLI::Option* weights =
      command.add_option("--weights", arguments->weights, "Show what each layer of this file multiplies in")
          ->type_name("FILE.safetensors");
  command.add_option("--model", arguments->model, "The file's network (default: the one that it names)")
      ->type_name("NAME")
      ->needs(weights);
}

}  // namespace replk::cli
