// replk cache: what this machine has learnt, and how to carry it elsewhere.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/table.hpp"
#include "cli/tunable.hpp"
#include "core/error.hpp"

namespace replk::cli {
namespace {

using Json = nlohmann::ordered_json;
using tuner::Record;

bool is_ours(const Record& record) {
  return record.machine == tuner::machine_json();
}

std::vector<Record> records(bool all_machines) {
  std::vector<Record> found = tuner::process_cache().records();
  if (!all_machines) std::erase_if(found, [](const Record& r) { return !is_ours(r); });
  return found;
}

std::string read_cache_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) core::fail(core::Status::not_found, "{}: cannot be read", path);
  const std::streamoff size = file.tellg();
  if (size < 0 || size > static_cast<std::streamoff>(tuner::kMostFileBytes))
    core::fail(core::Status::bad_file, "{}: {} bytes; allowed: 0 to {}", path, static_cast<long long>(size),
               tuner::kMostFileBytes);
  file.seekg(0);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) core::fail(core::Status::bad_file, "{}: cannot be written", path);
}

ExitCode path(bool json) {
  const std::string& file = tuner::process_cache().user_path();
  if (json)
    print_json({{"path", file}});
  else
    fmt::print("{}\n", file);
  return exit_done;
}

ExitCode list(bool all_machines, bool json) {
  Json rows = Json::array();
  Table table({"shape", "ms", "confidence", "date", "pick"});
  for (const Record& r : records(all_machines)) {
    rows.push_back({{"shape", r.shape},
                    {"pick", r.pick},
                    {"ms", r.seconds * 1e3},
                    {"confidence", r.confidence},
                    {"tainted", r.tainted},
                    {"date", r.date},
                    {"key", Json::parse(r.key)},
                    {"machine", Json::parse(r.machine)}});
    table.add({r.shape, fmt::format("{:.3f}", r.seconds * 1e3),
               fmt::format("{:.0f} %{}", r.confidence * 100, r.tainted ? ", disturbed" : ""), r.date,
               r.pick});
  }
  if (json)
    print_json({{"records", rows}, {"faults", tuner::process_cache().faults()}});
  else
    table.print();
  return exit_done;
}

ExitCode export_to(const std::string& file, bool all_machines, bool json) {
  const std::vector<Record> all = records(all_machines);
  write_file(file, tuner::to_text(all));
  if (json)
    print_json({{"path", file}, {"records", all.size()}});
  else
    fmt::print("{} records in {}\n", all.size(), file);
  return exit_done;
}

ExitCode import_from(const std::vector<std::string>& files, bool json) {
  std::vector<std::string> texts;  // all are read before any is taken in
  for (const std::string& file : files) texts.push_back(read_cache_file(file));
  int added = 0, replaced = 0, refused = 0;
  for (std::size_t i = 0; i < texts.size(); i++) {
    const tuner::Cache::Change change = tuner::process_cache().merge(texts[i]);
    if (!change.ok) core::fail(core::Status::bad_file, "{}: {}", files[i], change.fault);
    added += change.added;
    replaced += change.replaced;
    refused += change.refused;
  }
  if (json)
    print_json({{"added", added}, {"replaced", replaced}, {"refused", refused}});
  else
    fmt::print("{} records added, {} replaced by later ones, {} damaged lines refused\n", added, replaced,
               refused);
  return refused > 0 ? exit_failures : exit_done;
}

ExitCode merge(const std::vector<std::string>& files, const std::string& out, bool json) {
  std::vector<std::string> texts;
  for (const std::string& file : files) texts.push_back(read_cache_file(file));
  write_file(out, "");
  tuner::Cache joined(out, {});
  int refused = 0;
  for (std::size_t i = 0; i < texts.size(); i++) {
    const tuner::Cache::Change change = joined.merge(texts[i]);
    if (!change.ok) core::fail(core::Status::bad_file, "{}: {}", files[i], change.fault);
    refused += change.refused;
  }
  const std::size_t count = joined.records().size();
  if (json)
    print_json({{"path", out}, {"records", count}, {"refused", refused}});
  else
    fmt::print("{} records in {}; {} damaged lines refused\n", count, out, refused);
  return refused > 0 ? exit_failures : exit_done;
}

ExitCode prune(bool other_machines, bool json) {
  const tuner::Cache::Change change = tuner::process_cache().prune([&](const Record& record) {
    if (!is_ours(record)) return other_machines;
    const auto question = ask(record);  // nothing: of other algorithms or another oneDNN
    return !question || !question->legal(record.pick);
  });
  if (!change.ok) core::fail(core::Status::bad_file, "{}", change.fault);
  if (json)
    print_json({{"dropped", change.replaced}});
  else
    fmt::print("{} records dropped: superseded, damaged, of other versions{}\n", change.replaced,
               other_machines ? " or of other machines" : "");
  return exit_done;
}

/// What is wrong with a record of this machine, or nothing.
std::string fault_of(const Record& record) {
  const auto question = ask(record);
  if (!question) return "its key does not belong to its shape, or is of another version";
  if (!question->legal(record.pick)) return fmt::format("'{}' cannot compute it", record.pick);
  return {};
}

/// What a race says now of a record's pick.
struct Rerun {
  std::string fastest;
  double regret = 1;  // the time of the pick over the fastest's
  bool wrong = false;
};

