// replk completion: what a shell needs to complete this program's commands, made from the commands
// themselves.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "model/architecture.hpp"

namespace replk::cli {
namespace {

/// A word that may stand next, and what it means.
struct Word {
  std::string text, meaning;
};
struct Choice {
  std::string option;
  std::vector<std::string> values;
};
/// A command as it is typed, `replk bench model`, and what may follow.
struct Command {
  std::string path;
  std::vector<Word> commands, options;
  std::vector<Choice> choices;
  std::vector<std::string> values;  // of its arguments
};

/// The values that an option takes, where it takes few: its type reads `NAME:{a,b,c}` then.
std::vector<std::string> values_of(const CLI::Option& option) {
  if (option.check_lname("model")) return model::architecture_names();
  const std::string type = option.get_type_name();
  const std::size_t begin = type.find('{'), end = type.rfind('}');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  std::vector<std::string> values{""};
  for (const char c : type.substr(begin + 1, end - begin - 1))
    if (c == ',')
      values.emplace_back();
    else
      values.back() += c;
  return values;
}

/// The first sentence of a description, on a line.
std::string first_sentence(const std::string& text) {
  return text.substr(0, std::min(text.find_first_of(".;\n"), text.find(" (default")));
}

Command read(const CLI::App& app, const std::string& path) {
  Command command{path, {}, {}, {}, {}};
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    command.commands.push_back({sub->get_name(), first_sentence(sub->get_description())});
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string> values = values_of(*option);
    if (option->get_positional()) command.values.insert(command.values.end(), values.begin(), values.end());
    for (const std::string& name : option->get_lnames()) {
      command.options.push_back({"--" + name, first_sentence(option->get_description())});
      if (!values.empty()) command.choices.push_back({"--" + name, values});
    }
  }
  return command;
}

void read_all(const CLI::App& app, const std::string& path, std::vector<Command>& all) {
  all.push_back(read(app, path));
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    read_all(*sub, path + " " + sub->get_name(), all);
}

/// What stands between single quotes.
std::string single_quoted(const std::string& text) {
  std::string safe;
  for (const char c : text) safe += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + safe + "'";
}

/// The command that the words before the cursor name, in `typed`: bash and zsh share their language here.
std::string path_finder(const std::vector<Command>& all, const char* words) {
  std::string cases;
  for (const Command& c : all)
    if (&c != &all.front()) cases += (cases.empty() ? "" : "|") + single_quoted(c.path);
  return fmt::format(
      "  local typed=replk word\n"
      "  for word in {}; do\n"
      "    case \"$typed $word\" in {}) typed=\"$typed $word\" ;; esac\n"
      "  done\n",
      words, cases);
}

std::string bash(const std::vector<Command>& all) {
  std::string choices, words;
  for (const Command& c : all) {
    for (const Choice& choice : c.choices)
      choices += fmt::format("    {}) words={}; options= ;;\n", single_quoted(c.path + " " + choice.option),
                             single_quoted(fmt::format("{}", fmt::join(choice.values, " "))));
    std::vector<std::string> options, others = c.values;
    for (const Word& w : c.options) options.push_back(w.text);
    for (const Word& w : c.commands) others.push_back(w.text);
    words += fmt::format("    {}) words={} options={} ;;\n", single_quoted(c.path),
                         single_quoted(fmt::format("{}", fmt::join(others, " "))),
                         single_quoted(fmt::format("{}", fmt::join(options, " "))));
  }
  return fmt::format(
      "# bash completion of replk\n"
      "_replk() {{\n"
      "  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words= options=\n"
      "{}"
      "  case \"$typed\" in\n{}  esac\n"
      "  case \"$typed $prev\" in\n{}  esac\n"
      "  [[ $cur != -* ]] || words=$options\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
      "}}\n"
      "complete -o default -F _replk replk\n",
      path_finder(all, "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\""), words, choices);
}

/// As `_describe` wants them: `word:meaning`.
std::string described(const std::vector<Word>& words) {
  std::string text;
  for (const Word& w : words) text += " " + single_quoted(w.text + ":" + w.meaning);
  return text;
}

std::string zsh(const std::vector<Command>& all) {
  std::string choices, words;
  for (const Command& c : all) {
    for (const Choice& choice : c.choices)
      choices += fmt::format("    {}) compadd -- {}; return ;;\n",
                             single_quoted(c.path + " " + choice.option), fmt::join(choice.values, " "));
    words += fmt::format("    {}) commands=({} ) options=({} ) values=({}) ;;\n", single_quoted(c.path),
                         described(c.commands), described(c.options), fmt::join(c.values, " "));
  }
  return fmt::format(
      "#compdef replk\n"
      "_replk() {{\n"
      "  local -a commands options values\n"
      "{}"
      "  case \"$typed ${{words[CURRENT-1]}}\" in\n{}  esac\n"
      "  case \"$typed\" in\n{}  esac\n"
      "  if [[ ${{words[CURRENT]}} == -* ]]; then\n"
      "    _describe option options\n"
      "  elif (( $#commands )); then\n"
      "    _describe command commands\n"
      "  elif (( $#values )); then\n"
      "    compadd -- $values\n"
      "  else\n"
      "    _files\n"
      "  fi\n"
      "}}\n"
      "_replk \"$@\"\n",
      path_finder(all, "\"${words[2,CURRENT-1][@]}\""), choices, words);
}

/// Where a command is the one that is typed: its words are there, and none of those that may follow.
std::string fish_condition(const Command& command) {
  std::string condition;
  std::vector<std::string> names;
  for (std::size_t at = command.path.find(' '); at != std::string::npos;) {
    const std::size_t next = command.path.find(' ', at + 1);
    condition += (condition.empty() ? "" : "; and ") + std::string("__fish_seen_subcommand_from ") +
                 command.path.substr(at + 1, next == std::string::npos ? next : next - at - 1);
    at = next;
  }
  for (const Word& w : command.commands) names.push_back(w.text);
  if (!names.empty())
    condition += fmt::format("{}not __fish_seen_subcommand_from {}", condition.empty() ? "" : "; and ",
                             fmt::join(names, " "));
  return single_quoted(condition);
}

std::string fish(const std::vector<Command>& all) {
  std::string text = "# fish completion of replk\n";
  for (const Command& c : all) {
    const std::string condition = fish_condition(c);
    for (const Word& w : c.commands)
      text += fmt::format("complete -c replk -f -n {} -a {} -d {}\n", condition, w.text,
                          single_quoted(w.meaning));
    if (!c.values.empty())
      text += fmt::format("complete -c replk -n {} -a '{}'\n", condition, fmt::join(c.values, " "));
    for (const Word& w : c.options) {
      const auto choice = std::find_if(c.choices.begin(), c.choices.end(),
                                       [&](const Choice& each) { return each.option == w.text; });
      const std::string values =
          choice == c.choices.end() ? "" : fmt::format(" -x -a '{}'", fmt::join(choice->values, " "));
      text += fmt::format("complete -c replk -n {} -l {} -d {}{}\n", condition, w.text.substr(2),
                          single_quoted(w.meaning), values);
    }
  }
  return text;
}

ExitCode run(const CLI::App& program, const std::string& shell, bool json) {
  std::vector<Command> all;
  read_all(program, "replk", all);
  const std::string script = shell == "bash" ? bash(all) : shell == "zsh" ? zsh(all) : fish(all);
  if (json)
    print_json({{"shell", shell}, {"script", script}});
  else
    fmt::print("{}", script);
  return exit_done;
}

}  // namespace

void add_completion(CLI::App& program) {
  auto shell = std::make_shared<std::string>();
  CLI::App& command =
      add_command(program, "completion", "Print what a shell completes this program's commands with",
                  [shell, &program](bool json) { return run(program, *shell, json); });
  command.add_option("shell", *shell, "The shell")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command.footer("bash: replk completion bash > ~/.local/share/bash-completion/completions/replk");
}

}  // namespace replk::cli
