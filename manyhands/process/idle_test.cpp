#include "manyhands/process/idle.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/board_fixture.hpp"

namespace manyhands::process {
namespace {

using test::BoardFixture;

// What the tickets stand for: each is taken once, by one atomic step, as a cell of a pool is.
class Tickets {
 public:
  explicit Tickets(std::uint32_t count) : taken_(count) {}
  bool take(const BoardView& view) {
    return view.board().queue.claim([this](shm::Ticket ticket) {
      if (taken_[ticket.cell].exchange(true)) return false;
      ++count_;
      return true;
    });
  }
  std::uint32_t count() const { return count_.load(); }

 private:
  std::vector<std::atomic<bool>> taken_;
  std::atomic<std::uint32_t> count_{0};
};

// A thread that takes tickets until the board says stop, as a worker process does. Ends with this object.
class WorkerThread {
 public:
  WorkerThread(const BoardView& view, std::uint32_t worker, Tickets& tickets)
      : view_(view), worker_(worker), thread_([&view, worker, &tickets] {
          Searcher searcher(view, worker);
          while (view.board().stop.load() == 0) {
            if (tickets.take(view)) {
              searcher.found();
            } else {
              searcher.wait();
            }
          }
        }) {}
  ~WorkerThread() {
    view_.board().stop.store(1);
    wake_worker(view_, worker_);
  }
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

 private:
  const BoardView& view_;
  std::uint32_t worker_;
  std::jthread thread_;
};

TEST_CASE_FIXTURE(BoardFixture, "no ticket stays without a worker, however the workers fall asleep") {
  Tickets tickets(3000);
  const WorkerThread one(view, 0, tickets);
  const WorkerThread two(view, 1, tickets);
  for (std::uint32_t i = 0; i < 3000; ++i) {
    REQUIRE(view.board().queue.try_push({i, 0}));
    wake_for_work(view);
    // Sometimes a burst, sometimes one at a time, so that the workers sleep in between.
    if (i % 7 == 0) {
      const Deadline deadline(std::chrono::seconds(20));
      while (tickets.count() != i + 1 && !deadline.passed()) std::this_thread::yield();
      REQUIRE(tickets.count() == i + 1);
    }
  }
}

TEST_CASE_FIXTURE(BoardFixture,
                  "who is awake already does not count as woken: it may be busy, and the next one is woken") {
  view.board().idle.add(0);  // about to leave the set: its last look has found other work
  view.board().idle.add(1);
  view.slot(1).sleeping.store(1);
  wake_for_work(view);
  CHECK_FALSE(view.board().searching.contains(0));
  CHECK(view.slot(1).sleeping.load() == 0);
  CHECK(view.board().searching.contains(1));
}

TEST_CASE_FIXTURE(BoardFixture, "whom a worker was about to wake when it was killed is woken all the same") {
  view.board().searching.add(0);
  view.slot(1).sleeping.store(1);  // taken out of `idle` by worker 0, which did not come to wake it
  SUBCASE("") {}
  SUBCASE("nor to more than to say so") { view.board().searching.add(1); }
  wake_after_loss(view, 0);
  CHECK(view.slot(1).sleeping.load() == 0);
  CHECK(view.board().searching.empty(workers));
}

TEST_CASE_FIXTURE(BoardFixture,
                  "a worker that searches spares the publisher the wake, a sleeper is taken out of its set") {
  view.board().idle.add(0);
  view.slot(0).sleeping.store(1);
  view.board().searching.add(1);
  wake_for_work(view);
  CHECK(view.board().idle.contains(0));
  view.board().searching.remove(1);
  wake_for_work(view);
  CHECK_FALSE(view.board().idle.contains(0));
  CHECK(view.board().searching.contains(0));  // in its name, until it is awake
  CHECK(view.slot(0).sleeping.load() == 0);
}

TEST_CASE_FIXTURE(BoardFixture, "wake_parent wakes those who sleep on the word, once") {
  auto& word = view.board().parent_sleeping;
  std::jthread sleeper([&] {
    word.store(1);
    while (word.load() == 1) static_cast<void>(shm::futex_wait(word, 1));
  });
  while (word.load() == 0 && sleeper.joinable()) {
    std::this_thread::yield();
    if (word.load() == 1) break;
  }
  wake_parent(view);
  sleeper.join();
  CHECK(word.load() == 0);
}

}  // namespace
}  // namespace manyhands::process
