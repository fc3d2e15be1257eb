// The command `manyhands`. Exit status: 0, 1 if it failed, 2 if it was called wrongly.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "manyhands/cli/locks.hpp"
#include "manyhands/cli/rank.hpp"
#include "manyhands/cli/run.hpp"

#ifndef MANYHANDS_VERSION
#define MANYHANDS_VERSION "0.1.0"
#endif

namespace {

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw std::runtime_error("standard output cannot be written to");
}

// As a program may expect that it finds itself: 0, 1 and 2 are open, so that no socket or pipe of ours takes
// their place, and children can be waited for. Who starts us may have it otherwise, and exec hands that on.
void put_surroundings_right() {
  for (int descriptor = ::open("/dev/null", O_RDWR); descriptor >= 0; descriptor = ::dup(descriptor)) {
    if (descriptor > STDERR_FILENO) {
      ::close(descriptor);
      break;
    }
  }
  ::signal(SIGCHLD, SIG_DFL);
}

int run(int argc, char** argv) {
  // These two take what follows as it is: it is another program's command line.
  const std::span<char*> words(argv, static_cast<std::size_t>(argc));
  const std::string_view command = words.size() > 1 ? words[1] : "";
  if (command == "run") return manyhands::cli::run_command(words.subspan(2));
  if (command == manyhands::cli::rank_command) return manyhands::cli::run_rank(words.subspan(2));

  CLI::App app{"manyhands: parallel computing in C++, as easy as Python made it", "manyhands"};
  app.set_version_flag("--version", std::string("manyhands " MANYHANDS_VERSION));
  app.require_subcommand(1);

  int pid = 0;
  bool as_json = false;
  auto* locks = app.add_subcommand("locks", "show who holds and who awaits the locks of a running program");
  locks->add_option("PID", pid, "any process of the program")->required()->check(CLI::Range(1, 1 << 22));
  locks->add_flag("--json", as_json, "write JSON");

  app.add_subcommand("run", manyhands::cli::run_summary);  // for the help; see above

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (locks->parsed()) {
    const auto report = manyhands::cli::locks_of(pid);
    print(as_json ? manyhands::cli::to_json(report) + "\n" : manyhands::to_string(report));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  put_surroundings_right();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "manyhands: %s\n", error.what());
    return 1;
  }
}
