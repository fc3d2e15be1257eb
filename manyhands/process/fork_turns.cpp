#include "manyhands/process/fork_turns.hpp"

#include <algorithm>

#include "manyhands/process/board.hpp"

namespace manyhands::process {

void ForkTurns::open_gate(const Turn& turn) noexcept {
  shm::FutexWord& gate = BoardView(turn.board->data()).slot(turn.worker).gate;
  gate.store(1);
  shm::futex_wake(gate);
}

void ForkTurns::ask(const std::shared_ptr<shm::Segment>& board, std::uint32_t worker) {
  const MutexLock lock(mutex_);
  const bool runs = free_ > 0;
  if (runs) --free_;
  turns_.push_back({board, worker, runs});
  if (runs) open_gate(turns_.back());
}

void ForkTurns::ended(const std::shared_ptr<shm::Segment>& board, std::uint32_t worker) {
  const MutexLock lock(mutex_);
  const auto found = std::find_if(turns_.begin(), turns_.end(), [&](const Turn& turn) {
    return turn.board == board && turn.worker == worker;
  });
  if (found == turns_.end()) return;
  const bool ran = found->runs;
  turns_.erase(found);
  if (!ran) return;
  const auto next = std::find_if(turns_.begin(), turns_.end(), [](const Turn& turn) { return !turn.runs; });
  if (next == turns_.end()) {
    ++free_;
    return;
  }
  next->runs = true;
  open_gate(*next);
}

}  // namespace manyhands::process
