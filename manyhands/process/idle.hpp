#pragma once
// Who sleeps, who looks for work, who is woken: the protocol by which no published task is left without a
// worker.
//
// A worker without work is in the board's set `searching` while it looks and in `idle` while it sleeps. Who
// publishes work wakes a sleeper only if nobody is searching: a searcher finds the work, and wakes the next
// sleeper if there is more. A searcher that gives up enters `idle`, leaves `searching`, and looks once more
// before it sleeps; publisher and searcher each write, fence, and read what the other writes (Dekker), so one
// of them sees the other.
//
// Not to be in `searching` is always safe: at worst one sleeper too many is woken. To be in it and not look
// is not: so who adds another worker in its name takes that back unless it has really woken it.
//
// A dead or stopped worker may have been about to wake another. The parent takes it out of both sets, and
// lets everybody look who may have counted on it (wake_after_loss). Source of the idea: D. Vyukov, the Go
// scheduler's "spinning" threads.

#include <cstdint>

#include "manyhands/process/board.hpp"

namespace manyhands::process {

// Makes sure that a worker looks at the work that the caller has just published. Any process; does not block.
void wake_for_work(const BoardView& view) noexcept;
// Wakes one worker if it sleeps, whatever for; returns whether it did.
bool wake_worker(const BoardView& view, std::uint32_t worker) noexcept;
// Parent only: `lost` has died or was stopped, wherever it was. Takes it out of the sets, and wakes whoever
// sleeps without being in `idle`: itself, and those that it may have been about to wake.
void wake_after_loss(const BoardView& view, std::uint32_t lost) noexcept;
// Wakes the threads of the parent that sleep, after something they may wait for was published.
void wake_parent(const BoardView& view) noexcept;

// One worker's side. One thread.
class Searcher {
 public:
  Searcher(const BoardView& view, std::uint32_t worker) noexcept : view_(view), worker_(worker) {}

  // Blocks until there may be work or the board says stop. From then on this worker counts as searching: it
  // looks, and calls found() or comes here again.
  void wait() noexcept;
  // After a claim, before the work: this worker searches no more; if there is more work, the next one is
  // woken.
  void found() noexcept;

 private:
  BoardView view_;
  std::uint32_t worker_;
  bool searching_ = false;  // in the board's set, as far as this worker knows
};

}  // namespace manyhands::process
