#pragma once
// ShortLock: guards a few instructions on a structure in shared memory, for the structures of manyhands
// themselves.
//
// Unlike mh::Lock it has no policies and no report: its owner never waits for anything, so nobody can wait
// for long; if the owner was killed, the next one takes over. The structure must be whole after every single
// store of its owner.
//
// Any process, any thread; not recursive.

#include "manyhands/shm/futex.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::shm {

class ShortLock {
 public:
  ShortLock() = default;  // free; all zeros, as the heap's blocks are

  void lock() noexcept {
    const ThreadToken me = this_thread_token();
    std::uint32_t free = 0;
    // acquire: what the last owner wrote
    if (!word_.compare_exchange_strong(free, me, std::memory_order_acquire)) static_cast<void>(wait(me, {}));
  }
  // As lock(), at most until `deadline`: the owner may be stopped. Returns whether the lock was taken.
  [[nodiscard]] bool try_lock_until(const Deadline& deadline) noexcept {
    const ThreadToken me = this_thread_token();
    std::uint32_t free = 0;
    return word_.compare_exchange_strong(free, me, std::memory_order_acquire) || wait(me, deadline);
  }
  void unlock() noexcept {
    if ((word_.exchange(0, std::memory_order_release) & waiters) != 0) futex_wake(word_);
  }

 private:
  static constexpr std::uint32_t waiters = std::uint32_t{1} << 31;
  bool wait(ThreadToken me, const Deadline& deadline) noexcept;

  FutexWord word_;  // 0: free; else the owner's token, and `waiters` if somebody may sleep
};

}  // namespace manyhands::shm
