#include "manyhands/explore/explore.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <limits>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/lock_errors.hpp"
#include "manyhands/shm/value.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;

// Processes of their own names: "p1", "p2" ...
template <class F, class... Args>
Process named(const char* name, F&& f, Args&&... args) {
  return Process(ProcessOptions{.name = name}, std::forward<F>(f), std::forward<Args>(args)...);
}

double talk_race() {
  const Value<double> arg(0.0);
  Process mult = named("mult", [](Value<double> a) { a *= 10; }, arg);
  Process add = named("add", [](Value<double> a) { a += 10; }, arg);
  mult.join();
  add.join();
  return arg.get();
}

template <class T>
std::string text_of_report(const ExploreReport<T>& report) {
  std::ostringstream out;
  out << report;
  return out.str();
}

// "file.cpp:N" for "file.cpp:12"
std::string without_lines(std::string text) {
  for (auto at = text.find(".cpp:"); at != std::string::npos; at = text.find(".cpp:", at + 1)) {
    const auto end = text.find_first_not_of("0123456789", at + 5);
    text.replace(at + 5, (end == std::string::npos ? text.size() : end) - at - 5, "N");
  }
  return text;
}

// ---- The talk's programs

TEST_CASE("the talk's race has three outcomes: 0 beside the 10 and 100 that it shows") {
  const auto report = explore(talk_race);
  CHECK(report.exhaustive());
  CHECK(report.limit() == ExploreLimit::none);
  CHECK(report.values() == std::vector<double>{0, 10, 100});
  CHECK(report.schedules() == 4);
  REQUIRE(report.outcomes().size() == 3);
  const auto& lost = report.outcomes()[0];
  CHECK(lost.kind == OutcomeKind::value);
  CHECK(lost.text == "0");
  CHECK(lost.count == 1);
  CHECK(lost.schedule.preemptions() == 1);  // the least that loses an update
  CHECK(report.outcomes()[1].schedule.preemptions() == 0);
  CHECK(report.outcomes()[2].schedule.preemptions() == 0);
  CHECK(without_lines(lost.schedule.describe()) ==
        "  mult  load   Value 1  explore_test.cpp:N\n"
        "> add   load   Value 1  explore_test.cpp:N\n"
        "  add   store  Value 1  explore_test.cpp:N\n"
        "  mult  store  Value 1  explore_test.cpp:N\n"
        "  main  join   mult     explore_test.cpp:N\n"
        "  main  join   add      explore_test.cpp:N\n"
        "  main  load   Value 1  explore_test.cpp:N\n");
}

TEST_CASE("an update in one step has no race, and one outcome for each order") {
  const auto report = explore([] {
    const Value<double> arg(0.0);
    {
      const Process mult =
          named("mult", [](Value<double> a) { a.update([](double x) { return x * 10; }); }, arg);
      const Process add =
          named("add", [](Value<double> a) { a.update([](double x) { return x + 10; }); }, arg);
    }
    return arg.get();
  });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<double>{10, 100});
}

TEST_CASE("a program whose processes do not meet has one schedule and one outcome") {
  const auto report = explore([] {
    const Value<int> a(0);
    const Value<int> b(0);
    {
      const Process p = named(
          "p",
          [](Value<int> v) {
            for (int i = 0; i < 20; ++i) v += 1;
          },
          a);
      const Process q = named(
          "q",
          [](Value<int> v) {
            for (int i = 0; i < 20; ++i) v += 2;
          },
          b);
    }
    return std::pair(a.get(), b.get());
  });
  CHECK(report.exhaustive());
  CHECK(report.schedules() == 1);
  REQUIRE(report.outcomes().size() == 1);
  CHECK(report.outcomes()[0].value == std::pair(20, 40));
  CHECK(report.outcomes()[0].text == "(20, 40)");
}

TEST_CASE("the talk's deadlock: one process takes the lock and ends, the other waits for ever") {
  const auto report = explore([] {
    const Value<double> arg(0.0);
    const Lock lock{{.when_abandoned = WhenAbandoned::wait}};
    const auto body = [](Value<double> a, Lock l) {
      l.acquire();
      a += 10;
    };
    Process p1 = named("p1", body, arg, lock);
    Process p2 = named("p2", body, arg, lock);
    p1.join();
    p2.join();
    return arg.get();
  });
  CHECK(report.exhaustive());
  REQUIRE(report.outcomes().size() == 2);
  CHECK(report.deadlocks().size() == 2);
  CHECK(without_lines(report.deadlocks()[0].text) ==
        "main waits for the end of p2 at explore_test.cpp:N\n"
        "p2 waits for Lock 1 (acquire) at explore_test.cpp:N, held by p1 (has ended) since "
        "explore_test.cpp:N");
  CHECK_THROWS_WITH_AS(static_cast<void>(report.replay(0)), doctest::Contains("held by p1 (has ended)"),
                       DeadlockError);
}

