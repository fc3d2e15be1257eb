#pragma once
// Event: a flag that processes wait for.
//
//   mh::Event ready;
//   mh::Process p{[](const mh::Event& ready) { ready.wait(); ... }, ready};
//   ready.set();
//
// A set() releases all that wait at that moment, even if clear() follows at once: a waiter that has to be
// woken first still returns true. (Python's returns False then.)
//
// Copies refer to the same event, also in other processes. All operations are const. Any process, any thread;
// the death of one that waits or sets stops nobody else.

#include <cstdint>
#include <source_location>
#include <utility>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/futex.hpp"
#include "manyhands/shm/schedule.hpp"

namespace manyhands {

class Event {
 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::event;
  using Where = std::source_location;

  // Not set. Throws ResourceExhausted.
  Event() : Event(shm::Block::create(sizeof(shm::FutexWord), block_kind)) {}
  explicit Event(shm::BlockPtr block) noexcept
      : block_(std::move(block)), word_(&shm::at<shm::FutexWord>(block_->offset())) {}
  Event(const Event&) = default;  // a moved-from handle stays good
  Event& operator=(const Event&) = default;

  // What was done before set() is seen by those that it releases. Neither blocks.
  void set(const Where& where = Where::current()) const;
  void clear(const Where& where = Where::current()) const;

  // Whether it is set; if so, what was done before set() is seen.
  bool is_set(const Where& where = Where::current()) const;

  // Blocks until it is set, at most `timeout` (0: looks once). Returns whether it was set. Without a timeout:
  // throws Error once nobody is left who could set it (shm/company.hpp).
  bool wait(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) const;

  const shm::BlockPtr& block() const noexcept { return block_; }
  friend bool operator==(const Event& a, const Event& b) noexcept { return a.word_ == b.word_; }

 private:
  // [ how often it became set : 30 ][ somebody may sleep on it : 1 ][ set : 1 ]
  static constexpr std::uint32_t is_on = 1;
  static constexpr std::uint32_t waiters = 2;
  static constexpr std::uint32_t round = 4;

  struct Wait {
    const shm::FutexWord* word;
    std::uint32_t begun;  // the word when the wait began
  };
  static bool is_over(const Wait& wait) noexcept;
  bool wait_slowly(const Wait& wait, TimeLimit timeout, shm::Site site) const;

  shm::BlockPtr block_;
  shm::FutexWord* word_;  // in this process; valid while block_ is held
};

}  // namespace manyhands
