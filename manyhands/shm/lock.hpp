#pragma once
// Lock and RLock: mutual exclusion between all threads of all processes of a program.
//
//   mh::Lock lock;                                  // or lock{{.name = "accounts"}}
//   mh::Process p{[](const mh::Lock& lock) { std::scoped_lock guard(lock); ... }, lock};
//
// Like Python's, and unlike a mutex, a Lock may be released by another thread or process than took it; but a
// circle of waits counts as a deadlock whoever else might have released a lock of it. It knows its holder,
// and where in the source it was taken. A holder that ends without releasing it is found out within 100 ms of
// waiting (LockAbandoned, or see WhenAbandoned). Threads that wait for each other in a circle get, exactly
// one of them, a DeadlockError that names all of them; a thread that would wait for itself gets one at once.
// After 5 s of waiting a line on stderr says for whom (MANYHANDS_LOCK_WARN=seconds, 0: never).
//
// Copies refer to the same lock, also in other processes. All operations are const, so that lambdas that
// captured a copy need not be mutable. Any process, any thread.
//
// A free lock costs one compare-and-swap and one exchange on a futex word. Waiters spin shortly, then sleep
// in slices of at most 50 ms, so that neither the death of a holder nor that of a waiter that was just woken
// stops the others. Source: U. Drepper, "Futexes Are Tricky" (2011), mutex 2.

#include <time.h>

#include <chrono>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/lock_errors.hpp"
#include "manyhands/shm/lock_state.hpp"
#include "manyhands/shm/schedule.hpp"

namespace manyhands {

struct LockOptions {
  std::string_view name{};  // for messages; shortened to 41 bytes. Default: "Lock 3"
  WhenAbandoned when_abandoned = WhenAbandoned::report;
};

namespace shm {

// What Lock and RLock share.
class AnyLock {
 public:
  static constexpr BlockKind block_kind = BlockKind::lock;
  using Where = std::source_location;

  // Takes the lock if it is free; returns whether. Does not block. Under WhenAbandoned::report a caller that
  // tries again after a millisecond or more and finds the same holder throws LockAbandoned if that has ended,
  // with adopt it gets the lock. (The first try does not look: that would cost it 10 microseconds.)
  [[nodiscard]] bool try_lock(const Where& where = Where::current()) const {
    if (take_free(where)) [[likely]]
      return true;
    return take_slowly(Deadline(Duration(0)), where);
  }

  // Blocks until the lock is taken, at most so long; returns whether it is. A wait with a time limit is never
  // called a deadlock. Throws LockAbandoned.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout,
                                  const Where& where = Where::current()) const {
    return acquire(timeout, where);
  }
  [[nodiscard]] bool try_lock_until(std::chrono::steady_clock::time_point deadline,
                                    const Where& where = Where::current()) const {
    return acquire(TimeLimit::until(deadline), where);
  }

  // Blocks until the lock is taken. Throws LockAbandoned, DeadlockError.
  void lock(const Where& where = Where::current()) const {
    if (!take_free(where)) [[unlikely]]
      take_slowly(Deadline(), where);
  }

  // Python's: as lock(), or try_lock_for() with a timeout; 0 tries once.
  bool acquire(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) const {
    if (take_free(where)) [[likely]]
      return true;
    return take_slowly(Deadline(timeout), where);
  }

  // Whether anybody has it.
  bool locked(const Where& where = Where::current()) const {
    point(OpKind::load, block_->offset(), where);
    return state_->owner() != 0;
  }
  // Whether the calling thread has it.
  bool held_by_this_thread() const noexcept { return state_->owner() == this_thread_token(); }
  // As given, else "Lock 3".
  std::string name() const;

  const BlockPtr& block() const noexcept { return block_; }
  LockState& state() const noexcept { return *state_; }

  // Two handles are equal if they are the same lock.
  friend bool operator==(const AnyLock& a, const AnyLock& b) noexcept { return a.state_ == b.state_; }

  // For guards, in destructors: releases the lock if this thread has it; else says on stderr that somebody
  // released it meanwhile.
  void release_if_held(const Where& where = Where::current()) const noexcept {
    std::uint32_t mine = this_thread_token();
    if (detail::watch.load(std::memory_order_relaxed) != 0 || state_->recursive || state_->owner() != mine)
        [[unlikely]]
      return release_if_held_slowly(where);
    state_->site.store(0, std::memory_order_relaxed);
    // release: as in unlock(). Fails if somebody waits
    if (!state_->word.compare_exchange_strong(mine, 0, std::memory_order_release, std::memory_order_relaxed))
        [[unlikely]]
      release_if_held_slowly(where);
  }

