#pragma once
// Semaphore and BoundedSemaphore: permits that processes take and give back.
//
//   mh::Semaphore downloads(4);
//   // At most four at once:
//   mh::Process p{[](const mh::Semaphore& permits) { std::scoped_lock guard(permits); ... }, downloads};
//
// Any process may give a permit, also one that took none. So nobody knows who has permits, and a process that
// ends with one does not give it back: where that matters, use a Lock or a time limit. A process that is
// killed while it waits takes nothing with it. Once no other process or thread is left that could give a
// permit, waiting for one is an Error.
//
// Copies refer to the same semaphore, also in other processes. All operations are const. Any process, any
// thread. Costs one compare-and-swap each way while nobody waits. Not fair: who comes first may overtake.

#include <chrono>
#include <cstdint>
#include <source_location>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/futex.hpp"
#include "manyhands/shm/schedule.hpp"

namespace manyhands {

namespace shm {

struct SemaphoreState {
  static constexpr std::uint32_t waiters = std::uint32_t{1} << 31;
  static constexpr std::uint32_t permits = waiters - 1;

  FutexWord word;      // [ somebody may sleep on it : 1 ][ permits : 31 ]
  std::uint32_t most;  // permits that it can have; constant
};

}  // namespace shm

class Semaphore {
 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::semaphore;
  static constexpr std::int64_t max() noexcept { return shm::SemaphoreState::permits; }
  using Where = std::source_location;

  // Throws Error if `permits` is negative or above max(), ResourceExhausted.
  explicit Semaphore(std::int64_t permits = 1) : Semaphore(permits, max()) {}
  explicit Semaphore(shm::BlockPtr block) noexcept
      : block_(std::move(block)), state_(&shm::at<shm::SemaphoreState>(block_->offset())) {}
  Semaphore(const Semaphore&) = default;  // a moved-from handle stays good
  Semaphore& operator=(const Semaphore&) = default;

  // Takes a permit; blocks until there is one, at most `timeout` (0: tries once). Returns whether it got one.
  // Without a timeout: throws Error once nobody is left who could give one (shm/company.hpp).
  bool acquire(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) const {
    if (shm::detail::watch.load(std::memory_order_relaxed) == 0 && take(0)) [[likely]]
      return true;
    return acquire_slowly(timeout, where);
  }
  [[nodiscard]] bool try_acquire(const Where& where = Where::current()) const {
    return acquire(Duration(0), where);
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period>& timeout,
                                     const Where& where = Where::current()) const {
    return acquire(std::chrono::ceil<Duration>(timeout), where);
  }

  // Gives `permits` and wakes as many that wait. Throws Error, giving none, if `permits` is negative, or more
  // than what fits: max(), or for a BoundedSemaphore its start value. Does not block.
  void release(std::int64_t permits = 1, const Where& where = Where::current()) const;

  // Permits at this moment.
  std::int64_t value(const Where& where = Where::current()) const {
    shm::point(shm::OpKind::load, block_->offset(), where);
    return state_->word.load(std::memory_order_relaxed) & shm::SemaphoreState::permits;
  }

  // For std::scoped_lock and std::unique_lock.
  void lock() const { acquire(); }
  [[nodiscard]] bool try_lock() const { return try_acquire(); }
  void unlock() const { release(); }

  const shm::BlockPtr& block() const noexcept { return block_; }
  friend bool operator==(const Semaphore& a, const Semaphore& b) noexcept { return a.state_ == b.state_; }

 protected:
  Semaphore(std::int64_t permits, std::int64_t most);

 private:
  // `flag` is SemaphoreState::waiters or 0: set together with it.
  bool take(std::uint32_t flag) const noexcept {
    std::uint32_t word = state_->word.load(std::memory_order_relaxed);
    while ((word & shm::SemaphoreState::permits) != 0) {
      // acquire: pairs with release(); what was done before a permit was given is seen
      if (state_->word.compare_exchange_weak(word, (word - 1) | flag, std::memory_order_acquire,
                                             std::memory_order_relaxed))
        return true;
    }
    return false;
  }
  bool acquire_slowly(TimeLimit timeout, const Where& where) const;
  bool acquire_asleep(const Deadline& deadline, shm::Site site) const;

  shm::BlockPtr block_;
  shm::SemaphoreState* state_;  // in this process; valid while block_ is held
};

// Never has more permits than at its start: a release() too many throws Error.
class BoundedSemaphore : public Semaphore {
 public:
  // Throws Error if `permits` is negative or above max(), ResourceExhausted.
  explicit BoundedSemaphore(std::int64_t permits = 1) : Semaphore(permits, permits) {}
  explicit BoundedSemaphore(shm::BlockPtr block) noexcept : Semaphore(std::move(block)) {}
};

}  // namespace manyhands
