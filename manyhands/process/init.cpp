#include "manyhands/process/init.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "manyhands/process/process_record.hpp"
#include "manyhands/process/worker.hpp"
#include "manyhands/process/zygote.hpp"
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

// A descriptor that was inherited on purpose; ends the program if it is none: someone typed the argument.
UniqueFd inherited(std::uint64_t number, const char* argument) {
  if (::fcntl(static_cast<int>(number), F_SETFD, FD_CLOEXEC) == 0) return UniqueFd(static_cast<int>(number));
  std::fprintf(stderr, "manyhands: %s is for processes that manyhands starts itself\n", argument);
  std::exit(2);
}

[[noreturn]] void become_worker(const std::uint64_t (&numbers)[4]) {
  UniqueFd board = inherited(numbers[0], process::worker_argument);
  UniqueFd supervisor = inherited(numbers[1], process::worker_argument);
  process::adopt_zygote_door(inherited(numbers[2], process::worker_argument));
  process::run_worker(
      shm::Segment::attach(std::move(board)),
      {.worker = static_cast<std::uint32_t>(numbers[3]), .supervisor_fd = supervisor.release()});
}

[[noreturn]] void become_process(const std::uint64_t (&numbers)[2]) {
  process::adopt_zygote_door(inherited(numbers[1], process::process_argument));
  shm::ensure_heap();
  if (!shm::is_block(numbers[0], shm::BlockKind::process)) {
    std::fprintf(stderr, "manyhands: %s is for processes that manyhands starts itself\n",
                 process::process_argument);
    std::exit(2);
  }
  process::run_process(numbers[0]);
}

}  // namespace

void init(int argc, char** argv, const InitOptions& options) {
  std::uint64_t worker[4] = {};
  std::uint64_t process[2] = {};
  if (argc == 2 && parse_argument(argv[1], process::worker_argument, worker)) become_worker(worker);
  if (argc == 2 && parse_argument(argv[1], process::process_argument, process)) become_process(process);
  process::set_on_interrupt(options.on_interrupt);
  process::ensure_zygote();
  shm::name_this_process("main");
  called.store(true);
}

bool process::initialized() noexcept { return called.load(); }

}  // namespace manyhands
