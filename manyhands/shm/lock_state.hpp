#pragma once
// LockState: the bytes of a Lock or RLock in the shared heap, also at the start of a Value's block, for
// lock.cpp, lock_graph.cpp and readers of another program's heap.

#include <array>
#include <atomic>
#include <cstdint>

#include "manyhands/shm/futex.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands {

// What becomes of a lock whose holder ended without releasing it.
enum class WhenAbandoned : std::uint8_t {
  report,  // the next taker gets LockAbandoned, and the lock is free for the ones after it
  wait,    // takers wait until somebody calls release()
  adopt,   // the next taker gets the lock, without a word
};

namespace shm {

// One cache line. `word` is the lock; `site` and `since_ns` are notes about who has it, for reports only.
struct LockState {
  static constexpr std::uint32_t waiters = std::uint32_t{1} << 31;
  static constexpr std::uint32_t owner_mask = waiters - 1;

  FutexWord word;                      // [ somebody may sleep on it : 1 ][ owner's ThreadToken : 31 ]
  std::atomic<Site> site;              // where the owner took it; cleared before it is given up
  std::atomic<std::int64_t> since_ns;  // when; CLOCK_MONOTONIC_COARSE, some milliseconds behind now_ns()
  std::atomic<std::uint32_t> depth;    // RLock: how often the owner has it; written by the owner
  bool recursive;                      // constant, as the rest
  WhenAbandoned when_abandoned;
  std::array<char, 42> name;  // zero-terminated; empty: "Lock 3"

  // A Value changes when_abandoned of its own lock while that is held; others read it only through this.
  WhenAbandoned policy() const noexcept {
    return std::atomic_ref(const_cast<WhenAbandoned&>(when_abandoned)).load(std::memory_order_relaxed);
  }
  ThreadToken owner(std::memory_order order = std::memory_order_relaxed) const noexcept {
    return word.load(order) & owner_mask;
  }
};
static_assert(sizeof(LockState) == 64);

}  // namespace shm
}  // namespace manyhands