  // For std::lock and std::scoped_lock of several in an explored program: takes all in one step, when all are
  // free. So are the ways in which std::lock can end, without those in which it tries again and again.
  // Requires current_scheduler(). Throws as lock(), and has none then.
  static void take_all_scheduled(std::span<const AnyLock* const> locks, Site site);
  const AnyLock& as_any_lock() const noexcept { return *this; }

  // For Condition: gives the lock up however often this thread has it; take_again() gives that back, and
  // waits without time limit. Throws Error if this thread does not have it.
  std::uint32_t release_all(const Where& where) const;
  void take_again(std::uint32_t depth, const Where& where) const;

 protected:
  AnyLock(const LockOptions& options, bool recursive);
  AnyLock(BlockPtr block, bool recursive);  // throws Error if it is one of the other kind
  AnyLock(const AnyLock&) = default;        // a moved-from handle stays good
  AnyLock& operator=(const AnyLock&) = default;
  ~AnyLock() = default;

  void release_slowly(const Where& where) const;
  void release_if_held_slowly(const Where& where) const noexcept;
  void after_release(std::uint32_t before) const;  // wakes a waiter; throws Error if the lock was free

  // The time as notes have it: some milliseconds old, and five times as cheap as now_ns().
  static std::int64_t coarse_ns() noexcept {
    timespec t;
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
  }

  bool take_free(const Where& where) const {
    if (detail::watch.load(std::memory_order_relaxed) != 0) [[unlikely]]
      return false;
    std::uint32_t expected = 0;
    // acquire: pairs with the release in unlock(); what the last holder wrote is seen
    if (!state_->word.compare_exchange_strong(expected, this_thread_token(), std::memory_order_acquire,
                                              std::memory_order_relaxed)) [[unlikely]]
      return false;
    state_->since_ns.store(coarse_ns(), std::memory_order_relaxed);
    state_->site.store(intern(where), std::memory_order_relaxed);
    return true;
  }

  BlockPtr block_;
  LockState* state_ = nullptr;  // in this process; valid while block_ is held

 private:
  bool take_slowly(const Deadline& deadline, const Where& where) const;
  bool take_scheduled(Scheduler& scheduler, const Deadline& deadline, Site site) const;
  bool take_if_free_or_ended(const Deadline& deadline, Site site) const;
  bool take_contended(const Deadline& deadline, Site site) const;
  bool take_asleep(const Deadline& deadline, Site site) const;
  bool take_again_if_mine(const Deadline& deadline, Site site) const;
  bool take_if_abandoned_for_long(Site site) const;
  bool take_from_ended(std::uint32_t seen, Site site) const;
  void forget_user() const noexcept;
  void give_back() const noexcept;
  bool try_take(std::uint32_t flag, Site site) const noexcept;
};

}  // namespace shm

// Not recursive: a second lock() by the thread that has it throws DeadlockError.
class Lock : public shm::AnyLock {
 public:
  Lock() : Lock(LockOptions{}) {}
  // Throws ResourceExhausted.
  explicit Lock(const LockOptions& options) : AnyLock(options, false) {}
  explicit Lock(shm::BlockPtr block) : AnyLock(std::move(block), false) {}

  // Any thread of any process may release it. Throws Error if the lock is free. Does not block.
  void unlock(const Where& where = Where::current()) const {
    if (shm::detail::watch.load(std::memory_order_relaxed) != 0) [[unlikely]]
      return release_slowly(where);
    state_->site.store(0, std::memory_order_relaxed);
    // release: what was written under the lock is seen by the next holder
    const std::uint32_t before = state_->word.exchange(0, std::memory_order_release);
    if (before == 0 || (before & shm::LockState::waiters) != 0) [[unlikely]]
      after_release(before);
  }
  void release(const Where& where = Where::current()) const { unlock(where); }
};

// Recursive: the thread that has it may take it again, and has to release it as often.
class RLock : public shm::AnyLock {
 public:
  RLock() : RLock(LockOptions{}) {}
  // Throws ResourceExhausted.
  explicit RLock(const LockOptions& options) : AnyLock(options, true) {}
  explicit RLock(shm::BlockPtr block) : AnyLock(std::move(block), true) {}

  // Only by the thread that has it, or by any once that has ended; throws Error elsewhere. Does not block.
  void unlock(const Where& where = Where::current()) const { release_slowly(where); }
  void release(const Where& where = Where::current()) const { unlock(where); }
};

}  // namespace manyhands

#include "manyhands/shm/lock_guards.hpp"
