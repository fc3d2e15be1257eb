#include "manyhands/process/idle.hpp"

#include <sched.h>

namespace manyhands::process {
namespace {

constexpr std::int64_t spin_ns = 50'000;  // about what it costs to wake a sleeping process

}  // namespace

bool wake_worker(const BoardView& view, std::uint32_t worker) noexcept {
  auto& word = view.slot(worker).sleeping;
  if (word.exchange(0) == 0) return false;
  shm::futex_wake(word);
  return true;
}

void wake_for_work(const BoardView& view) noexcept {
  Board& board = view.board();
  // The publication comes before this look; a searcher that gives up looks at the work after it has left the
  // set.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!board.searching.empty(board.workers)) return;
  for (;;) {
    const auto worker = board.idle.take_one(board.workers);
    if (worker == max_workers) return;
    board.searching.add(worker);  // in its name: until it is awake, nobody else needs to be woken
    if (wake_worker(view, worker)) return;
    // It had found work in its last look, and may be busy with that for long.
    board.searching.remove(worker);
  }
}

void wake_after_loss(const BoardView& view, std::uint32_t lost) noexcept {
  Board& board = view.board();
  board.idle.remove(lost);
  for (std::uint32_t worker = 0; worker < board.workers; ++worker) {
    board.searching.remove(worker);  // added in its name, perhaps, by the one that was lost
    if (!board.idle.contains(worker))
      wake_worker(view, worker);  // asleep and not in the set: nobody else would
  }
  wake_for_work(view);  // if the lost one had been chosen to look for work
}

void wake_parent(const BoardView& view) noexcept {
  auto& word = view.board().parent_sleeping;
  std::atomic_thread_fence(std::memory_order_seq_cst);  // the publication comes before this look
  if (word.load(std::memory_order_relaxed) == 1 && word.exchange(0) == 1) shm::futex_wake_all(word);
}

void Searcher::found() noexcept {
  view_.slot(worker_).cpu.store(::sched_getcpu(), std::memory_order_relaxed);
  if (!searching_) return;
  searching_ = false;
  view_.board().searching.remove(worker_);
  if (work_available(view_)) wake_for_work(view_);
}

void Searcher::wait() noexcept {
  Board& board = view_.board();
  board.searching.add(worker_);
  searching_ = true;
  // Spinning pays while there is a core for it: the parent needs one, too.
  if (board.searching.count(board.workers) < board.cores) {
    const auto until = now_ns() + spin_ns;
    do {
      // On the parent's core, spinning keeps from running whom we wait for: it is given the core at once.
      const int burst = board.parent_cpu.load(std::memory_order_relaxed) == ::sched_getcpu() ? 1 : 64;
      for (int i = 0; i < burst; ++i) {
        if (work_available(view_) || board.stop.load(std::memory_order_relaxed) != 0) return;
        shm::cpu_relax();
      }
      ::sched_yield();
    } while (now_ns() < until);
  }
  auto& sleeping = view_.slot(worker_).sleeping;
  sleeping.store(1);
  board.idle.add(worker_);
  board.searching.remove(worker_);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // left the searchers before the last look
  if (!work_available(view_) && board.stop.load() == 0) {
    while (sleeping.load(std::memory_order_acquire) == 1) static_cast<void>(shm::futex_wait(sleeping, 1));
  }
  sleeping.store(0);
  board.idle.remove(worker_);
  board.searching.add(worker_);  // who woke us has done so already, in our name
}

}  // namespace manyhands::process
