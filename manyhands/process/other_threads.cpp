#include "manyhands/process/other_threads.hpp"

#include <fmt/core.h>
#include <link.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "manyhands/base/own_thread.hpp"
#include "manyhands/base/streams.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::process {
namespace {

// Libraries whose threads run as soon as they are loaded, or from the first call on; and how to have none.
constexpr std::array<std::pair<std::string_view, const char*>, 5> starters{{
    {"libopenblas", "OPENBLAS_NUM_THREADS=1"},
    {"libmkl", "MKL_NUM_THREADS=1"},
    {"libblis", "BLIS_NUM_THREADS=1"},
    {"libgomp", "OMP_NUM_THREADS=1"},
    {"libomp", "OMP_NUM_THREADS=1"},
}};

struct Suspect {
  std::string library;  // its file's name; empty if none is loaded
  const char* remedy = nullptr;
};

int look_for_starter(dl_phdr_info* info, std::size_t, void* result) {
  const std::string_view path = info->dlpi_name != nullptr ? info->dlpi_name : "";
  const std::string_view name = path.substr(path.rfind('/') + 1);
  for (const auto& [prefix, remedy] : starters) {
    if (!name.starts_with(prefix)) continue;
    *static_cast<Suspect*>(result) = {std::string(name), remedy};
    return 1;
  }
  return 0;
}

// Has the fork handlers of all libraries run.
void fork_for_nothing() {
  flush_streams();
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  if (pid > 0) {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    shm::sweep(pid);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

int threads_that_forbid_fork() {
  if (foreign_threads() == 0) return 0;
  fork_for_nothing();
  return foreign_threads();
}

std::string describe_other_threads(int count) {
  std::string text = fmt::format("{} other thread{} run{} in this process", count, count == 1 ? "" : "s",
                                 count == 1 ? "s" : "");
  Suspect suspect;
  ::dl_iterate_phdr(look_for_starter, &suspect);
  if (!suspect.library.empty()) {
    text += fmt::format(
        " ({} is loaded, which starts threads of its own; with {} in the environment it does not)",
        suspect.library, suspect.remedy);
  }
  return text;
}

}  // namespace manyhands::process
