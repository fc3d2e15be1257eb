#include "manyhands/shm/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

namespace manyhands::shm {

WakeReason futex_wait(FutexWord& word, std::uint32_t expected, const Deadline& deadline) noexcept {
  timespec bound;
  timespec* timeout = nullptr;
  if (deadline.bounded()) {
    const auto left = deadline.left().count();
    bound = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
    timeout = &bound;
  }
  if (::syscall(SYS_futex, &word, FUTEX_WAIT, expected, timeout, nullptr, 0) == 0) return WakeReason::woken;
  if (errno == ETIMEDOUT) return WakeReason::timed_out;
  return errno == EINTR ? WakeReason::interrupted : WakeReason::woken;
}

int futex_wake(FutexWord& word, int count) noexcept {
  return static_cast<int>(::syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0));
}

int futex_wake_all(FutexWord& word) noexcept { return futex_wake(word, INT_MAX); }

}  // namespace manyhands::shm
