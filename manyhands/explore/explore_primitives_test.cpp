// Each primitive as a step of explored programs: what they may and may not end in.
#include "manyhands/explore/explore.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/process/pipe.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/process/queue.hpp"
#include "manyhands/shm/barrier.hpp"
#include "manyhands/shm/condition.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/lock_errors.hpp"
#include "manyhands/shm/semaphore.hpp"
#include "manyhands/shm/value.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;

// Processes of their own names: "p1", "p2" ...
template <class F, class... Args>
Process named(const char* name, F&& f, Args&&... args) {
  return Process(ProcessOptions{.name = name}, std::forward<F>(f), std::forward<Args>(args)...);
}

// ---- Deadlocks

TEST_CASE("two locks in opposite order deadlock in one of the two ways that matter") {
  const auto report = explore([] {
    const Lock a{{.name = "a"}};
    const Lock b{{.name = "b"}};
    const auto body = [](Lock first, Lock second) {
      const std::scoped_lock one(first);
      const std::scoped_lock two(second);
    };
    const Process p1 = named("p1", body, a, b);
    const Process p2 = named("p2", body, b, a);
  });
  CHECK(report.exhaustive());
  REQUIRE(report.outcomes().size() == 2);
  CHECK(report.outcomes()[0].text == "done");
  REQUIRE(report.deadlocks().size() == 1);
  const auto deadlock = report.deadlocks()[0];
  CHECK(deadlock.schedule.preemptions() == 1);
  CHECK(deadlock.text.find("p1 waits for Lock 'b'") != std::string::npos);
  CHECK(deadlock.text.find("p2 waits for Lock 'a'") != std::string::npos);
  CHECK(deadlock.text.find("held by p1") != std::string::npos);
}

// Three accounts, and three transfers between them.
template <class Transfer>
auto explore_bank(Transfer transfer) {
  return explore([transfer] {
    std::vector<Lock> lock;
    std::vector<Value<int>> balance;
    for (int i = 0; i < 3; ++i) {
      lock.emplace_back();
      balance.emplace_back(100);
    }
    {
      const Process p1 = named("p1", transfer, lock[0], balance[0], lock[1], balance[1], 10);
      const Process p2 = named("p2", transfer, lock[1], balance[1], lock[2], balance[2], 20);
      const Process p3 = named("p3", transfer, lock[2], balance[2], lock[0], balance[0], 30);
    }
    return std::vector<int>{balance[0].get(), balance[1].get(), balance[2].get()};
  });
}

