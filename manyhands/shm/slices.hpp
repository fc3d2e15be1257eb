#pragma once
// How Semaphore, Event, Condition and Barrier wait: they spin shortly, then sleep in slices.
//
// A wake-up can be lost with a process that was killed before it passed it on, so nobody sleeps longer than a
// slice without looking at the state itself. Any thread.

#include <algorithm>
#include <chrono>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/futex.hpp"

namespace manyhands::shm {

inline constexpr Duration slice = std::chrono::milliseconds(50);

// How often to look before the first sleep: for about as long as a sleep and a wake-up cost on one core. 0 if
// this process has one core only, where nothing changes while it spins.
int spins_before_sleep() noexcept;

// Looks at `condition` for a short time; returns whether it held. Not under a scheduler.
template <class Condition>
bool spin_until(Condition condition) {
  for (int left = spins_before_sleep(); left > 0; --left) {
    if (condition()) return true;
    cpu_relax();
  }
  return false;
}

// Sleeps while `word` holds `seen`, until a wake-up, the end of the slice or the deadline.
inline void sleep_slice(FutexWord& word, std::uint32_t seen, const Deadline& deadline) noexcept {
  futex_wait(word, seen, Deadline(std::min(slice, deadline.left())));
}

// Python's way to say how long: negative counts as 0, Deadline::never is for ever.
inline Deadline deadline_after(Duration timeout) noexcept {
  return timeout == Deadline::never ? Deadline() : Deadline(std::max(timeout, Duration(0)));
}

}  // namespace manyhands::shm