Rerun race_again(const Record& record, const tuner::Settings& settings, tuner::Cache& cache) {
  tuner::Question question = *ask(record);
  // The remembered pick races even where nothing predicts it to be good.
  question.candidates = [all = question.candidates(), pick = record.pick] {
    std::vector<tuner::Candidate> with_pick = all;
    std::erase_if(with_pick, [&](const tuner::Candidate& c) { return c.text == pick; });
    with_pick.push_back({pick, 0, 0});
    return with_pick;
  };
  const tuner::Choice now = tuner::race_only(question, settings, cache);
  Rerun rerun{.fastest = now.text};
  for (std::size_t i = 0; i < now.raced.size(); i++) {
    if (now.raced[i].text != record.pick) continue;
    rerun.wrong = now.standings[i].fate == tuner::Standing::wrong;
    if (now.standings[i].ratio > 0) rerun.regret = std::max(1.0, now.standings[i].ratio);
  }
  return rerun;
}

ExitCode verify(std::size_t sample, double budget, bool json) {
  std::vector<std::string> faults = tuner::process_cache().faults();
  std::vector<Record> sound;
  for (const Record& record : records(false)) {
    const std::string fault = fault_of(record);
    if (fault.empty())
      sound.push_back(record);
    else
      faults.push_back(fmt::format("{}: {}", record.shape, fault));
  }
  std::mt19937_64 random(1);
  std::shuffle(sound.begin(), sound.end(), random);
  const std::size_t checked = sound.size();
  if (sound.size() > sample) sound.resize(sample);

  tuner::Settings settings = tuner::settings();
  settings.mode = tuner::Mode::now;
  settings.again = true;
  settings.budget_seconds = budget;
  tuner::Cache forgetful({}, {}, "not stored");  // a verification changes nothing
  Json rows = Json::array();
  Table table({"shape", "remembered", "fastest now", "regret"});
  double log_sum = 0, worst = 1;
  for (const Record& record : sound) {
    const Rerun now = race_again(record, settings, forgetful);
    if (now.wrong)
      faults.push_back(
          fmt::format("{}: '{}' does not run or gives a wrong result", record.shape, record.pick));
    log_sum += std::log(now.regret);
    worst = std::max(worst, now.regret);
    rows.push_back(
        {{"shape", record.shape}, {"pick", record.pick}, {"fastest", now.fastest}, {"regret", now.regret}});
    table.add({record.shape, record.pick, now.fastest == record.pick ? "the same" : now.fastest,
               fmt::format("{:.3f}", now.regret)});
  }
  const double mean = sound.empty() ? 1 : std::exp(log_sum / static_cast<double>(sound.size()));
  if (json) {
    print_json({{"records", checked},
                {"faults", faults},
                {"sample", rows},
                {"regret", mean},
                {"worst_regret", worst}});
  } else {
    for (const std::string& fault : faults) fmt::print("{}\n", fault);
    fmt::print("{} sound records of this machine, {} faults\n", checked, faults.size());
    if (!sound.empty()) {
      table.print();
      fmt::print(
          "regret (time of the remembered pick over the fastest now): {:.3f} on average, {:.3f} at worst\n",
          mean, worst);
    }
  }
  return faults.empty() ? exit_done : exit_failures;
}

}  // namespace

void add_cache(CLI::App& program) {
  struct Arguments {
    bool all_machines = false, other_machines = false;
    std::vector<std::string> files;
    std::string out;
    std::size_t sample = 8;
    double budget = tuner::kBudgetSeconds;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* cache = program.add_subcommand("cache", "List, carry, check and clean up what `tune` remembers");
  cache->require_subcommand(1);
  const char* const all = "Records of every machine, not only of this one";

  add_command(*cache, "path", "Print where the user's cache is", path);
  CLI::App& listing = add_command(*cache, "list", "List what is remembered",
                                  [a](bool json) { return list(a->all_machines, json); });
  listing.add_flag("--all-machines", a->all_machines, all);

  CLI::App& exporting =
      add_command(*cache, "export", "Write the records to a file, for other machines like this one",
                  [a](bool json) { return export_to(a->out, a->all_machines, json); });
  exporting.add_option("file", a->out, "The file to write")->required();
  exporting.add_flag("--all-machines", a->all_machines, all);

  CLI::App& importing =
      add_command(*cache, "import", "Add the records of files to the user's cache; later dates win",
                  [a](bool json) { return import_from(a->files, json); });
  importing.add_option("file", a->files, "Files that `replk cache export` wrote")->required();

  CLI::App& merging = add_command(*cache, "merge", "Join cache files of several machines into one",
                                  [a](bool json) { return merge(a->files, a->out, json); });
  merging.add_option("file", a->files, "Files that `replk cache export` wrote")->required();
  merging.add_option("--out", a->out, "The joined file")->required()->type_name("FILE");

  CLI::App& verifying = add_command(
      *cache, "verify", "Name damaged and useless records, and measure a sample of the others again",
      [a](bool json) { return verify(a->sample, a->budget, json); });
  verifying.add_option("--sample", a->sample, "Records to measure again (default: 8)")
      ->check(CLI::Range(0, 100000))
      ->type_name("N");
  verifying.add_option("--budget", a->budget, "Seconds for each record (default: 4)")
      ->check(CLI::Range(0.01, 3600.0))
      ->type_name("SECONDS");

  CLI::App& pruning = add_command(*cache, "prune", "Drop superseded, damaged and useless records",
                                  [a](bool json) { return prune(a->other_machines, json); });
  pruning.add_flag("--other-machines", a->other_machines, "Also drop all records of other machines");
}

}  // namespace replk::cli