TEST_CASE("locks that are taken at once are taken in one step, so that no order deadlocks") {
  const auto check = [](const auto& report) {
    CHECK(report.exhaustive());
    REQUIRE(report.outcomes().size() == 1);
    CHECK(report.values() == std::vector<std::vector<int>>{{120, 90, 90}});
    CHECK(report.schedules() == 6);
    CHECK(report.runs() < 2'000);
  };
  check(explore_bank([](Lock a, Value<int> from, Lock b, Value<int> to, int amount) {
    const std::scoped_lock both(a, b);
    from -= amount;
    to += amount;
  }));
  check(explore_bank([](Lock a, Value<int> from, Lock b, Value<int> to, int amount) {
    std::unique_lock one(a, std::defer_lock);
    std::unique_lock two(b, std::defer_lock);
    std::lock(one, two);
    from -= amount;
    to += amount;
  }));
}

TEST_CASE("locks that are taken at once wait for all of them, and hold none meanwhile") {
  const auto report = explore([] {
    const Lock a{{.name = "a"}};
    const Lock b{{.name = "b"}};
    const Event never;
    const auto holder = [](Lock lock, Event event) {
      const std::scoped_lock one(lock);
      event.wait();
    };
    const Process p1 = named("p1", holder, b, never);
    const Process p2 = named("p2", [](Lock x, Lock y) { const std::scoped_lock both(x, y); }, a, b);
    const Process p3 = named("p3", [](Lock x) { const std::scoped_lock one(x); }, a);
  });
  CHECK(report.exhaustive());
  REQUIRE(report.deadlocks().size() > 0);
  bool waits_for_both = false;
  for (const auto& deadlock : report.deadlocks()) {
    CHECK(deadlock.text.find("p3 waits for") == std::string::npos);
    waits_for_both |=
        deadlock.text.find("p2 waits for Lock 'a' and Lock 'b' (acquire)") != std::string::npos &&
        deadlock.text.find("of which Lock 'b' is held by p1 since") != std::string::npos;
  }
  CHECK(waits_for_both);
}

TEST_CASE("the lines of a schedule are the program's, also for what guards and destructors do") {
  const auto report = explore([] {
    const Lock a;
    const Lock b;
    const Condition changed(a);
    const Process p1 = named(
        "p1",
        [](Lock x, Lock y, Condition c) {
          {
            const std::scoped_lock both(x, y);
          }
          {
            std::unique_lock one(x, std::defer_lock);
            std::unique_lock two(y, std::defer_lock);
            std::lock(one, two);
          }
          {
            const std::lock_guard one(c);
          }
          const std::unique_lock one(c);
        },
        a, b, changed);
  });
  REQUIRE(report.outcomes().size() == 1);
  for (const auto& step : report.outcomes()[0].schedule.steps()) {
    INFO(step.operation, " ", step.object, " at ", step.where);
    CHECK((step.where.starts_with("explore_primitives_test.cpp:") || step.where == "the end of its scope" ||
           step.where == "holding it"));
  }
}

TEST_CASE("dining philosophers deadlock, and those who agree on an order do not") {
  for (const bool ordered : {false, true}) {
    for (const int n : {2, 3, 4}) {
      CAPTURE(n);
      const auto report = explore([n, ordered] {
        const std::vector<Lock> forks(static_cast<std::size_t>(n));
        std::vector<Process> philosophers;
        for (int i = 0; i < n; ++i) {
          auto left = static_cast<std::size_t>(i);
          auto right = static_cast<std::size_t>((i + 1) % n);
          if (ordered && right < left) std::swap(left, right);
          philosophers.push_back(Process(
              ProcessOptions{.name = "philosopher " + std::to_string(i)},
              [](Lock first, Lock second) {
                first.lock();
                second.lock();
                second.unlock();
                first.unlock();
              },
              forks[left], forks[right]));
        }
      });
      CHECK(report.exhaustive());
      CHECK(report.outcomes().size() == (ordered ? 1 : 2));
      CHECK(report.deadlocks().size() == (ordered ? 0 : 1));
    }
  }
}

TEST_CASE("a process that waits for itself is told so by the lock") {
  const auto report = explore([] {
    const Lock lock;
    lock.lock();
    lock.lock();
  });
  REQUIRE(report.outcomes().size() == 1);
  CHECK(report.outcomes()[0].kind == OutcomeKind::exception);
  CHECK(report.outcomes()[0].text.find("DeadlockError") != std::string::npos);
  CHECK_THROWS_AS(report.replay(0), DeadlockError);
}

// ---- The other primitives

TEST_CASE("a consumer that waits for an event sees what was written before it") {
  const auto report = explore([] {
    const Value<int> data(0);
    const Value<int> got(-1);
    const Event ready;
    {
      const Process consumer = named(
          "consumer",
          [](Value<int> d, Value<int> g, Event e) {
            e.wait();
            g = d.get();
          },
          data, got, ready);
      const Process producer = named(
          "producer",
          [](Value<int> d, Event e) {
            d = 42;
            e.set();
          },
          data, ready);
    }
    return got.get();
  });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<int>{42});
}

TEST_CASE("a flag that is set too early is found out") {
  const auto report = explore([] {
    const Value<int> data(0);
    const Value<int> got(-1);
    const Event ready;
    {
      const Process consumer = named(
          "consumer",
          [](Value<int> d, Value<int> g, Event e) {
            e.wait();
            g = d.get();
          },
          data, got, ready);
      const Process producer = named(
          "producer",
          [](Value<int> d, Event e) {
            e.set();
            d = 42;
          },
          data, ready);
    }
    return got.get();
  });
  CHECK(report.values() == std::vector<int>{0, 42});
}

