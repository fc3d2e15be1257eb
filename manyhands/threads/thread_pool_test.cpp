#include "manyhands/threads/thread_pool.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

namespace manyhands {
namespace {

double square(double x) { return x * x; }
int add(int a, int b) { return a + b; }
static_assert(Executor<ThreadPool>);

std::vector<double> numbers(std::size_t count) {
  std::vector<double> xs(count);
  std::iota(xs.begin(), xs.end(), 0.0);
  return xs;
}

TEST_CASE("map gives the results in the order of the items") {
  ThreadPool pool(2);
  for (const std::size_t count : {0U, 1U, 3U, 10'000U}) {
    const auto xs = numbers(count);
    const auto ys = pool.map(square, xs);
    REQUIRE(ys.size() == count);
    for (std::size_t i = 0; i < count; ++i) REQUIRE(ys[i] == xs[i] * xs[i]);
  }
}

TEST_CASE("any closure works, and shares the program's memory") {
  ThreadPool pool(2);
  std::atomic<int> sum{0};
  pool.map([&sum](int x) { sum += x; }, std::vector<int>{1, 2, 3});
  CHECK(sum == 6);
  const auto text = std::make_shared<std::string>("shared");
  CHECK(pool.apply([text](int n) { return *text + std::to_string(n); }, 1) == "shared1");
}

struct Unpackable {  // neither default-constructible nor packable: threads do not mind
  explicit Unpackable(int v) : value(std::make_unique<int>(v)) {}
  std::unique_ptr<int> value;
};

TEST_CASE("results need not be packable nor default-constructible") {
  ThreadPool pool(2);
  const auto results = pool.map([](int i) { return Unpackable(i); }, std::vector<int>{1, 2, 3});
  CHECK(*results.at(2).value == 3);
  CHECK(*pool.apply([] { return Unpackable(7); }).value == 7);
  CHECK(pool.map([](int i) { return i > 1; }, std::vector<int>{1, 2}) == std::vector<bool>{false, true});
}

TEST_CASE(
    "items are looked at where they lie, so they may be move-only, and a function that changes them gets a "
    "copy") {
  ThreadPool pool(2);
  std::vector<std::unique_ptr<int>> items;
  items.push_back(std::make_unique<int>(7));
  CHECK(pool.map([](const std::unique_ptr<int>& p) { return *p; }, items) == std::vector<int>{7});
  CHECK(pool.map_async([](const std::unique_ptr<int>& p) { return *p; }, std::move(items)).get() ==
        std::vector<int>{7});
  std::vector<std::string> words{"a"};
  CHECK(pool.map([](std::string& s) { return s += "!"; }, words) == std::vector<std::string>{"a!"});
  CHECK(words[0] == "a");
}

TEST_CASE("items of lists and maps, tuples by starmap") {
  ThreadPool pool(2);
  CHECK(pool.map([](int x) { return -x; }, std::list<int>{1, 2}) == std::vector<int>{-1, -2});
  CHECK(pool.map([](bool bit) { return !bit; }, std::vector<bool>{true, false}) ==
        std::vector<bool>{false, true});
  const std::map<int, int> m{{1, 10}, {2, 20}};
  CHECK(pool.map([](const std::pair<const int, int>& p) { return p.first + p.second; }, m) ==
        std::vector<int>{11, 22});
  CHECK(pool.starmap(add, std::vector<std::tuple<int, int>>{{1, 2}, {3, 4}}) == std::vector<int>{3, 7});
}

TEST_CASE("as many tasks run at once as the pool has threads, more than cores too") {
  ThreadPool pool(6);
  std::atomic<int> here{0};
  // Each waits until all six are there: this ends only if they run at once.
  const auto meet = [&here](int) {
    ++here;
    while (here < 6) std::this_thread::yield();
  };
  pool.map(meet, std::vector<int>(6), {.chunk = 1});
  here = 0;
  std::vector<AsyncResult<void>> results;
  for (int i = 0; i < 6; ++i) results.push_back(pool.apply_async(meet, i));
  for (auto& result : results) result.get();
}

TEST_CASE("two pools do not take each other's threads") {
  ThreadPool small(1);
  ThreadPool large(4);
  std::atomic<int> here{0};
  large.map(
      [&here](int) {
        ++here;
        while (here < 4) std::this_thread::yield();
      },
      std::vector<int>(4), {.chunk = 1});
  CHECK(here == 4);
  CHECK(small.apply(add, 1, 2) == 3);
}

TEST_CASE("many calls come back each") {
  ThreadPool pool(2);
  std::vector<AsyncResult<int>> results;
  for (int i = 0; i < 20'000; ++i) results.push_back(pool.apply_async(add, i, 1));
  for (int i = 0; i < 20'000; ++i) REQUIRE(results[static_cast<std::size_t>(i)].get() == i + 1);
}

TEST_CASE("the exception of a task is thrown as it is") {
  ThreadPool pool(2);
  CHECK_THROWS_WITH_AS(pool.apply([] { throw std::domain_error("d"); }), "d", std::domain_error);
  CHECK_THROWS_AS(pool.apply([] { throw 42; }), int);
  const auto picky = [](int i) {
    if (i % 10 == 3) throw std::out_of_range(std::to_string(i));
    return i;
  };
  std::vector<int> items(100);
  std::iota(items.begin(), items.end(), 0);
  CHECK_THROWS_AS(pool.map(picky, items), std::out_of_range);
  CHECK_THROWS_AS(pool.map_async(picky, items).get(), std::out_of_range);
  CHECK(pool.apply(add, 1, 2) == 3);
}

TEST_CASE("a task may wait for tasks of its own pool, even of a pool of one") {
  ThreadPool pool(1);
  CHECK(pool.apply([&pool] { return pool.apply(add, 1, 2) + pool.apply(add, 3, 4); }) == 10);
  CHECK(pool.apply([&pool] {
    const auto ys = pool.map(square, std::vector<double>{1, 2, 3});
    return std::accumulate(ys.begin(), ys.end(), 0.0);
  }) == 14);
  std::function<int(int)> fibonacci = [&](int n) {
    if (n < 2) return n;
    auto one = pool.apply_async(fibonacci, n - 1);
    auto two = pool.apply_async(fibonacci, n - 2);
    return one.get() + two.get();
  };
  CHECK(pool.apply(fibonacci, 12) == 144);
}

// ---- Tasks that wait for tasks.

TEST_CASE("a task that waits runs what it waits for, and no other task") {
  ThreadPool pool(1);
  std::atomic<bool> waits{false};
  bool ran_on_top = false;
  std::thread::id waiter;
  AsyncResult<void> other;
  CHECK(pool.apply([&] {
    waiter = std::this_thread::get_id();
    other = pool.apply_async([&] { ran_on_top = waits && std::this_thread::get_id() == waiter; });
    waits = true;
    const int sum = pool.apply(add, 1, 2);
    waits = false;
    return sum;
  }) == 3);
  other.get();
  CHECK_FALSE(ran_on_top);
}

TEST_CASE("a mutex may be held over a nested map") {
  ThreadPool pool(2);
  std::mutex mutex;
  const auto task = [&](double x) {
    const std::lock_guard lock(mutex);
    const auto ys = pool.map(square, numbers(64), {.chunk = 1});
    return x + pool.apply([&] { return ys.back(); });
  };
  const auto sums = pool.map(task, numbers(200), {.chunk = 1});
  for (std::size_t i = 0; i < sums.size(); ++i) REQUIRE(sums[i] == static_cast<double>(i) + 63 * 63);
}

TEST_CASE("any number of tasks may wait for one that runs") {
  ThreadPool pool(2);
  std::atomic<bool> goes_on{false};
  auto loaded = pool.apply_async([&] {
    while (!goes_on) std::this_thread::yield();
    return 7;
  });
  std::vector<AsyncResult<int>> all;
  for (int i = 0; i < 20'000; ++i) {
    all.push_back(pool.apply_async([loaded, i] {
      auto mine = loaded;
      return mine.get() + i;
    }));
  }
  goes_on = true;
  for (int i = 0; i < 20'000; ++i) REQUIRE(all[static_cast<std::size_t>(i)].get() == 7 + i);
}

TEST_CASE("long chains of tasks that wait for each other end, whatever their order") {
  constexpr std::size_t length = 3'000;
  for (const bool forwards : {true, false}) {
    CAPTURE(forwards);
    ThreadPool pool(2);
    std::vector<AsyncResult<std::size_t>> chain(length);
    std::atomic<bool> complete{false};
    for (std::size_t i = 0; i < length; ++i) {
      chain[i] = pool.apply_async([&, i]() -> std::size_t {
        while (!complete) std::this_thread::yield();
        const bool last = forwards ? i == 0 : i == length - 1;
        if (last) return 1;
        auto next = chain[forwards ? i - 1 : i + 1];
        return next.get() + 1;
      });
    }
    complete = true;
    CHECK(chain[forwards ? length - 1 : 0].get() == length);
  }
}

TEST_CASE("tasks that each submit and wait for the next one go thousands deep") {
  ThreadPool pool(1);
  std::function<int(int)> descend = [&](int n) {
    std::array<volatile char, 4096> much{};  // of the stack
    much[0] = 1;
    return n == 0 ? 0 : pool.apply(descend, n - 1) + much[0];
  };
  CHECK(pool.apply(descend, 5'000) == 5'000);
}

TEST_CASE("while a task waits, another thread runs the tasks that are left") {
  ThreadPool pool(2);
  std::atomic<bool> third{false};
  auto one = pool.apply_async([&third] {
    while (!third) std::this_thread::yield();
    return 1;
  });
  auto two = pool.apply_async([one] {
    auto first = one;
    return first.get() + 1;
  });
  auto three = pool.apply_async([&third] { third = true; });
  CHECK(two.get() == 2);
  three.get();
}

TEST_CASE(
    "a wait with a time limit inside of a task does not run the task on top, and still gets its result") {
  ThreadPool pool(1);
  std::atomic<int> numbers_seen{0};
  CHECK(pool.apply([&] {
    auto result = pool.apply_async([&] {
      numbers_seen += this_task::worker();
      return std::this_thread::get_id();
    });
    return result.get(std::chrono::seconds(30)) != std::this_thread::get_id();
  }));
  CHECK(numbers_seen == 0);  // it has the number of the one that waits: below the size
}

TEST_CASE("a task may wait for a coroutine of its own pool, and for another pool that waits for the first") {
  ThreadPool pool(1);
  const auto coroutine = [](ThreadPool& p) -> AsyncResult<int> {
    co_return co_await p.apply_async(add, 1, 2) + 1;
  };
  CHECK(pool.apply([&] { return coroutine(pool).get(); }) == 4);
  ThreadPool other(1);
  CHECK(pool.apply([&] {
    return other.map([&](int x) { return pool.apply(add, x, 1); }, std::vector<int>{1, 2, 3});
  }) == std::vector<int>{2, 3, 4});
}

TEST_CASE("an item of a map may close the pool") {
  ThreadPool pool(2);
  auto result = pool.map_async(
      [&](int i) {
        if (i < 2) pool.close();
        return i;
      },
      std::vector<int>{0, 1, 2, 3}, {.chunk = 1});
  CHECK(result.get() == std::vector<int>{0, 1, 2, 3});
}

// ---- What cannot start.

#if !defined(__SANITIZE_THREAD__)  // which wants threads of its own
TEST_CASE("a pool of threads for which no thread can be started says so, and works once there are threads") {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    if (::getuid() == 0 && ::setuid(54'321) != 0) ::_exit(2);
    rlimit before{};
    ::getrlimit(RLIMIT_NPROC, &before);
    const rlimit none{.rlim_cur = 1, .rlim_max = before.rlim_max};
    ::setrlimit(RLIMIT_NPROC, &none);
    const auto refused = [](auto use) {
      try {
        use();
        return false;
      } catch (const ResourceExhausted& e) {
        return std::string(e.what()).find("ulimit -u") != std::string::npos;
      }
    };
    int failed = 0;
    {
      ThreadPool pool(2);
      for (int i = 0; i < 3; ++i) {
        if (!refused([&] { pool.apply(add, 1, 2); })) failed |= 4;
        if (!refused([&] { pool.map(square, numbers(100)); })) failed |= 8;
        if (!refused([&] { pool.map_async(square, numbers(100)).get(); })) failed |= 16;
      }
      ::setrlimit(RLIMIT_NPROC, &before);
      if (pool.apply(add, 1, 2) != 3) failed |= 32;
      ::setrlimit(RLIMIT_NPROC, &none);
      // One thread is there, and not the second: so two tasks could not run at once.
      if (!refused([&] { pool.map_async([](int) {}, std::vector<int>(2), {.chunk = 1}).get(); }))
        failed |= 64;
    }
    ::_exit(failed);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

#endif

TEST_CASE("queued calls can be cancelled, running ones are asked") {
  ThreadPool pool(1);
  std::atomic<bool> started{false};
  auto busy = pool.apply_async([&] {
    started = true;
    while (!this_task::stop_requested()) std::this_thread::yield();
    return 5;
  });
  auto queued = pool.apply_async(add, 1, 2);
  while (!started) std::this_thread::yield();
  CHECK(queued.cancel());
  CHECK(queued.cancel());  // it stays cancelled
  CHECK_THROWS_AS(queued.get(), Cancelled);
  CHECK_FALSE(busy.cancel());
  CHECK(busy.get() == 5);
}

TEST_CASE("a map can be cancelled") {
  ThreadPool pool(2);
  auto result = pool.map_async(
      [](int) {
        while (!this_task::stop_requested()) std::this_thread::yield();
      },
      std::vector<int>(100));
  CHECK(result.cancel());
  CHECK_THROWS_AS(result.get(), Cancelled);
}

TEST_CASE("a deadline asks the task to end and is an error when it has") {
  ThreadPool pool(1);
  const auto patient = [] {
    while (!this_task::stop_requested()) std::this_thread::yield();
  };
  CHECK_THROWS_AS(pool.with({.deadline = std::chrono::milliseconds(5)}).apply(patient), DeadlineExceeded);
  CHECK_THROWS_AS(
      pool.map([&](int) { patient(); }, std::vector<int>{1}, {.deadline = std::chrono::milliseconds(5)}),
      DeadlineExceeded);
}

TEST_CASE("streams, continuations, coroutines, iteration, metadata") {
  ThreadPool pool(2);
  int expected = 0;
  for (const int y : pool.imap([](int x) { return x + 1; }, std::vector<int>{0, 1, 2}))
    CHECK(y == ++expected);
  std::set<int> got;
  std::vector<int> items(200);
  std::iota(items.begin(), items.end(), 0);
  for (const int y : pool.imap_unordered([](int x) { return x; }, items, {.chunk = 3})) got.insert(y);
  CHECK(got.size() == 200);
  CHECK(pool.apply_async(add, 1, 2).then([](int x) { return 2 * x; }).get() == 6);
  const auto coroutine = [](ThreadPool& p) -> AsyncResult<int> {
    co_return co_await p.apply_async(add, 1, 2) + 1;
  };
  CHECK(coroutine(pool).get() == 4);
  double next = 0;
  auto result = pool.map_async(square, numbers(1000), {.chunk = 100});
  for (const double y : result) {
    REQUIRE(y == next * next);
    ++next;
  }
  CHECK(next == 1000);
  CHECK(result.metadata().size() == 10);
  CHECK(result.progress().done == 1000);
}

TEST_CASE("progress is reported, and an exception of the report ends the map") {
  ThreadPool pool(2);
  Progress last;
  pool.map(square, numbers(1000), {.progress = [&](const Progress& p) { last = p; }});
  CHECK(last.done == 1000);
  CHECK_THROWS_WITH_AS(
      pool.map(square, numbers(1000),
               {.progress = [](const Progress&) { throw std::runtime_error("pen is dry"); }}),
      "pen is dry", std::runtime_error);
}

TEST_CASE("a result outlives its pool, and the pool waits for what was submitted") {
  AsyncResult<int> result;
  std::atomic<int> done{0};
  {
    ThreadPool pool(2);
    result = pool.apply_async(add, 1, 2);
    for (int i = 0; i < 100; ++i) static_cast<void>(pool.apply_async([&done] { ++done; }));
  }
  CHECK(done == 100);
  CHECK(result.get() == 3);
}

// The last to hold a pool, in one of its tasks.
struct Keeper {
  Keeper(std::shared_ptr<ThreadPool> p, std::atomic<bool>& d) : pool(std::move(p)), done(d) {}
  std::shared_ptr<ThreadPool> pool;
  std::atomic<bool>& done;
  ~Keeper() {
    pool.reset();
    done = true;
  }
};

TEST_CASE("a pool may be dropped by its own task") {
  std::atomic<int> others{0};
  std::atomic<bool> done{false};
  auto pool = std::make_shared<ThreadPool>(2);
  std::atomic<bool> dropped{false};
  static_cast<void>(pool->apply_async([keeper = std::make_shared<Keeper>(pool, done), &dropped] {
    while (!dropped) std::this_thread::yield();
  }));
  for (int i = 0; i < 10; ++i) static_cast<void>(pool->apply_async([&others] { ++others; }));
  pool.reset();
  dropped = true;
  while (!done) std::this_thread::yield();
  CHECK(others == 10);
}

TEST_CASE("several tasks and their caller may close a pool") {
  ThreadPool pool(3);
  std::atomic<bool> submitted{false};  // a closed pool takes no second task
  const auto close = [&] {
    submitted.wait(false);
    pool.close();
  };
  auto one = pool.apply_async(close);
  auto two = pool.apply_async(close);
  submitted = true;
  submitted.notify_all();
  pool.close();
  one.get();
  two.get();
}

TEST_CASE("a pool can be closed and destroyed in a fork of its process") {
  auto pool = std::make_unique<ThreadPool>(2);
  auto result = pool->apply_async(add, 1, 2);
  CHECK(result.then([](int sum) { return sum; }).get() == 3);
  std::atomic<bool> goes_on{false};
  auto running = pool->apply_async([&] {
    while (!goes_on) std::this_thread::yield();
  });
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(10);  // instead of waiting for threads that only the parent has
    const auto refused = [](auto use) {
      try {
        use();
        return false;
      } catch (const Error& e) {
        return std::string(e.what()).find("is a fork of the one that made the pool of threads") !=
               std::string::npos;
      }
    };
    const bool errors = refused([&] { static_cast<void>(pool->apply_async(add, 1, 2)); }) &&
                        refused([&] { pool->map(square, numbers(3)); }) && refused([&] { running.get(); });
    pool->close();
    pool.reset();
    ::_exit(errors && result.get() == 3 ? 0 : 1);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  goes_on = true;
  running.get();
}

TEST_CASE("program: a pool of threads and its end" * doctest::skip()) {
  ThreadPool pool(2);
  auto many = pool.map_async(square, numbers(100));
  CHECK(pool.apply(add, 1, 2) == 3);
  CHECK(many.get().size() == 100);
}

TEST_CASE("a program that ends right after its pool of threads leaks nothing") {
  const std::string command = "/proc/" + std::to_string(::getpid()) +
                              "/exe --no-skip -tc='program: a pool of threads and its end' >/dev/null";
  for (int i = 0; i < 20; ++i) REQUIRE(std::system(command.c_str()) == 0);
}

TEST_CASE("a task may wait for continuations and streams of its own pool, even of one thread") {
  ThreadPool pool(1);
  CHECK(pool.apply([&pool] {
    return pool.apply_async(add, 1, 2).then([](int sum) { return sum + 1; }).get();
  }) == 4);
  std::atomic<int> calls{0};
  pool.apply([&] {
    for (auto&& nothing : pool.imap([&calls](int) { ++calls; }, std::vector<int>(5)))
      static_cast<void>(nothing);
    for (auto&& nothing : pool.imap_unordered([&calls](int) { ++calls; }, std::vector<int>(5)))
      static_cast<void>(nothing);
  });
  CHECK(calls == 10);
}

TEST_CASE("cancelling a continuation cancels what it waits for") {
  ThreadPool pool(1);
  std::atomic<bool> goes_on{false};
  auto first = pool.apply_async([&] {
    while (!goes_on) std::this_thread::yield();
  });
  auto second = pool.apply_async(add, 1, 2).then([](int sum) { return sum; });
  CHECK(second.cancel());
  goes_on = true;
  CHECK_THROWS_AS(second.get(), Cancelled);
  first.get();
}

TEST_CASE("a closed pool of threads takes nothing more") {
  ThreadPool pool(1);
  pool.close();
  CHECK_THROWS_WITH_AS(pool.apply(add, 1, 2), "this pool of threads is closed; it takes no more tasks",
                       Error);
  CHECK_THROWS_AS(pool.map(square, numbers(3)), Error);
  CHECK_THROWS_AS(static_cast<void>(pool.map_async(square, numbers(3))), Error);
}

TEST_CASE("a chunk larger than the range is one chunk, by threads as well") {
  ThreadPool pool(2);
  CHECK(pool.map(square, numbers(3), {.chunk = SIZE_MAX}) == std::vector<double>{0, 1, 4});
  CHECK(pool.map_async(square, numbers(3), {.chunk = SIZE_MAX - 1}).get() == std::vector<double>{0, 1, 4});
}

TEST_CASE("a number of threads that cannot be is refused") {
  CHECK_THROWS_WITH_AS(ThreadPool(-1), doctest::Contains("a pool of -1 threads"), Error);
  CHECK_THROWS_AS(ThreadPool(2000), Error);
  CHECK(ThreadPool().size() >= 1);
}

}  // namespace
}  // namespace manyhands
