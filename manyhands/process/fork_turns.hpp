#pragma once
// ForkTurns: which workers of a pool with Start::fork may run now.
//
// Such a pool forks new workers at each call, at once: they are a copy of that moment. But no more than the
// pool's size run at a time; the others wait at the gate in their WorkerSlot, in the order of the calls. One
// for each pool, shared by its crews. Any thread of the pool's process.

#include <cstdint>
#include <list>
#include <memory>

#include "manyhands/base/mutex.hpp"
#include "manyhands/shm/segment.hpp"

namespace manyhands::process {

class ForkTurns {
 public:
  explicit ForkTurns(std::uint32_t size) noexcept : free_(size) {}

  // Opens the gate of a new worker, now or when others have ended.
  void ask(const std::shared_ptr<shm::Segment>& board, std::uint32_t worker) MH_EXCLUDES(mutex_);
  // The worker has ended, whether it had its turn or not.
  void ended(const std::shared_ptr<shm::Segment>& board, std::uint32_t worker) MH_EXCLUDES(mutex_);

 private:
  struct Turn {
    std::shared_ptr<shm::Segment> board;  // shared: its pool's call may be over when its turn comes
    std::uint32_t worker;
    bool runs;
  };
  static void open_gate(const Turn& turn) noexcept;

  Mutex mutex_;
  std::list<Turn> turns_ MH_GUARDED_BY(mutex_);  // of all workers that have not ended, in order
  std::uint32_t free_ MH_GUARDED_BY(mutex_);     // how many more may run
};

}  // namespace manyhands::process