TEST_CASE("both results of a wait with a time limit are explored") {
  const auto report = explore([] {
    const Event ready;
    Value<bool> in_time(false);
    {
      const Process waiter = named("waiter", [](Event e, Value<bool> r) { r = e.wait(1s); }, ready, in_time);
      const Process setter = named("setter", [](Event e) { e.set(); }, ready);
    }
    return in_time.get();
  });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<bool>{false, true});
  CHECK(report.outcomes()[0].schedule.describe().find("(timed out)") != std::string::npos);
  CHECK(report.elapsed() < 1s);
}

TEST_CASE("join with a time limit and is_alive see a process before and after its end") {
  const auto report = explore([] {
    const Value<int> v(0);
    Process p = named("p", [](Value<int> a) { a = 1; }, v);
    const bool alive = p.is_alive();
    const bool joined = p.join(1ms);
    return std::pair(alive, joined);
  });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<std::pair<bool, bool>>{{false, true}, {true, false}, {true, true}});
}

TEST_CASE("a semaphore lets as many in as it has permits") {
  const auto report = explore(
      [] {
        const Semaphore two(2);
        const Value<int> inside(0);
        const Value<int> most(0);
        const auto body = [](Semaphore s, Value<int> i, Value<int> m) {
          s.acquire();
          const int now = i.update([](int x) { return x + 1; });
          m.update([now](int x) { return std::max(x, now); });
          i.update([](int x) { return x - 1; });
          s.release();
        };
        {
          const Process p1 = named("p1", body, two, inside, most);
          const Process p2 = named("p2", body, two, inside, most);
          const Process p3 = named("p3", body, two, inside, most);
        }
        return most.get();
      },
      {.max_schedules = 20'000});
  CHECK(report.values() == std::vector<int>{1, 2});
  CHECK(report.deadlocks().empty());
}

TEST_CASE("a barrier keeps the phases of its processes apart") {
  const auto report = explore([] {
    const Barrier barrier(2);
    const Value<int> written(0);
    const Value<int> sum(0);
    const auto body = [](Barrier b, Value<int> w, Value<int> s) {
      w.update([](int x) { return x + 1; });
      b.wait();
      const int seen = w.get();
      s.update([seen](int x) { return x + seen; });
    };
    {
      const Process p1 = named("p1", body, barrier, written, sum);
      const Process p2 = named("p2", body, barrier, written, sum);
    }
    return sum.get();
  });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<int>{4});
}

TEST_CASE("a notify that comes before the wait is lost, and one that is waited for rightly is not") {
  for (const bool rightly : {false, true}) {
    const auto report = explore([rightly] {
      const Condition condition;
      const Value<bool> done(false);
      {
        const Process waiter = named(
            "waiter",
            [rightly](Condition c, Value<bool> d) {
              const std::scoped_lock guard(c);
              if (rightly) {
                while (!d.get()) c.wait();
              } else {
                c.wait();
              }
            },
            condition, done);
        const Process notifier = named(
            "notifier",
            [](Condition c, Value<bool> d) {
              const std::scoped_lock guard(c);
              d = true;
              c.notify();
            },
            condition, done);
      }
    });
    CAPTURE(rightly);
    CHECK(report.exhaustive());
    CHECK(report.deadlocks().size() == (rightly ? 0 : 1));
  }
}

TEST_CASE("a queue gives each value to one consumer, in every order") {
  const auto report = explore([] {
    Queue<int> queue(2);
    const Value<int> first(0);
    const Value<int> second(0);
    {
      const Process c1 = named("c1", [](Queue<int> q, Value<int> got) { got = q.get(); }, queue, first);
      const Process c2 = named("c2", [](Queue<int> q, Value<int> got) { got = q.get(); }, queue, second);
      const Process p = named(
          "p",
          [](Queue<int> q) {
            q.put(1);
            q.put(2);
          },
          queue);
    }
    return std::pair(first.get(), second.get());
  });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<std::pair<int, int>>{{1, 2}, {2, 1}});
}

