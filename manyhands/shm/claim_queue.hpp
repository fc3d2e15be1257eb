#pragma once
// ClaimQueue: the order in which queued cells are to be taken; one producer, many consumers, in shared
// memory.
//
// It holds tickets {cell, generation}, not tasks: who takes a task does it by one CAS on the cell itself (the
// caller's matter), so that the death of a consumer at any instant leaves no doubt who owned what. The queue
// only says which cell is next. A ticket whose cell was taken or cancelled in the meantime is stale;
// consumers skip it.
//
// Invariants: tail <= head; head - tail <= capacity; the entry of position p lies at p % capacity.
// A consumer that reads an entry which was overwritten since sees tail move and tries again.

#include <atomic>
#include <cstdint>

namespace manyhands::shm {

struct Ticket {
  std::uint32_t cell;
  std::uint32_t generation;

  friend bool operator==(const Ticket&, const Ticket&) = default;
};

template <std::uint32_t Capacity>
  requires(Capacity > 0 && (Capacity & (Capacity - 1)) == 0)
class ClaimQueue {
 public:
  // Appends a ticket; false, changing nothing, if `Capacity` wait. One producer at a time.
  [[nodiscard]] bool try_push(Ticket ticket) noexcept {
    const auto head = head_.load(std::memory_order_relaxed);  // only the producer writes head_
    if (head - tail_.load(std::memory_order_acquire) == Capacity) return false;
    entries_[head % Capacity].store(pack(ticket), std::memory_order_relaxed);
    head_.store(head + 1,
                std::memory_order_release);  // pairs with claim(): the entry and the cell are visible
    return true;
  }

  // Takes the first ticket for which `take(ticket)` returns true; drops stale ones (false) on the way.
  // Returns false if no ticket is left. Any number of consumers; lock-free. `take` must decide by one atomic
  // step.
  template <class Take>
  bool claim(Take take) noexcept {
    for (;;) {
      auto tail = tail_.load(std::memory_order_acquire);
      if (head_.load(std::memory_order_acquire) == tail) return false;
      // acquire keeps the second look at tail behind this read
      const auto entry = entries_[tail % Capacity].load(std::memory_order_acquire);
      if (tail_.load(std::memory_order_relaxed) != tail) continue;  // the entry may be a later one
      const bool taken = take(unpack(entry));
      // Whoever comes first moves the tail on, for a taken and for a stale ticket: no one waits for a dead
      // consumer.
      tail_.compare_exchange_strong(tail, tail + 1, std::memory_order_acq_rel, std::memory_order_relaxed);
      if (taken) return true;
    }
  }

  bool full() const noexcept {
    return head_.load(std::memory_order_acquire) - tail_.load(std::memory_order_acquire) == Capacity;
  }
  bool empty() const noexcept {
    return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire);
  }

 private:
  static std::uint64_t pack(Ticket ticket) noexcept {
    return (std::uint64_t{ticket.generation} << 32) | ticket.cell;
  }
  static Ticket unpack(std::uint64_t entry) noexcept {
    return {.cell = static_cast<std::uint32_t>(entry), .generation = static_cast<std::uint32_t>(entry >> 32)};
  }

  alignas(64) std::atomic<std::uint64_t> head_{0};  // tickets ever pushed; written by the producer
  alignas(64) std::atomic<std::uint64_t> tail_{
      0};  // tickets done with; moved by whoever sees its ticket decided
  alignas(64) std::atomic<std::uint64_t> entries_[Capacity] = {};
};

}  // namespace manyhands::shm
