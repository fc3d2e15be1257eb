#include "manyhands/process/init.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "manyhands/process/worker.hpp"
#include "manyhands/process/zygote.hpp"

namespace manyhands {
namespace {

std::atomic<bool> called{false};  // of this program, which has one main

// The numbers of "--manyhands-worker=BOARD,SUPERVISOR,DOOR,NUMBER"; false if it is something else.
bool parse_worker_argument(std::string_view argument, int (&numbers)[4]) {
  const std::string_view name = process::worker_argument;
  if (!argument.starts_with(name)) return false;
  const char* at = argument.data() + name.size();
  const char* const end = argument.data() + argument.size();
  for (int i = 0; i < 4; ++i) {
    const auto [next, error] = std::from_chars(at, end, numbers[i]);
    if (error != std::errc{} || (i < 3 ? next == end || *next != ',' : next != end)) return false;
    at = next + 1;
  }
  return true;
}

[[noreturn]] void become_worker(const int (&numbers)[4]) {
  for (int i = 0; i < 3; ++i) {
    if (::fcntl(numbers[i], F_SETFD, FD_CLOEXEC) == 0) continue;
    std::fprintf(stderr, "manyhands: %s is for worker processes that manyhands starts itself\n",
                 process::worker_argument);
    std::exit(2);
  }
  process::adopt_zygote_door(UniqueFd(numbers[2]));
  process::run_worker(shm::Segment::attach(UniqueFd(numbers[0])),
                      {.worker = static_cast<std::uint32_t>(numbers[3]), .supervisor_fd = numbers[1]});
}

}  // namespace

void init(int argc, char** argv, const InitOptions& options) {
  int numbers[4] = {};
  if (argc == 2 && parse_worker_argument(argv[1], numbers)) become_worker(numbers);
  process::set_on_interrupt(options.on_interrupt);
  process::ensure_zygote();
  called.store(true);
}

bool process::initialized() noexcept { return called.load(); }

}  // namespace manyhands
