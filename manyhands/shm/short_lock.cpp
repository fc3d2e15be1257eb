#include "manyhands/shm/short_lock.hpp"

#include "manyhands/base/cores.hpp"

namespace manyhands::shm {

bool ShortLock::wait(ThreadToken me, const Deadline& deadline) noexcept {
  static const int spins = cpu_count() > 1 ? 200 : 0;
  for (int i = 0; i < spins; ++i) {
    std::uint32_t free = 0;
    if (word_.load(std::memory_order_relaxed) == 0 &&
        word_.compare_exchange_weak(free, me, std::memory_order_acquire))
      return true;
    cpu_relax();
  }
  for (;;) {
    std::uint32_t now = word_.load(std::memory_order_relaxed);
    if ((now & ~waiters) == 0) {
      // Others may sleep, too: whoever slept once says so when it unlocks.
      if (word_.compare_exchange_weak(now, me | waiters, std::memory_order_acquire)) return true;
      continue;
    }
    if (deadline.passed()) return false;
    if ((now & waiters) == 0 && !word_.compare_exchange_weak(now, now | waiters, std::memory_order_relaxed))
      continue;
    now |= waiters;
    if (futex_wait(word_, now, Deadline(std::chrono::milliseconds(5))) != WakeReason::timed_out) continue;
    // Five milliseconds are for ever here. The owner's slot in the table tells whether it was killed.
    if (!is_alive(now & ~waiters) &&
        word_.compare_exchange_strong(now, me | waiters, std::memory_order_acquire))
      return true;
  }
}

}  // namespace manyhands::shm
