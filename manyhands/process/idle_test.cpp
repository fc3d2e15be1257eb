#include "manyhands/process/idle.hpp"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "tests/board_fixture.hpp"

namespace manyhands::process {
namespace {

using test::BoardFixture;

bool take_ticket(const BoardView& view, std::atomic<std::uint32_t>& taken) {
  return view.board().queue.claim([&](shm::Ticket) {
    ++taken;
    return true;
  });
}

// As a worker process does: takes tickets until the board says stop.
void work(const BoardView& view, std::uint32_t worker, std::atomic<std::uint32_t>& taken) {
  Searcher searcher(view, worker);
  while (view.board().stop.load() == 0) {
    if (take_ticket(view, taken)) {
      searcher.found();
    } else {
      searcher.wait();
    }
  }
}

TEST_CASE_FIXTURE(BoardFixture, "no ticket stays without a worker, however the workers fall asleep") {
  std::atomic<std::uint32_t> taken{0};
  std::jthread one([&] { work(view, 0, taken); });
  std::jthread two([&] { work(view, 1, taken); });
  for (std::uint32_t i = 0; i < 3000; ++i) {
    REQUIRE(view.board().queue.try_push({i, 0}));
    wake_for_work(view);
    // Sometimes a burst, sometimes one at a time, so that the workers sleep in between.
    if (i % 7 == 0) {
      const Deadline deadline(std::chrono::seconds(20));
      while (taken.load() != i + 1 && !deadline.passed()) std::this_thread::yield();
      REQUIRE(taken.load() == i + 1);
    }
  }
  while (taken.load() != 3000) std::this_thread::yield();
  view.board().stop.store(1);
  wake_worker(view, 0);
  wake_worker(view, 1);
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