TEST_CASE("a lock whose holder ended is reported to the next one by default") {
  const auto report = explore([] {
    const Lock lock;
    const Value<int> abandoned(0);
    const auto body = [](Lock l, Value<int> a) {
      try {
        l.acquire();
      } catch (const LockAbandoned&) {
        a.update([](int x) { return x + 1; });
      }
    };
    {
      const Process p1 = named("p1", body, lock, abandoned);
      const Process p2 = named("p2", body, lock, abandoned);
    }
    return abandoned.get();
  });
  CHECK(report.exhaustive());
  CHECK(report.deadlocks().empty());
  CHECK(report.values() == std::vector<int>{1});
}

// ---- Exceptions

TEST_CASE("an exception of the body is an outcome of its own") {
  const auto report = explore([]() -> int {
    const Value<int> v(0);
    {
      const Process p = named("p", [](Value<int> a) { a = 1; }, v);
      if (v.get() == 0) throw std::out_of_range("too early");
    }
    return v.get();
  });
  CHECK(report.exhaustive());
  REQUIRE(report.outcomes().size() == 2);
  CHECK(report.values() == std::vector<int>{1});
  REQUIRE(report.exceptions().size() == 1);
  CHECK(report.exceptions()[0].text == "std::out_of_range: too early");
  CHECK_FALSE(report.exceptions()[0].value.has_value());
  CHECK_THROWS_AS(static_cast<void>(report.replay(1)), std::out_of_range);
}

TEST_CASE("what is thrown in a process does not end the others") {
  const auto report = explore([] {
    const Value<int> v(0);
    Process p = named(
        "p",
        [](Value<int> a) {
          if (a.get() == 0) throw std::runtime_error("zero");
        },
        v);
    v.set(1);
    p.join();
    return p.exit_code().value_or(-1);
  });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<int>{0, 1});
}

TEST_CASE("what leaves a process as an exception is told with the outcome") {
  const auto report = explore(
      [] {
        const Value<int> v(0);
        const std::uint32_t number = shm::current_scheduler()->start(
            "p",
            [](void* context) {
              if (static_cast<const Value<int>*>(context)->get() == 0) throw std::runtime_error("zero");
            },
            const_cast<Value<int>*>(&v));
        v.set(1);
        while (!shm::current_scheduler()->ended(number)) sleep_for(1s);
        return 5;
      },
      {.max_steps = 20});
  CHECK(report.values() == std::vector<int>{5});
  REQUIRE(report.outcomes().size() >= 2);
  std::size_t failures = 0;
  for (const auto& outcome : report.outcomes()) {
    if (outcome.failures.empty() || outcome.kind != OutcomeKind::value) continue;
    ++failures;
    CHECK(outcome.failures == std::vector<std::string>{"p threw std::runtime_error: zero"});
  }
  CHECK(failures == 1);
  CHECK(text_of_report(report).find("] 5\n      p threw std::runtime_error: zero\n") != std::string::npos);
}

// ---- Limits

TEST_CASE("with few preemptions allowed the report says that it is not all") {
  const auto none = explore(talk_race, {.max_preemptions = 0});
  CHECK_FALSE(none.exhaustive());
  CHECK(none.limit() == ExploreLimit::preemptions);
  CHECK(none.values() == std::vector<double>{10, 100});  // as in the talk
  CHECK(none.all_up_to_preemptions() == 0U);
  CHECK(text_of_report(none).find("not all schedules explored, bounded by max_preemptions = 0") == 0);
  const auto one = explore(talk_race, {.max_preemptions = 1});
  CHECK(one.values() == std::vector<double>{0, 10, 100});
  const auto many = explore(talk_race, {.max_preemptions = 100});
  CHECK(many.exhaustive());
  CHECK(many.schedules() > 4);  // as without reduction
}

int increments(int processes, int times) {
  const Value<int> v(0);
  {
    std::vector<Process> all;
    for (int i = 0; i < processes; ++i) {
      all.push_back(Process(
          ProcessOptions{.name = "p" + std::to_string(i + 1)},
          [](Value<int> a, int n) {
            for (int k = 0; k < n; ++k) a += 1;
          },
          v, times));
    }
  }
  return v.get();
}

TEST_CASE("a limit of schedules is kept and named") {
  const auto report = explore([] { return increments(3, 4); }, {.max_schedules = 500});
  CHECK_FALSE(report.exhaustive());
  CHECK(report.limit() == ExploreLimit::schedules);
  CHECK(report.runs() <= 500);
  CHECK(report.runs() >= 490);
  CHECK(text_of_report(report).find("stopped by max_schedules = 500") != std::string::npos);
}

