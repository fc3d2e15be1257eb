#pragma once
// DeliveryTable: the values of a Queue that were received and are not yet acknowledged. It lies in shared
// memory, in a block of its own that the first receive() makes.
//
// A slot belongs to the process that received the value, or to nobody once it was given back; what a process
// held that has ended is given back by reclaim(). As with the queue itself, any process may be killed between
// any two stores: each change becomes valid by one store (of a slot's owner, or of the queue's head), and
// what takes two of them is written down first, for mend().
//
// All is called by who has the queue's head lock, but for what says otherwise. All zeros: an empty table.

#include <atomic>
#include <cstdint>
#include <optional>

#include "manyhands/base/clock.hpp"
#include "manyhands/process/queue_cell.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::process {

// What its holder knows of a delivery.
struct Receipt {
  std::uint32_t slot = 0;
  std::uint32_t attempt = 0;   // 1: nobody had the value before
  std::uint64_t position = 0;  // of the value in the queue, from 0
};

class DeliveryTable {
 public:
  static constexpr std::uint32_t most = 1024;

  // Finishes, or takes back, what one that was killed had begun. Before any other call under the lock.
  void mend(std::uint64_t head) noexcept;

  // The value at `head`, which is in `cell`, becomes this process's once the queue's head is beyond it; then
  // end_receive(). nullopt: `most` are out already.
  std::optional<Receipt> begin_receive(const QueueCell& cell, std::uint64_t head) noexcept;
  void end_receive() noexcept { receiving_.store(0, std::memory_order_relaxed); }

  // Of those that were given back, the one that is the longest in the queue.
  std::optional<std::uint32_t> first_returned() const noexcept;
  const QueueCell& cell(std::uint32_t slot) const noexcept { return slots_[slot].cell; }
  // It becomes this process's.
  Receipt receive_again(std::uint32_t index) noexcept;
  // It leaves the table, without being acknowledged.
  void remove(std::uint32_t slot) noexcept;

  // Whether this process still holds it. False in a fork of the one that received it.
  bool holds(const Receipt& receipt) const noexcept;
  // Requires holds().
  void acknowledge(const Receipt& receipt) noexcept;
  void give_back(const Receipt& receipt) noexcept;
  // Gives back what processes held that have ended; returns whether there is any. Reads /proc for each.
  bool reclaim() noexcept;
  // Calls f(cell) for each value in the table.
  template <class F>
  void for_each(const F& f) const {
    for (std::uint32_t i = 0; i < used(); ++i) {
      if (slots_[i].owner.load() != free_slot) f(slots_[i].cell);
    }
  }

  // ---- Without the lock.

  // How many were given back and wait for somebody.
  std::uint32_t returned() const noexcept { return returned_.load(std::memory_order_acquire); }
  enum class Held { by_none, by_others, by_this_process };
  // Who has values that are not acknowledged.
  Held held() const noexcept;
  std::uint64_t acknowledged() const noexcept { return acknowledged_.load(std::memory_order_acquire); }
  // True once in 50 ms, for one of all that ask: it should reclaim().
  bool is_time_to_look() noexcept;

 private:
  // A slot's owner: a pid, or one of these.
  static constexpr std::uint64_t free_slot = 0;
  static constexpr std::uint64_t nobody = UINT64_MAX;  // given back

  struct Slot {
    std::atomic<std::uint64_t> owner;            // written last
    std::uint64_t owner_start;                   // see shm::ProcessStart
    std::atomic<shm::ThreadToken> owner_thread;  // for the race detector
    std::atomic<std::uint32_t> attempt;
    std::atomic<std::uint64_t> position;
    QueueCell cell;
  };

  std::uint32_t used() const noexcept { return used_.load(std::memory_order_acquire); }
  void own(Slot& slot) noexcept;
  void set_owner(Slot& slot, std::uint64_t owner) noexcept;

  std::atomic<std::uint32_t> used_;               // slots [0, used_) were ever used
  std::atomic<std::uint32_t> returned_;           // slots of nobody
  std::atomic<std::uint32_t> receiving_;          // 1 + the slot of a begin_receive() without its end
  std::atomic<std::uint32_t> acknowledging_;      // 1 + the slot of an acknowledge() that has not ended
  std::atomic<std::uint64_t> acknowledged_;       // values, ever
  std::atomic<std::uint64_t> acknowledged_then_;  // what it becomes by that acknowledge()
  std::atomic<std::int64_t> looked_ns_;
  Slot slots_[most];
};

}  // namespace manyhands::process
