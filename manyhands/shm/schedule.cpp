#include "manyhands/shm/schedule.hpp"

#include <fmt/core.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>

#include "manyhands/base/clock.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/race.hpp"

namespace manyhands::shm {
namespace {

// Of this process. Written before main() and in a forked child, before other threads are there.
std::uint64_t process_seed = 0;
std::atomic<std::uint64_t> forks{0};            // children of this process so far
std::atomic<std::uint64_t> threads_drawing{0};  // threads of this process that drew so far

std::uint64_t mix(std::uint64_t z) noexcept {  // splitmix64
  z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9;
  z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11eb;
  return z ^ (z >> 31);
}

constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;

constinit thread_local std::uint64_t stream = 0;  // 0: has not drawn yet

// Each thread draws from a stream of its own. It depends on the seed, on which child of its parent the
// process is, and so on up to the first one, and on how many threads of the process drew before it; not on
// pids.
std::uint64_t draw() noexcept {
  if (stream == 0) stream = mix(process_seed + golden * (1 + threads_drawing.fetch_add(1))) | 1;
  return mix(stream += golden);
}

void start_streams_of_child() noexcept {
  process_seed = mix(process_seed ^ (golden * forks.load()));
  forks.store(0);
  threads_drawing.store(0);
  stream = 0;
}

void pause_us(std::uint64_t us) noexcept {
  timespec time{0, static_cast<long>(us * 1000)};
  ::nanosleep(&time, nullptr);
}

}  // namespace

const char* name_of(OpKind kind) noexcept {
  static constexpr const char* names[] = {"load", "store", "update", "acquire", "release", "set",
                                          "wait", "put",   "get",    "start",   "join",    "sleep"};
  return names[static_cast<std::size_t>(kind)];
}

void sleep_until_ns(std::int64_t until_ns) noexcept {
  const timespec until{until_ns / 1'000'000'000, until_ns % 1'000'000'000};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

// Of ten points, six go straight on, three yield, and one sleeps up to a millisecond.
void detail::slow_point(const Operation&) noexcept {
  if ((watch.load(std::memory_order_relaxed) & watch_chaos) == 0) return;
  const std::uint64_t choice = draw();
  switch (choice % 10) {
    case 0:
      pause_us((choice >> 8) % 1000);
      break;
    case 1:
    case 2:
    case 3:
      ::sched_yield();
      break;
    default:
      break;
  }
}

void read_schedule_variables() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (const char* race = ::getenv("MANYHANDS_RACE");
        race != nullptr && std::strcmp(race, "0") != 0 && *race != '\0')
      race::watch();
    const char* text = ::getenv("MANYHANDS_SCHED");
    if (text == nullptr || *text == '\0') return;
    const std::string_view value = text;
    constexpr std::string_view name = "chaos:";
    if (value == "chaos") {
      process_seed =
          mix(static_cast<std::uint64_t>(now_ns()) ^ static_cast<std::uint64_t>(::getpid()) << 40) %
          1'000'000;
      // For programs that this one starts by exec.
      ::setenv("MANYHANDS_SCHED", fmt::format("chaos:{}", process_seed).c_str(), 1);
    } else {
      const char* const end = value.data() + value.size();
      const auto [stop, error] = value.starts_with(name)
                                     ? std::from_chars(value.data() + name.size(), end, process_seed)
                                     : std::from_chars_result{value.data(), std::errc::invalid_argument};
      if (error != std::errc{} || stop != end) {
        throw Error(fmt::format(
            "MANYHANDS_SCHED is '{}'; it must be chaos:SEED with a number, as in chaos:42, or chaos", value));
      }
    }
    // A process that this program started by exec has its heap, and does not say it again.
    if (::getenv(heap_variable) == nullptr) {
      std::fprintf(
          stderr,
          "manyhands: MANYHANDS_SCHED=chaos:%llu delays this program's processes at random; the same "
          "seed delays them at the same points\n",
          static_cast<unsigned long long>(process_seed));
    }
    ::pthread_atfork([] { forks.fetch_add(1); }, nullptr, start_streams_of_child);
    detail::watch.fetch_or(detail::watch_chaos);
  });
}

namespace {

// Before main(), so that no primitive is used before it is known what is switched on. Whoever uses one links
// this file.
[[maybe_unused]] const bool have_read_variables = [] {
  try {
    read_schedule_variables();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "manyhands: %s\n", error.what());
    ::_exit(2);
  }
  return true;
}();

}  // namespace

}  // namespace manyhands::shm
