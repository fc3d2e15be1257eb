#include "manyhands/shm/schedule.hpp"

#include <fmt/core.h>
#include <sched.h>
#include <time.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

#include "manyhands/base/clock.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::shm {
namespace {

std::uint64_t chaos_seed = 0;  // written once, before detail::watch says chaos

// Each thread draws from its own stream, which depends on the seed and on the names of process and thread
// alone, as far as the program names them.
std::uint64_t draw() noexcept {  // splitmix64
  static thread_local std::uint64_t state = 0;
  if (state == 0) {
    state = chaos_seed;
    try {
      for (const char c : this_process_name())
        state = (state ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
    } catch (...) {
    }
    state |= 1;
  }
  std::uint64_t z = (state += 0x9e37'79b9'7f4a'7c15);
  z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9;
  z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11eb;
  return z ^ (z >> 31);
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
      detail::watch.fetch_or(detail::watch_race);
    const char* text = ::getenv("MANYHANDS_SCHED");
    if (text == nullptr || *text == '\0') return;
    const std::string_view value = text;
    constexpr std::string_view name = "chaos:";
    const char* const end = value.data() + value.size();
    const auto [stop, error] = value.starts_with(name)
                                   ? std::from_chars(value.data() + name.size(), end, chaos_seed)
                                   : std::from_chars_result{value.data(), std::errc::invalid_argument};
    if (error != std::errc{} || stop != end)
      throw Error(
          fmt::format("MANYHANDS_SCHED is '{}'; it must be chaos:SEED with a number, as in chaos:42", value));
    detail::watch.fetch_or(detail::watch_chaos);
  });
}

}  // namespace manyhands::shm
