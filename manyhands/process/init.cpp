#include "manyhands/process/init.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "manyhands/base/child_process.hpp"
#include "manyhands/process/fresh_start.hpp"
#include "manyhands/process/process_record.hpp"
#include "manyhands/process/worker.hpp"
#include "manyhands/process/zygote.hpp"
#include "manyhands/process/zygote_server.hpp"
#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands {
namespace {

std::atomic<bool> called{false};  // of this program, which has one main

// The numbers of "NAME=N,N,..."; false if it is something else.
template <std::size_t count>
bool parse_argument(std::string_view argument, std::string_view name, std::uint64_t (&numbers)[count]) {
  if (!argument.starts_with(name)) return false;
  const char* at = argument.data() + name.size();
  const char* const end = argument.data() + argument.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto [next, error] = std::from_chars(at, end, numbers[i]);
    if (error != std::errc{} || (i + 1 < count ? next == end || *next != ',' : next != end)) return false;
    at = next + 1;
  }
  return true;
}

// Somebody typed the argument: what it names must not run.
[[noreturn]] void refuse(const char* argument) {
  std::fprintf(stderr, "manyhands: %s is for processes that manyhands starts itself\n", argument);
  std::exit(2);
}

UniqueFd inherited(std::uint64_t number, const char* argument) {
  if (number > INT_MAX || ::fcntl(static_cast<int>(number), F_SETFD, FD_CLOEXEC) != 0) refuse(argument);
  return UniqueFd(static_cast<int>(number));
}

// A child proves itself by what it inherited: words on a command line and files that a shell can open are not
// enough to have a function of the program run, and a program with more rights than its caller never does.
void require_child(std::uint64_t door, const char* argument) {
  if (::getauxval(AT_SECURE) != 0 || door > INT_MAX || !process::is_zygote_door(static_cast<int>(door)) ||
      !shm::adopt_heap())
    refuse(argument);
}

[[noreturn]] void become_worker(const std::uint64_t (&numbers)[4]) {
  require_child(numbers[2], process::worker_argument);
  UniqueFd board = inherited(numbers[0], process::worker_argument);
  if (!shm::is_sealed(board.get())) refuse(process::worker_argument);
  UniqueFd supervisor = inherited(numbers[1], process::worker_argument);
  process::adopt_zygote_door(inherited(numbers[2], process::worker_argument));
  auto segment = shm::Segment::attach(std::move(board));
  if (!process::is_worker_of(segment, numbers[3])) refuse(process::worker_argument);
  process::run_worker(std::move(segment), {.worker = static_cast<std::uint32_t>(numbers[3]),
                                           .supervisor_fd = supervisor.release()});
}

[[noreturn]] void become_process(const std::uint64_t (&numbers)[2]) {
  require_child(numbers[1], process::process_argument);
  process::adopt_zygote_door(inherited(numbers[1], process::process_argument));
  if (!shm::is_block(numbers[0], shm::BlockKind::process)) refuse(process::process_argument);
  process::run_process(numbers[0]);
}

void start(const InitOptions& options) {
  try {
    process::set_on_interrupt(options.on_interrupt);
    process::ensure_zygote();
    shm::name_this_process("main");
  } catch (...) {
    called.store(false);
    throw;
  }
}

[[noreturn]] void become_zygote(const std::uint64_t (&numbers)[6]) {
  require_child(numbers[1], process::zygote_argument);
  process::ZygoteBirth birth;
  birth.door = net::FdChannel(inherited(numbers[0], process::zygote_argument));
  birth.door_for_workers = net::FdChannel(inherited(numbers[1], process::zygote_argument));
  birth.program = inherited(numbers[2], process::zygote_argument);
  birth.program_pid = static_cast<pid_t>(numbers[3]);
  std::memcpy(&birth.program_mask, &numbers[4], sizeof numbers[4]);
  birth.program_sigchld.sa_handler = numbers[5] != 0 ? SIG_IGN : SIG_DFL;
  process::run_zygote(std::move(birth));
}

}  // namespace

void process::become(const char* argument) {
  std::uint64_t worker[4] = {};
  std::uint64_t process[2] = {};
  std::uint64_t zygote[6] = {};
  called.store(true);  // also for what is forked or started from here on
  if (parse_argument(argument, worker_argument, worker))
    run_as_child("a worker", [&] { become_worker(worker); });
  if (parse_argument(argument, process_argument, process))
    run_as_child("a process", [&] { become_process(process); });
  if (is_guest() && parse_argument(argument, zygote_argument, zygote))
    run_as_child("the zygote", [&] { become_zygote(zygote); });
}

void init(int argc, char** argv, const InitOptions& options) {
  process::become(argc == 2 ? argv[1] : "");
  start(options);
}

void init_in_host(const InitOptions& options) {
  process::start_as_guest();
  called.store(true);
  start(options);
}

bool process::initialized() noexcept { return called.load(); }

}  // namespace manyhands