TEST_CASE("sleeping orders nothing") {
  const auto report = explore([] {
    const Value<int> v(0);
    {
      const Process slow = named(
          "slow",
          [](Value<int> a) {
            sleep_for(24h);
            a = 1;
          },
          v);
      const Process fast = named("fast", [](Value<int> a) { a = 2; }, v);
    }
    return v.get();
  });
  CHECK(report.values() == std::vector<int>{1, 2});
  CHECK(report.outcomes()[0].schedule.preemptions() == 0);
  CHECK(report.elapsed() < 10s);
}

TEST_CASE("outside of an exploration sleep_for sleeps") {
  const std::int64_t before = now_ns();
  sleep_for(20ms);
  sleep_for(0s);
  sleep_for(-1s);
  const std::int64_t took = now_ns() - before;
  CHECK(took >= 20'000'000);
  CHECK(took < 10'000'000'000);
}

// ---- Looks: what they find depends on when one looks.

TEST_CASE("whether a lock is taken depends on when one asks") {
  const auto report = explore([] {
    const Lock lock;
    const Process p = named("p", [](Lock l) { const std::scoped_lock guard(l); }, lock);
    return lock.locked();
  });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<bool>{false, true});
}

TEST_CASE("how many permits and how many waiters there are depends on when one asks") {
  const auto permits = explore([] {
    const Semaphore s(1);
    const Process p = named("p", [](Semaphore taken) { taken.acquire(); }, s);
    return s.value();
  });
  CHECK(permits.values() == std::vector<std::int64_t>{0, 1});
  const auto waiting = explore([] {
    const Barrier b(2);
    const Process p = named("p", [](Barrier come) { come.wait(); }, b);
    const std::size_t before = b.n_waiting();
    b.wait();
    return before;
  });
  CHECK(waiting.exhaustive());
  CHECK(waiting.values().size() == 2);
}

TEST_CASE("how much is in a queue depends on when one asks") {
  const auto report = explore([] {
    const Queue<int> queue(2);
    const Process p = named("p", [](Queue<int> out) { out.put(1); }, queue);
    return queue.size();
  });
  CHECK(report.exhaustive());
  CHECK(report.values().size() == 2);
}

TEST_CASE("a queue may be closed before or after somebody puts into it, or looks whether it is") {
  const auto put = explore([] {
    Queue<int> queue(1);
    Process p = named(
        "p",
        [](Queue<int> out) {
          try {
            out.put(1);
          } catch (const QueueClosed&) {
          }
        },
        queue);
    queue.close();
    p.join();
    return queue.size();
  });
  CHECK(put.exhaustive());
  CHECK(put.values().size() == 2);
  const auto look = explore([] {
    const Queue<int> queue(1);
    const Process p = named("p", [](Queue<int> out) { out.close(); }, queue);
    return queue.closed();
  });
  CHECK(look.exhaustive());
  CHECK(look.values().size() == 2);
}

TEST_CASE("values that several processes put or send stay what they are, in every order") {
  const auto put = explore([] {
    Queue<int> queue(4);
    const Process a = named("a", [](Queue<int> out) { out.put(1); }, queue);
    const Process b = named("b", [](Queue<int> out) { out.put(2); }, queue);
    const int first = queue.get();
    return first * 10 + queue.get();
  });
  CHECK(put.exhaustive());
  CHECK(put.values() == std::vector<int>{12, 21});
  const auto sent = explore([] {
    Pipe pipe;
    const Process a = named("a", [](Connection out) { out.send(std::string("aa")); }, pipe.first);
    const Process b = named("b", [](Connection out) { out.send(std::string("bb")); }, pipe.first);
    const auto first = pipe.second.recv<std::string>();
    return first + pipe.second.recv<std::string>();
  });
  CHECK(sent.exhaustive());
  CHECK(sent.values() == std::vector<std::string>{"aabb", "bbaa"});
}

}  // namespace
}  // namespace manyhands
