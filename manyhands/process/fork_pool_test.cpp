// What Start::fork promises: workers that are copies of the moment of a call.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <set>
#include <vector>

#include "manyhands/process/descendants.hpp"
#include "manyhands/process/pipe.hpp"
#include "manyhands/process/pool.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/value.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

TEST_CASE("no more forked workers run at a time than the pool has, and all calls get their turn") {
  Value<int> running(0);
  Value<int> most(0);
  Pool pool{2, {.start = Start::fork}};
  std::vector<AsyncResult<int>> results;
  for (int i = 0; i < 8; ++i) {
    results.push_back(pool.apply_async([&running, &most, i] {
      const int now = running.update([](int x) { return x + 1; });
      most.update([now](int x) { return std::max(x, now); });
      const Deadline work(std::chrono::milliseconds(5));
      while (!work.passed()) {
      }
      running.update([](int x) { return x - 1; });
      return i;
    }));
  }
  for (int i = 0; i < 8; ++i) CHECK(results[static_cast<std::size_t>(i)].get() == i);
  CHECK(most.get() <= 2);
}

TEST_CASE("a call that waits for its turn is a copy of the moment of the call") {
  Event go;
  Pool pool{1, {.start = Start::fork}};
  int value = 1;
  auto first = pool.apply_async([&] {
    go.wait();
    return value;
  });
  value = 2;
  auto second = pool.apply_async([&] { return value; });
  value = 3;
  go.set();
  CHECK(first.get() == 1);
  CHECK(second.get() == 2);
}

TEST_CASE("a forked pool that was closed or terminated takes no more") {
  Pool closed{1, {.start = Start::fork}};
  CHECK(closed.apply([] { return 1; }) == 1);
  closed.close();
  CHECK_THROWS_WITH_AS(closed.apply([] { return 1; }), doctest::Contains("is closed"), PoolBroken);
  Pool terminated{1, {.start = Start::fork}};
  Event runs;
  auto result = terminated.apply_async([&runs] {
    runs.set();
    ::pause();
  });
  runs.wait();
  terminated.terminate();
  CHECK_THROWS_AS(result.get(), Cancelled);
  CHECK_THROWS_WITH_AS(terminated.apply([] { return 1; }), doctest::Contains("was terminated"), PoolBroken);
}

TEST_CASE("imap_unordered of a forked pool gives what is ready, whenever it was submitted") {
  Event go;
  Pool pool{2, {.start = Start::fork}};
  std::vector<int> items{0, 1, 2, 3};
  std::vector<int> order;
  for (const int item : pool.imap_unordered(
           [&go](int x) {
             if (x == 0) go.wait();
             return x;
           },
           items)) {
    order.push_back(item);
    if (order.size() == 3) go.set();
  }
  CHECK(order.back() == 0);
  CHECK(std::set<int>(order.begin(), order.end()) == std::set<int>{0, 1, 2, 3});
}

TEST_CASE("what a forked process held is given back though nobody waits for it") {
  auto pipe = std::make_unique<Pipe>();
  Connection ours = pipe->first;
  const Process child{{.start = Start::fork}, [](Connection end) { end.send(7); }, pipe->second};
  pipe.reset();
  CHECK(ours.recv<int>() == 7);
  CHECK(test::eventually([&] {
    try {
      return ours.try_recv<int>().has_value();
    } catch (const EndOfPipe&) {
      return true;
    }
  }));
}

TEST_CASE("what a task of a forked worker started ends with the worker that is killed") {
  Value<int> started(0);
  Pool pool{1, {.start = Start::fork}};
  auto result = pool.apply_async([&started] {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);  // it is not killed if this fails
      started = ::getpid();
      for (;;) ::pause();
    }
    ::pause();
  });
  REQUIRE(test::eventually([&] { return started.get() != 0; }));
  result.cancel({.kill = true});
  CHECK_THROWS_AS(result.get(), Cancelled);
  CHECK(test::eventually([&] { return !test::is_running(started.get()); }));
}

}  // namespace
}  // namespace manyhands
