// The command line as a whole: every command with its options, and the message for a line that is wrong.
#pragma once
#include <string>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace replk::cli {

/// Gives `program` all commands.
void describe(CLI::App& program);

/// What is wrong with a line that `program` refused, and where help is.
std::string explain(const CLI::App& program, const CLI::ParseError& error);

}  // namespace replk::cli