TEST_CASE("a limit of time is kept and named") {
  const auto report = explore([] { return increments(4, 6); }, {.time = 50ms});
  CHECK(report.limit() == ExploreLimit::time);
  CHECK(report.elapsed() < 5s);
}

TEST_CASE("a loop that asks for ever is cut off, and said to be") {
  const auto report = explore(
      [] {
        const Value<bool> flag(false);
        const Process p = named(
            "p",
            [](Value<bool> f) {
              while (!f.get()) {
              }
            },
            flag);
        flag.set(true);
      },
      {.max_steps = 100});
  CHECK_FALSE(report.exhaustive());
  CHECK(report.limit() == ExploreLimit::steps);
  REQUIRE(report.outcomes().size() == 2);
  CHECK(report.outcomes()[0].text == "done");
  CHECK(report.outcomes()[1].kind == OutcomeKind::step_limit);
  CHECK_THROWS_WITH_AS(report.replay(1), doctest::Contains("100 steps"), Error);
}

TEST_CASE("every number of lost updates is found") {
  const auto report = explore([] { return increments(2, 4); });
  CHECK(report.exhaustive());
  CHECK(report.values() == std::vector<int>{2, 3, 4, 5, 6, 7, 8});
  for (const auto& outcome : report.outcomes()) CHECK(outcome.count > 0);
}

// ---- Replay

TEST_CASE("each outcome can be replayed, from the report and from its text") {
  const auto report = explore(talk_race);
  for (std::size_t i = 0; i < report.outcomes().size(); ++i) {
    CHECK(report.replay(i) == report.outcomes()[i].value);
    CHECK(replay(talk_race, report.outcomes()[i].schedule.to_string()) == report.outcomes()[i].value);
  }
  CHECK_THROWS_AS(static_cast<void>(report.replay(3)), std::out_of_range);
}

TEST_CASE("a schedule that ends early goes on without preemptions") {
  CHECK(replay(talk_race, "1 2") == 0);
  CHECK(replay(talk_race, "") == 10);
  CHECK(replay(talk_race, "2") == 100);
}

TEST_CASE("a schedule of another program is refused") {
  CHECK_THROWS_WITH_AS(replay(talk_race, "1 0"), doctest::Contains("step 2"), Error);
  CHECK_THROWS_WITH_AS(replay(talk_race, "7"), doctest::Contains("process 7"), Error);
  CHECK_THROWS_WITH_AS(replay(talk_race, "1 x"), doctest::Contains("not a schedule"), Error);
}

TEST_CASE("a program that does not do the same each time is found out") {
  static int runs;
  runs = 0;
  CHECK_THROWS_WITH_AS(explore([] {
                         const Value<int> a(0);
                         const Value<int> b(0);
                         const Process p = named(
                             "p",
                             [](Value<int> x, Value<int> y) {
                               x = 1;
                               if (++runs % 2 == 0) y = 1;
                               x = 2;
                             },
                             a, b);
                         return a.get() + b.get();
                       }),
                       doctest::Contains("came out otherwise"), Error);
  CHECK(talk_race() >= 0);  // nothing is left switched on
}

// ---- What the exploration must not disturb

TEST_CASE("no block is left behind, however schedules end") {
  explore(talk_race);  // the tables of sites and the like
  const auto before = shm::heap_statistics().allocated;
  for (int i = 0; i < 3; ++i) {
    explore(talk_race);
    explore([] {
      const Lock a;
      const Lock b;
      const auto body = [](Lock first, Lock second) {
        const std::scoped_lock one(first);
        const std::vector<int> owned(1000);  // for LeakSanitizer
        const std::scoped_lock two(second);
      };
      const Process p1 = named("p1", body, a, b);
      const Process p2 = named("p2", body, b, a);
    });
    explore(
        [] {
          const Value<bool> never(false);
          const Process p = named(
              "p",
              [](Value<bool> f) {
                const std::string owned(1000, 'x');
                while (!f.get()) {
                }
              },
              never);
        },
        {.max_schedules = 100, .max_steps = 50});
    explore([]() -> int {
      const Value<int> v(0);
      const Process p = named("p", [](Value<int> a) { a = 1; }, v);
      throw std::vector<int>(10);
    });
  }
  CHECK(shm::heap_statistics().allocated == before);
}

TEST_CASE("a process that swallows every exception does not keep a deadlock from ending") {
  const auto report = explore([] {
    const Lock lock{{.when_abandoned = WhenAbandoned::wait}};
    const auto body = [](Lock l) {
      for (int i = 0; i < 3; ++i) {
        try {
          l.lock();
          return;
        } catch (...) {
        }
      }
    };
    const Process p1 = named("p1", body, lock);
    const Process p2 = named("p2", body, lock);
  });
  CHECK(report.deadlocks().size() == 2);
}

