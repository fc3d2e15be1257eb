#include "manyhands/mpi/pool.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <string>

#include "manyhands/task/this_task.hpp"
#include "manyhands/wire/remote_error.hpp"

namespace manyhands::mpi {
namespace {

static_assert(Executor<Pool>);

double square(double x) { return x * x; }
int rank_of_worker() { return world().rank(); }

TEST_CASE("rank 0 maps over all ranks and the others fall through when it is done") {
  for (const bool works : {true, false}) {
    Pool pool(world(), {.driver_works = works});
    CHECK(static_cast<bool>(pool) == (world().rank() == 0));
    CHECK(pool.size() == std::max(1, world().size() - (works ? 0 : 1)));
    if (!pool) continue;
    for (const std::size_t count : {0U, 1U, 7U, 10'000U}) {
      std::vector<double> xs(count);
      std::iota(xs.begin(), xs.end(), 0.0);
      std::vector<double> expected;
      for (const double x : xs) expected.push_back(x * x);
      CHECK(pool.map(square, xs) == expected);
      CHECK(pool.map(square, xs, {.chunk = 3}) == expected);
      std::vector<double> streamed;
      for (const double y : pool.imap(square, xs, {.chunk = 100})) streamed.push_back(y);
      CHECK(streamed == expected);
    }
    // Items and results that are packed.
    std::vector<std::string> names;
    for (int i = 0; i < 500; ++i) names.push_back("name " + std::to_string(i));
    const auto lengths = pool.map([](const std::string& name) { return name + "!"; }, names);
    REQUIRE(lengths.size() == 500);
    CHECK(lengths[499] == "name 499!");
    CHECK(pool.starmap([](int a, const std::string& b) { return b + std::to_string(a); },
                       std::vector<std::tuple<int, std::string>>{{1, "a"}, {2, "b"}}) ==
          std::vector<std::string>{"a1", "b2"});
    pool.map([](int) {}, std::vector<int>{1, 2, 3});
    int factor = 3;  // not const: as a constant it would be no state of the lambda
    CHECK(pool.apply([factor](int x) { return factor * x; }, 14) == 42);
    pool.apply([] {});
  }
}

TEST_CASE("large items and results travel in two messages") {
  Pool pool(world());
  if (!pool) return;
  const std::vector<std::vector<double>> items(20, std::vector<double>(50'000, 1.5));
  const auto results = pool.map(
      [](std::vector<double> v) {
        for (double& x : v) x *= 2;
        return v;
      },
      items, {.chunk = 1});
  CHECK(results == std::vector<std::vector<double>>(20, std::vector<double>(50'000, 3.0)));
  CHECK(pool.apply([](const std::vector<double>& v) { return v.size(); }, items[0]) == 50'000);
}

TEST_CASE("many small calls are all answered, by every rank") {
  Pool pool(world());
  if (!pool) return;
  std::vector<AsyncResult<int>> results;
  for (int i = 0; i < 5000; ++i) results.push_back(pool.apply_async([](int x) { return x + 1; }, i));
  for (int i = 0; i < 5000; ++i) CHECK(results[static_cast<std::size_t>(i)].get() == i + 1);
  std::vector<int> seen(static_cast<std::size_t>(world().size()));
  for (int round = 0; round < 100; ++round) {
    for (const int rank : pool.map([](int) { return rank_of_worker(); }, std::vector<int>(200), {.chunk = 1}))
      ++seen[static_cast<std::size_t>(rank)];
    if (std::find(seen.begin(), seen.end(), 0) == seen.end()) break;
  }
  CHECK(std::find(seen.begin(), seen.end(), 0) == seen.end());
}

TEST_CASE("an exception of a task arrives with its type, place and index, and the pool goes on") {
  Pool pool(world());
  if (!pool) return;
  const auto fails = [](int x) {
    if (x == 37) throw std::out_of_range("no " + std::to_string(x));
    return x;
  };
  std::vector<int> xs(100);
  std::iota(xs.begin(), xs.end(), 0);
  try {
    static_cast<void>(pool.map(fails, xs));
    CHECK(false);
  } catch (const std::out_of_range& error) {
    CHECK(std::string(error.what()) == "no 37");
    const RemoteError* const remote = remote_error(error);
    REQUIRE(remote != nullptr);
    CHECK(remote->place().task == 37);
    CHECK(remote->place().worker >= 0);
    CHECK(remote->place().pid > 0);
  }
  CHECK_THROWS_AS(pool.apply(fails, 37), std::out_of_range);
  CHECK(pool.apply(fails, 36) == 36);
  CHECK(pool.map(fails, std::vector<int>{1, 2, 3}) == std::vector<int>{1, 2, 3});
}

TEST_CASE("what has not started can be cancelled, progress is told, results come as they arrive") {
  Pool pool(world());
  if (!pool) return;
  std::vector<int> xs(1000);
  std::iota(xs.begin(), xs.end(), 0);
  auto map = pool.map_async([](int x) { return x; }, xs, {.chunk = 1});
  int expected = 0;
  for (const int y : map) CHECK(y == expected++);
  CHECK(expected == 1000);
  CHECK(map.progress().done == 1000);
  CHECK(map.metadata().size() == 1000);

  std::vector<AsyncResult<int>> results;
  for (int i = 0; i < 2000; ++i) results.push_back(pool.apply_async([](int x) { return x; }, i));
  const bool cancelled = results.back().cancel();
  if (cancelled) {
    CHECK_THROWS_AS(results.back().get(), Cancelled);
  } else {
    CHECK(results.back().get() == 1999);
  }
  CHECK(results.front().get() == 0);
  auto chained = pool.apply_async([](int x) { return x; }, 20).then([](int x) { return x + 1; });
  CHECK(pool.apply([](int x) { return x; }, 1) == 1);
  pool.close();
  CHECK(chained.get() == 21);
  CHECK_THROWS_AS(pool.apply(square, 2.0), manyhands::Error);
}

TEST_CASE("a task that overstays its deadline fails when it ends") {
  Pool pool(world());
  if (!pool) return;
  const auto until_asked = [](int) {
    while (!this_task::stop_requested()) {
    }
    return this_task::index();
  };
  CHECK_THROWS_AS(pool.with({.deadline = std::chrono::milliseconds(5)}).apply(until_asked, 1),
                  DeadlineExceeded);
  CHECK_THROWS_AS(pool.map(until_asked, std::vector<int>{1, 2}, {.deadline = std::chrono::milliseconds(5)}),
                  DeadlineExceeded);
}

TEST_CASE("a wait with a time limit begins no task on rank 0 that would outlast it, unless it is alone") {
  Pool pool(world());
  if (!pool) return;
  const auto work = [](int x) {
    const Deadline end(std::chrono::milliseconds(20));
    while (!end.passed()) {
    }
    return x;
  };
  auto map = pool.map_async(work, std::vector<int>{1, 2, 3, 4, 5, 6}, {.chunk = 1});
  auto call = pool.apply_async(work, 7);
  while (!map.wait(std::chrono::milliseconds(1)) || !call.wait(std::chrono::milliseconds(1))) {
  }
  CHECK(map.get() == std::vector<int>{1, 2, 3, 4, 5, 6});
  CHECK(call.get() == 7);
  for (const auto& task : map.metadata()) CHECK((task.engine == 0) == (world().size() == 1));
  CHECK((call.metadata().front().engine == 0) == (world().size() == 1));
}

TEST_CASE("a pool over a part of the ranks leaves the others alone") {
  const Comm part = world().split(world().rank() % 2);
  Pool pool(part);
  if (pool) CHECK(pool.map(square, std::vector<double>{1, 2, 3}) == std::vector<double>{1, 4, 9});
}

}  // namespace
}  // namespace manyhands::mpi
