#include "manyhands/task/this_task.hpp"

#include <doctest/doctest.h>

#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "manyhands/base/clock.hpp"

namespace manyhands {
namespace {

TEST_CASE("outside of a task there is none") {
  CHECK_FALSE(this_task::stop_requested());
  CHECK(this_task::index() == -1);
  CHECK(this_task::attempt() == 0);
  CHECK(this_task::worker() == -1);
}

TEST_CASE("inside, the task sees its place, and the one around it afterwards") {
  const task::Context outer{.index = 1, .worker = 5};
  const task::ContextScope outer_scope(outer);
  {
    const task::Context inner{.index = 2, .attempt = 3, .worker = 0};
    const task::ContextScope scope(inner);
    CHECK(this_task::index() == 2);
    CHECK(this_task::attempt() == 3);
    CHECK(this_task::worker() == 0);
  }
  CHECK(this_task::index() == 1);
  CHECK(this_task::worker() == 5);
}

TEST_CASE("a stop request and a passed deadline both ask the task to end") {
  std::atomic<std::uint32_t> stop{0};
  const task::Context context{.stop = &stop};
  const task::ContextScope scope(context);
  CHECK_FALSE(this_task::stop_requested());
  stop = 1;
  CHECK(this_task::stop_requested());
  const task::Context late{.deadline_at_ns = now_ns() - 1};
  const task::ContextScope late_scope(late);
  CHECK(this_task::stop_requested());
}

TEST_CASE("an item of a task has its own index, and the task its own again afterwards") {
  const task::Context task{.index = 7, .worker = 2};
  const task::ContextScope scope(task);
  {
    const task::ItemScope item(3);
    CHECK(this_task::index() == 3);
    CHECK(this_task::worker() == 2);
  }
  CHECK(this_task::index() == 7);
}

// The first numbers of items 0 to count - 1 of a map.
std::vector<std::uint64_t> draws(std::uint64_t seed, std::int64_t count) {
  const task::Context task{.seed = seed};
  const task::ContextScope scope(task);
  std::vector<std::uint64_t> numbers;
  for (std::int64_t i = 0; i < count; ++i) {
    const task::ItemScope item(i);
    numbers.push_back(this_task::rng()());
    numbers.push_back(this_task::rng()());
    numbers.push_back(this_task::seed());
  }
  return numbers;
}

TEST_CASE("the random numbers of an item follow from seed and index, and each item has others") {
  const auto first = draws(1, 1000);
  CHECK(first == draws(1, 1000));
  auto all = first;
  const auto second = draws(2, 1000);
  all.insert(all.end(), second.begin(), second.end());
  CHECK(std::set<std::uint64_t>(all.begin(), all.end()).size() == all.size());
}

TEST_CASE("an item that the loop over a chunk reaches begins its stream") {
  std::atomic<std::uint64_t> item{0};
  const task::Context chunk{.item = &item, .seed = 1};
  const task::ContextScope scope(chunk);
  std::vector<std::uint64_t> numbers;
  for (item = 0; item < 10; ++item) {
    numbers.push_back(this_task::rng()());
    numbers.push_back(this_task::rng()());
    numbers.push_back(this_task::seed());
  }
  CHECK(numbers == draws(1, 10));
}

TEST_CASE("a task that runs within another leaves that one's stream alone") {
  const task::Context task{.seed = 1};
  const auto two = [&](bool interrupted) {
    const task::ContextScope scope(task);
    const auto first = this_task::rng()();
    if (interrupted) static_cast<void>(draws(1, 3));
    return std::pair(first, this_task::rng()());
  };
  CHECK(two(true) == two(false));
}

TEST_CASE("executors that a task makes follow from its stream, others from their order") {
  const task::Context task{.seed = 1};
  const auto two = [&] {
    const task::ContextScope scope(task);
    task::Seeds first;
    task::Seeds second;
    return std::pair(first.of_map(), second.of_map());
  };
  CHECK(two() == two());
  CHECK(two().first != two().second);
  task::Seeds outside;
  CHECK(outside.of_map() != outside.of_map());
  const std::uint64_t seed = 5;
  CHECK(outside.of_call(&seed) != outside.of_call(&seed));
}

TEST_CASE("outside of tasks random numbers are different in each thread and process") {
  const auto mine = this_task::rng()();
  std::uint64_t others = mine;
  std::jthread([&] { others = this_task::rng()(); }).join();
  CHECK(others != mine);
}

}  // namespace
}  // namespace manyhands