TEST_CASE("a process that can never be ended is an error that names it, not a hang") {
  const auto stubborn = [] {
    const Lock lock;
    lock.lock();
    const Process p = named(
        "stubborn",
        [](Lock l) {
          for (;;) {
            try {
              l.lock();
            } catch (...) {
            }
          }
        },
        lock);
  };
  CHECK_THROWS_WITH_AS(explore(stubborn), doctest::Contains("'stubborn' could not be ended"), Error);
}

TEST_CASE("destructors may take steps while a schedule is unwound") {
  struct Leaves {
    Value<int> v;
    ~Leaves() { v += 1; }
  };
  const auto report = explore([] {
    const Value<int> v(0);
    const Lock lock{{.when_abandoned = WhenAbandoned::wait}};
    const auto body = [](Value<int> count, Lock l) {
      const Leaves leaves{count};
      l.lock();
    };
    const Process p1 = named("p1", body, v, lock);
    const Process p2 = named("p2", body, v, lock);
  });
  CHECK(report.exhaustive());
  CHECK(report.deadlocks().size() == report.outcomes().size());
}

TEST_CASE("explored programs cannot explore") {
  const auto report = explore([] { return explore(talk_race).values().size(); });
  REQUIRE(report.outcomes().size() == 1);
  CHECK(report.outcomes()[0].kind == OutcomeKind::exception);
  CHECK(report.outcomes()[0].text.find("being explored itself") != std::string::npos);
}

TEST_CASE("several threads explore at the same time, and others use the primitives meanwhile") {
  std::vector<std::thread> threads;
  std::vector<std::size_t> found(3);
  for (std::size_t& count : found)
    threads.emplace_back([&count] { count = explore(talk_race).outcomes().size(); });
  const Value<int> v(0);
  const Lock lock;
  for (int i = 0; i < 10'000; ++i) {
    const std::scoped_lock guard(lock);
    v += 1;
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(found == std::vector<std::size_t>{3, 3, 3});
  CHECK(v.get() == 10'000);
  CHECK(shm::current_scheduler() == nullptr);
  CHECK((shm::detail::watch.load() & shm::detail::watch_explore) == 0);
}

TEST_CASE("the report shows all outcomes with their schedules") {
  const std::string text = text_of_report(explore(talk_race));
  CAPTURE(text);
  CHECK(text.find("all schedules explored: 3 outcomes, 4 schedules (") == 0);
  CHECK(text.find(
            "\n[0] 0\n      1 schedule; one with 1 preemption: 1 2x2 1 0x3\n        mult  load   Value 1") !=
        std::string::npos);
  CHECK(text.find("\n[1] 10\n      2 schedules; one with 0 preemptions: ") != std::string::npos);
  CHECK(text.find("\n[2] 100\n") != std::string::npos);
}

TEST_CASE("outcomes may be of many types") {
  struct Result {
    int a;
    std::string b;
  };
  const auto report = explore([] {
    const Value<int> v(0);
    const Process p = named("p", [](Value<int> a) { a = 1; }, v);
    return Result{v.get(), "x"};
  });
  REQUIRE(report.outcomes().size() == 2);
  CHECK(report.outcomes()[0].text == "{0, \"x\"}");
}

TEST_CASE("values are shown in their order, and those that have none come last") {
  const auto report = explore([] {
    const Value<int> v(1);
    {
      const Process p = named("p", [](Value<int> a) { a = 4; }, v);
      const Process q = named("q", [](Value<int> a) { a += 1; }, v);
    }
    const double values[] = {0, 0, 3, 0, std::numeric_limits<double>::quiet_NaN(), 1};
    return values[v.get()];
  });
  REQUIRE(report.outcomes().size() == 3);
  CHECK(report.outcomes()[0].text == "1");
  CHECK(report.outcomes()[1].text == "3");
  CHECK(report.outcomes()[2].text == "nan");
}

TEST_CASE("more processes than can be explored are refused") {
  const auto report = explore([] {
    std::vector<Process> all;
    for (int i = 0; i < 64; ++i) all.push_back(named("p", [] {}));
  });
  REQUIRE(report.outcomes().size() == 1);
  CHECK(report.outcomes()[0].text.find("more than 63 processes") != std::string::npos);
}

TEST_CASE("a report is of bounded length, whatever was found") {
  const auto report = explore([] {
    const Value<int> v(0);
    const Process counter{[](Value<int> n) {
                            for (int i = 0; i < 80; ++i) n += 1;
                          },
                          v};
    const int seen = v.get();
    return std::string(10'000, 'x') + std::to_string(seen);
  });
  REQUIRE(report.outcomes().size() == 81);
  const std::string text = text_of_report(report);
  CHECK(text.size() < 200'000);
  CHECK(text.find("... and 61 more outcomes (see outcomes())") != std::string::npos);
  CHECK(text.find(" more steps ...") != std::string::npos);
}

}  // namespace
}  // namespace manyhands
