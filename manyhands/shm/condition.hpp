#pragma once
// Condition: processes that have a lock wait until another one says that what the lock guards has changed.
//
//   mh::Condition changed;                                     // with a Lock of its own
//   mh::Value<double> balance(0.0);
//   const auto withdraw = [](const mh::Condition& changed, const mh::Value<double>& balance) {
//     std::scoped_lock guard(changed);
//     changed.wait_for([&] { return balance >= 10; });
//     balance -= 10;
//   };
//   mh::Process p{withdraw, changed, balance};
//   { std::scoped_lock guard(changed); balance += 10; changed.notify(); }
//
// notify(n) is for those that wait at that moment, the longest waiting first; wait() returns true for nothing
// else: there are no spurious wake-ups. One that is killed takes no notification with it: while it waited or
// was about to go on, another one that waited at the time of the notify() gets it, 50 to 100 ms later. A
// timeout and a notification that come together count as a notification.
//
// Copies refer to the same condition and lock, also in other processes. All operations are const. Any
// process, any thread.
//
// Layout: a waiter has an entry in the Condition's block (Waiter, in condition.cpp) and sleeps on it.

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <utility>
#include <variant>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/lock.hpp"

namespace manyhands {

class Condition {
 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::condition;
  static constexpr std::size_t all = SIZE_MAX;
  using Where = std::source_location;

  // Throws ResourceExhausted.
  Condition() : Condition(Lock()) {}
  // Over a lock that also guards other things. (Not over a Value's lock().)
  explicit Condition(const Lock& lock);
  explicit Condition(const RLock& lock);
  explicit Condition(shm::BlockPtr block);
  Condition(const Condition&) = default;  // a moved-from handle stays good
  Condition& operator=(const Condition&) = default;

  // Gives the lock up, however often this thread has it, blocks until a notify(), at most `timeout`, and
  // takes it again. Returns whether it was notified. Throws Error if this thread does not have the lock.
  // Whatever it throws, this thread has the lock again, with one exception:
  //   LockAbandoned: somebody ended with the lock meanwhile. The lock is taken nevertheless.
  //   DeadlockError: taking it again would close a circle. The lock is not taken.
  //   Error, without a timeout: nobody is left who could notify (shm/company.hpp). The lock is taken.
  // What one who was notified does not use because it throws, another one gets.
  bool wait(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) const;

  // wait()s until predicate() holds; it is called with the lock held. Returns what it said last.
  template <class Predicate>
  bool wait_for(Predicate predicate, TimeLimit timeout = Deadline::never,
                const Where& where = Where::current()) const {
    const Deadline deadline = timeout == Deadline::never ? Deadline() : Deadline(timeout);
    while (!predicate()) {
      if (!wait(deadline.bounded() ? deadline.left() : Deadline::never, where)) return predicate();
    }
    return true;
  }

  // Lets `count` of those that wait go on, as soon as they get the lock. Throws Error if this thread does not
  // have the lock. Does not block.
  void notify(std::size_t count = 1, const Where& where = Where::current()) const;
  void notify_all(const Where& where = Where::current()) const { notify(all, where); }

  // The lock's.
  void lock(const Where& where = Where::current()) const {
    std::visit([&](const auto& lock) { lock.lock(where); }, lock_);
  }
  [[nodiscard]] bool try_lock(const Where& where = Where::current()) const {
    return std::visit([&](const auto& lock) { return lock.try_lock(where); }, lock_);
  }
  bool acquire(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) const {
    return std::visit([&](const auto& lock) { return lock.acquire(timeout, where); }, lock_);
  }
  void unlock(const Where& where = Where::current()) const {
    std::visit([&](const auto& lock) { lock.unlock(where); }, lock_);
  }
  void release(const Where& where = Where::current()) const { unlock(where); }
  void release_if_held(const Where& where = Where::current()) const noexcept {
    any_lock().release_if_held(where);
  }
  const shm::AnyLock& as_any_lock() const noexcept { return any_lock(); }

  const shm::BlockPtr& block() const noexcept { return block_; }
  friend bool operator==(const Condition& a, const Condition& b) noexcept {
    return a.block_->offset() == b.block_->offset();
  }

 private:
  struct State;
  struct Waiter;
  struct Chunk;
  using AnyLock = std::variant<Lock, RLock>;

  Condition(AnyLock lock, shm::BlockPtr block);
  static AnyLock lock_of(const shm::BlockPtr& block);
  static void tidy(shm::Offset payload) noexcept;
  static const bool tidied;

  State& state() const noexcept { return shm::at<State>(block_->offset()); }
  const shm::AnyLock& any_lock() const noexcept {
    if (const auto* simple = std::get_if<Lock>(&lock_)) return *simple;
    return std::get<RLock>(lock_);
  }
  void require_lock(const char* what, const Where& where) const;
  Waiter& enter() const;
  template <class Visit>
  void for_each(Visit visit) const;
  enum class End : std::uint8_t;
  End sleep(Waiter*& mine, const Deadline& deadline, shm::Site site) const;
  bool give_up(Waiter& mine) const noexcept;
  bool take_over(Waiter*& mine) const noexcept;
  void lock_again(std::uint32_t depth, const Where& where) const;

  shm::BlockPtr block_;
  AnyLock lock_;
};

}  // namespace manyhands
