#include "manyhands/mpi/mutex.hpp"

#include <doctest/doctest.h>

#include <mutex>
#include <stdexcept>
#include <vector>

namespace manyhands::mpi {
namespace {

TEST_CASE("a mutex lets one rank in at a time") {
  Mutex mutex(world());
  // Two numbers that are not changed in one step.
  const Window<int> sums(world(), world().rank() == 0 ? 2 : 0);
  constexpr int rounds = 50;
  for (int i = 0; i < rounds; ++i) {
    const std::scoped_lock guard(mutex);
    CHECK(mutex.is_locked());
    const int first = sums.get(0, 0);
    const int second = sums.get(0, 1);
    CHECK(first == second);
    sums.put(0, 0, first + 1);
    sums.put(0, 1, second + 1);
  }
  world().barrier();
  CHECK(sums.get(0, 1) == rounds * world().size());
  CHECK(!mutex.is_locked());
}

TEST_CASE("a mutex that another rank holds is not taken by try_lock") {
  Mutex mutex(world());
  if (world().rank() == 0) CHECK(mutex.try_lock());
  world().barrier();
  CHECK(mutex.try_lock() == false);
  world().barrier();
  if (world().rank() == 0) mutex.unlock();
  world().barrier();
  if (world().rank() == world().size() - 1) {
    REQUIRE(mutex.try_lock());
    mutex.unlock();
  }
  world().barrier();
}

TEST_CASE("a mutex says so if it is locked twice, or unlocked by who does not hold it") {
  Mutex mutex(self());
  CHECK_THROWS_WITH_AS(mutex.unlock(), doctest::Contains("does not hold it"), Error);
  mutex.lock();
  CHECK_THROWS_WITH_AS(mutex.lock(), doctest::Contains("holds it already"), Error);
  mutex.unlock();
}

TEST_CASE("a section in the order of the ranks is run by one after the other, whatever it throws") {
  const Window<int> turn(world(), world().rank() == 0 ? 1 : 0);
  for (int round = 0; round < 3; ++round) {
    const int seen = in_rank_order(world(), [&] { return turn.fetch_add(0, 0, 1); });
    CHECK(seen == round * world().size() + world().rank());
    world().barrier();
  }
  CHECK_THROWS_AS(in_rank_order(world(), [] { throw std::runtime_error("expected"); }), std::runtime_error);
  in_rank_order(world(), [] {});
}

}  // namespace
}  // namespace manyhands::mpi
