#include "manyhands/process/board.hpp"

#include <doctest/doctest.h>

#include <set>
#include <thread>
#include <vector>

#include "tests/board_fixture.hpp"

namespace manyhands::process {
namespace {

using test::BoardFixture;

TEST_CASE("the state of a cell goes into one word and back") {
  const CellState state{.generation = 0xdead'beef, .phase = CellPhase::claimed, .worker = 1023};
  const auto back = CellState::unpack(state.pack());
  CHECK(back.generation == state.generation);
  CHECK(back.phase == state.phase);
  CHECK(back.worker == state.worker);
}

TEST_CASE("a set of workers: added, counted, taken one by one") {
  WorkerSet set;
  CHECK(set.empty(max_workers));
  for (const std::uint32_t worker : {0U, 63U, 64U, 1023U}) set.add(worker);
  CHECK(set.count(max_workers) == 4);
  CHECK(set.contains(64));
  CHECK(set.remove(63));
  CHECK_FALSE(set.remove(63));
  std::set<std::uint32_t> taken;
  for (std::uint32_t worker = 0; (worker = set.take_one(max_workers)) != max_workers;) taken.insert(worker);
  CHECK(taken == std::set<std::uint32_t>{0, 64, 1023});
  CHECK(set.empty(max_workers));
}

TEST_CASE("the parts of a board do not overlap and are aligned") {
  const Layout layout(5, std::uint64_t{1} << 20);
  CHECK(layout.slots() >= sizeof(Board));
  CHECK(layout.cells() >= layout.slots() + 5 * sizeof(WorkerSlot));
  CHECK(layout.jobs() >= layout.cells() + cell_count * sizeof(Cell));
  CHECK(layout.chunks(1) - layout.chunks(0) >= max_chunks * sizeof(Chunk));
  CHECK(layout.ring(0) >= layout.chunks(job_count - 1) + max_chunks * sizeof(Chunk));
  CHECK(layout.worker_region(0) >= layout.ring(4) + shm::MessageRing::footprint(ring_capacity));
  CHECK(layout.size() == layout.worker_region(4) + (1 << 20));
  for (const auto offset :
       {layout.slots(), layout.cells(), layout.jobs(), layout.ring(3), layout.worker_region(2)})
    CHECK(offset % 4096 == 0);
}

TEST_CASE_FIXTURE(BoardFixture, "chunks are claimed in order, only where their items are in place") {
  start_job(0, 10, 3);
  view.job(0).ready.store(6);
  ChunkClaim claim{};
  CHECK(claim_chunk(view, 0, 0, claim));
  CHECK(claim.chunk == 0);
  CHECK(claim_chunk(view, 0, 1, claim));
  CHECK(claim.chunk == 1);
  CHECK_FALSE(claim_chunk(view, 0, 0, claim));
  CHECK_FALSE(work_available(view));
  view.job(0).ready.store(10);
  CHECK(work_available(view));
  CHECK(claim_chunk(view, 0, 0, claim));
  CHECK(claim_chunk(view, 0, 0, claim));
  CHECK_FALSE(claim_chunk(view, 0, 0, claim));
  CHECK_FALSE(work_available(view));
}

TEST_CASE_FIXTURE(BoardFixture, "an ended or stopped job gives no chunks") {
  start_job(0, 10, 1);
  ChunkClaim claim{};
  view.job(0).stop.store(1);
  CHECK_FALSE(claim_chunk(view, 0, 0, claim));
  view.job(0).stop.store(0);
  view.job(0).generation.fetch_add(1);
  CHECK_FALSE(claim_chunk(view, 0, 0, claim));
}

TEST_CASE_FIXTURE(BoardFixture, "a chunk that is opened again is found, though the hint was past it") {
  start_job(0, 4, 1);
  ChunkClaim claim{};
  for (int i = 0; i < 4; ++i) REQUIRE(claim_chunk(view, 0, 0, claim));
  reopen_chunk(view, {.job = 0, .generation = claim.generation, .chunk = 1});
  CHECK(work_available(view));
  REQUIRE(claim_chunk(view, 0, 1, claim));
  CHECK(claim.chunk == 1);
  CHECK_FALSE(claim_chunk(view, 0, 1, claim));
}

TEST_CASE_FIXTURE(
    BoardFixture,
    "two workers and a parent that opens chunks again: each chunk is done as often as it was opened") {
  constexpr std::uint32_t chunks = 2000;
  constexpr int times = 3;
  start_job(0, chunks, 1);
  std::vector<std::atomic<int>> runs(chunks);
  std::vector<int> data(chunks);  // not atomic: the claim and its end publish it
  std::atomic<int> finished{0};
  const auto work = [&](std::uint32_t worker) {
    while (finished.load() < static_cast<int>(chunks) * times) {
      ChunkClaim claim{};
      if (!claim_chunk(view, 0, worker, claim)) {
        std::this_thread::yield();
        continue;
      }
      ++data[claim.chunk];
      ++runs[claim.chunk];
      view.chunk(0, claim.chunk)
          .owner.store(chunk_owner(claim.generation, chunk_done), std::memory_order_release);
      ++finished;
    }
  };
  std::jthread one(work, 0U);
  std::jthread two(work, 1U);
  const auto generation = view.job(0).generation.load();
  for (int round = 1; round < times; ++round) {
    for (std::uint32_t i = 0; i < chunks; ++i) {
      while (view.chunk(0, i).owner.load(std::memory_order_acquire) != chunk_owner(generation, chunk_done))
        std::this_thread::yield();
      reopen_chunk(view, {.job = 0, .generation = generation, .chunk = i});
    }
  }
  one.join();
  two.join();
  for (std::uint32_t i = 0; i < chunks; ++i) {
    REQUIRE(runs[i] == times);
    REQUIRE(data[i] == times);
  }
}

}  // namespace
}  // namespace manyhands::process
