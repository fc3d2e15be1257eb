#include "manyhands/cli/run.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "manyhands/cli/job.hpp"
#include "manyhands/cli/launch_plan.hpp"

namespace manyhands::cli {
namespace {

constexpr const char* help = R"(start an MPI program with the MPI that it was built for
Usage: manyhands run [OPTIONS] PROGRAM [ARGUMENTS...]

Options (before the program):
  -n, --ranks N             processes of the job (default: 1)
  --mpi openmpi|mpich       for scripts and interpreters, which do not tell; else MANYHANDS_MPI, else this machine's default
  --tag-output, --prefix    begin each line of output with its rank: "[2] text"
  -x, --env NAME[=VALUE]    set a variable for the program (or hand it on to other hosts)
  --bind none|core          where a rank may run (default: none; core: each on one core)
  --hosts LIST              other machines, as the launcher takes them: a,b:4
  --hostfile FILE
  --stdin none|first|all    which ranks read our standard input (default: first, rank 0; the others find its end)
  --timeout SECONDS         end the job after so long (exit status 124)
  --force                   more ranks than the machine bears
  --dry-run                 print what would be run
  -v, --verbose             print it, and the launcher's own texts, too
  -h, --help

Exit status: the program's, of the first rank that failed; 128 + the signal's number if a rank was killed; 2 for wrong use.
)";

// The command line from left to right, up to the program.
class Arguments {
 public:
  explicit Arguments(std::span<char*> words) : words_(words) {}

  // The next option's name, without a "=VALUE"; nullopt before the program.
  std::optional<std::string> next_option() {
    if (words_.empty()) return std::nullopt;
    std::string_view word = words_.front();
    if (word.size() < 2 || word[0] != '-') return std::nullopt;
    words_ = words_.subspan(1);
    if (word == "--") return std::nullopt;
    option_ = word;
    value_.reset();
    const bool is_long = word.starts_with("--");
    if (const auto equals = word.find('='); is_long && equals != std::string_view::npos) {
      option_ = word.substr(0, equals);
      value_ = word.substr(equals + 1);
    } else if (!is_long && word.size() > 2) {  // -n4
      option_ = word.substr(0, 2);
      value_ = word.substr(2);
    }
    return option_;
  }

  std::string value() {
    if (auto joined = std::exchange(value_, std::nullopt)) return *std::move(joined);
    if (words_.empty()) throw UsageError(option_ + " needs a value");
    std::string word = words_.front();
    words_ = words_.subspan(1);
    return word;
  }

  void no_value() const {
    if (value_) throw UsageError(option_ + " takes no value");
  }

  std::vector<std::string> rest() const { return {words_.begin(), words_.end()}; }

 private:
  std::span<char*> words_;
  std::string option_;
  std::optional<std::string> value_;
};

int rank_count(const std::string& text) {
  int count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1)
    throw UsageError(fmt::format("-n {}: the number of ranks must be a whole number from 1 on", text));
  return count;
}

double seconds(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value) || value <= 0 || value > 1e9)
    throw UsageError(fmt::format("--timeout {}: must be a number of seconds above 0", text));
  return value;
}

Binding binding(const std::string& text) {
  if (text == "none") return Binding::none;
  if (text == "core") return Binding::core;
  throw UsageError(fmt::format("--bind {}: say none or core", text));
}

Input input(const std::string& text) {
  if (text == "none") return Input::none;
  if (text == "first") return Input::first;
  if (text == "all") return Input::all;
  throw UsageError(fmt::format("--stdin {}: say none, first or all", text));
}

std::string variable(std::string text) {
  const auto name = text.substr(0, text.find('='));
  if (name.empty()) throw UsageError(fmt::format("-x {}: must be NAME or NAME=VALUE", text));
  if (name == text && std::getenv(name.c_str()) == nullptr)
    throw UsageError(fmt::format("-x {}: is not set; say {}=VALUE", name, name));
  return text;
}

struct Parsed {
  RunOptions options;
  bool wants_help = false;
};

Parsed parse(std::span<char*> words) {
  Parsed parsed;
  RunOptions& options = parsed.options;
  Arguments arguments(words);
  while (const auto option = arguments.next_option()) {
    const std::string& name = *option;
    const auto flag = [&](bool& target) {
      arguments.no_value();
      target = true;
    };
    if (name == "-n" || name == "-np" || name == "--ranks") {
      options.ranks = rank_count(arguments.value());
    } else if (name == "--mpi") {
      options.mpi = mpi_kind_of(arguments.value());
    } else if (name == "--tag-output" || name == "--prefix") {
      flag(options.tag_output);
    } else if (name == "-x" || name == "--env") {
      options.variables.push_back(variable(arguments.value()));
    } else if (name == "--bind") {
      options.bind = binding(arguments.value());
    } else if (name == "--stdin") {
      options.input = input(arguments.value());
    } else if (name == "--hosts") {
      options.hosts = arguments.value();
    } else if (name == "--hostfile") {
      options.hostfile = arguments.value();
    } else if (name == "--timeout") {
      options.timeout_s = seconds(arguments.value());
    } else if (name == "--force") {
      flag(options.force);
    } else if (name == "--dry-run") {
      flag(options.dry_run);
    } else if (name == "-v" || name == "--verbose") {
      flag(options.verbose);
    } else if (name == "-h" || name == "--help") {
      flag(parsed.wants_help);
    } else {
      throw UsageError(fmt::format("there is no option {}; manyhands run --help lists them", name));
    }
  }
  options.program = arguments.rest();
  return parsed;
}

int run(std::span<char*> arguments) {
  const auto [options, wants_help] = parse(arguments);
  if (wants_help) {
    std::fputs(help, stdout);
    return 0;
  }
  if (options.program.empty()) throw UsageError("no program is given: manyhands run -n 4 ./program");
  const LaunchPlan plan = plan_launch(options, survey());
  for (const auto& note : plan.notes) std::fprintf(stderr, "manyhands run: %s\n", note.c_str());
  if (options.dry_run) {
    std::printf("%s\n", to_string(plan).c_str());
    return 0;
  }
  if (options.verbose)
    std::fprintf(stderr, "manyhands run: %s: %s\n", std::string(name_of(plan.mpi)).c_str(),
                 to_string(plan).c_str());
  return run_job(plan, options);
}

}  // namespace

int run_command(std::span<char*> arguments) {
  try {
    return run(arguments);
  } catch (const UsageError& error) {
    std::fprintf(stderr, "manyhands run: %s\n", error.what());
    return 2;
  } catch (const Error& error) {
    std::fprintf(stderr, "manyhands run: %s\n", error.what());
    return 1;
  }
}

}  // namespace manyhands::cli
