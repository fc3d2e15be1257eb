#include "manyhands/shm/lock_graph.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/shm/lock.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands::shm {
namespace {

using namespace std::chrono_literals;

using test::contains;
using test::eventually;

bool waits(ThreadToken token) { return token != 0 && read_wait(token, own_heap()).has_value(); }

TEST_CASE("a wait is published while its scope lives, and the one around it again afterwards") {
  const BlockPtr event = Block::create(8, BlockKind::event);
  const BlockPtr queue = Block::create(8, BlockKind::queue);
  const ThreadToken me = this_thread_token();
  const auto here = std::source_location::current();
  CHECK_FALSE(read_wait(me, own_heap()));
  {
    WaitScope outer(event->offset(), intern(here));
    auto edge = read_wait(me, own_heap());
    REQUIRE(edge);
    CHECK(edge->target == event->offset());
    CHECK_FALSE(edge->bounded);
    CHECK(edge->holder == 0);
    CHECK(edge->since_ns <= now_ns());
    CHECK(edge->since_ns > now_ns() - 10'000'000'000);
    CHECK(contains(describe_wait(me), " waits for Event "));
    CHECK(contains(describe_wait(me), "lock_graph_test.cpp:" + std::to_string(here.line())));
    {
      const WaitScope inner(queue->offset(), 0, {.bounded = true});
      edge = read_wait(me, own_heap());
      REQUIRE(edge);
      CHECK(edge->target == queue->offset());
      CHECK(edge->bounded);
    }
    edge = read_wait(me, own_heap());
    REQUIRE(edge);
    CHECK(edge->target == event->offset());
    CHECK_FALSE(edge->bounded);
    outer.look();  // nobody owns an event: no circle
  }
  CHECK_FALSE(read_wait(me, own_heap()));
  CHECK(contains(describe_wait(me), "does not wait"));
}

// Several threads, each with its own lock, that then take the next one's: a circle.
struct Circle {
  explicit Circle(std::size_t count) : locks(count), errors(count), tokens(count) {
    std::atomic<std::size_t> ready{0};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i) {
      threads.emplace_back([&, i] {
        const std::scoped_lock mine(locks[i]);
        tokens[i] = this_thread_token();
        ++ready;
        eventually([&] { return ready == count; });
        try {
          const std::scoped_lock next(locks[(i + 1) % count]);
          ++got;
        } catch (const DeadlockError& error) {
          ++deadlocks;
          errors[i] = error.what();
        }
      });
    }
    for (auto& thread : threads) thread.join();
  }

  std::vector<Lock> locks;
  std::vector<std::string> errors;
  std::vector<ThreadToken> tokens;
  std::atomic<std::size_t> deadlocks{0};
  std::atomic<std::size_t> got{0};
};

TEST_CASE("of threads that wait in a circle exactly one gives way, and the error names all") {
  for (const std::size_t count : {2U, 3U, 5U}) {
    for (int round = 0; round < 20; ++round) {
      Circle circle(count);
      REQUIRE(circle.deadlocks == 1);
      REQUIRE(circle.got == count - 1);
      std::string text;
      for (const auto& error : circle.errors) text += error;
      CHECK(contains(text, std::to_string(count) + " threads wait for each other"));
      for (std::size_t i = 0; i < count; ++i) {
        CHECK(contains(text, describe_target(circle.locks[i].block()->offset()) + " at"));
      }
      std::size_t lines = 0;
      for (std::size_t at = 0; (at = text.find(", held by", at)) != std::string::npos; ++at) ++lines;
      CHECK(lines == count);
      CHECK(contains(text, "gave way"));
    }
  }
}

TEST_CASE("a deadlock is found at once by the one who closes the circle") {
  const Lock a;
  const Lock b;
  std::atomic<ThreadToken> other{0};
  a.lock();
  std::thread thread([&] {
    b.lock();
    other = this_thread_token();
    a.lock();
    a.unlock();
    b.unlock();
  });
  REQUIRE(eventually([&] { return waits(other); }));
  const std::int64_t before = now_ns();
  CHECK_THROWS_AS(b.lock(), DeadlockError);
  CHECK(now_ns() - before < 40'000'000);  // less than a slice
  a.unlock();
  thread.join();
}

TEST_CASE("a wait with a time limit is part of no deadlock") {
  const Lock a;
  const Lock b;
  std::atomic<ThreadToken> other{0};
  a.lock();
  std::thread thread([&] {
    b.lock();
    other = this_thread_token();
    a.lock();
    a.unlock();
    b.unlock();
  });
  REQUIRE(eventually([&] { return waits(other); }));
  CHECK_FALSE(b.acquire(120ms));
  a.unlock();
  thread.join();
}

TEST_CASE("waiting for the end of a thread that waits for us is a deadlock") {
  const Lock a;
  std::atomic<ThreadToken> other{0};
  a.lock();
  std::thread thread([&] {
    other = this_thread_token();
    a.lock();
    a.unlock();
  });
  REQUIRE(eventually([&] { return waits(other); }));
  const BlockPtr process = Block::create(8, BlockKind::process);
  std::string text;
  try {
    WaitScope wait(process->offset(), 0, {.for_thread = other});
    const auto cycle = find_cycle(this_thread_token(), own_heap());
    CHECK(cycle.size() == 2);
    CHECK(victim_of(cycle) == this_thread_token());
    const LockReport report = manyhands::lock_report();
    REQUIRE(report.cycles.size() == 1);
    CHECK(report.cycles[0].size() == 2);
    CHECK(contains(to_string(report), "2 in a circle:"));
    wait.look();
  } catch (const DeadlockError& error) {
    text = error.what();
  }
  CHECK(contains(text, "waits for the end of"));
  a.unlock();
  thread.join();
}

TEST_CASE("of a circle the last to wait gives way, at the same time the greater token") {
  const std::vector<WaitEdge> cycle{
      {.waiter = 5, .since_ns = 10}, {.waiter = 9, .since_ns = 30}, {.waiter = 7, .since_ns = 30}};
  CHECK(victim_of(cycle) == 9);
  CHECK(victim_of({}) == 0);
}

TEST_CASE("no deadlock is seen where waits come and go all the time") {
  // Three threads take two locks each, in one order: they wait for each other often, and never in a circle.
  const std::vector<Lock> locks(3);
  std::atomic<bool> stop{false};
  std::atomic<int> errors{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      const Lock& first = locks[std::min(t, (t + 1) % 3)];
      const Lock& second = locks[std::max(t, (t + 1) % 3)];
      for (int i = 0; i < 2000; ++i) {
        try {
          const std::scoped_lock outer(first);
          if (i % 16 == 0) std::this_thread::yield();
          const std::scoped_lock inner(second);
        } catch (const DeadlockError&) {
          ++errors;
        }
      }
    });
  }
  std::thread looker([&] {
    while (!stop) {
      if (!lock_report(own_heap()).cycles.empty()) ++errors;
    }
  });
  for (auto& thread : threads) thread.join();
  stop = true;
  looker.join();
  CHECK(errors == 0);
}

TEST_CASE("the report names locks, holders, waits and circles") {
  const Lock named{{.name = "till"}};
  const Lock free;
  const RLock recursive;
  const BlockPtr event = Block::create(8, BlockKind::event);
  named.lock();
  const auto taken = std::source_location::current().line() - 1;
  recursive.lock();
  std::atomic<ThreadToken> other{0};
  std::thread thread([&] {
    other = this_thread_token();
    CHECK(named.acquire(1h));
    named.unlock();
  });
  REQUIRE(eventually([&] { return waits(other); }));
  const WaitScope wait(event->offset(), 0);
  const LockReport report = manyhands::lock_report();
  const auto find = [&](const std::string& name) -> const LockReport::Lock* {
    for (const auto& lock : report.locks) {
      if (lock.name == name) return &lock;
    }
    return nullptr;
  };
  REQUIRE(find("Lock 'till'"));
  CHECK(find("Lock 'till'")->kind == "Lock");
  CHECK(find("Lock 'till'")->owner->pid == ::getpid());
  CHECK(contains(find("Lock 'till'")->site, "lock_graph_test.cpp:" + std::to_string(taken)));
  CHECK(find("Lock 'till'")->held_s < 10);
  REQUIRE(find(free.name()));
  CHECK_FALSE(find(free.name())->owner);
  REQUIRE(find(recursive.name()));
  CHECK(find(recursive.name())->kind == "RLock");
  CHECK(report.waits.size() == 2);
  CHECK(report.cycles.empty());
  const std::string text = to_string(report);
  CHECK(contains(text, "for Lock 'till' at"));
  CHECK(contains(text, "with a time limit; held by"));
  CHECK(contains(text, free.name() + ": free"));
  CHECK(contains(text, "for Event "));
  CHECK(contains(text, "deadlocks: 0"));
  named.unlock();
  thread.join();
}

TEST_CASE("durations are written for people") {
  CHECK(describe_duration(7'000'000'000) == "7.0 s");
  CHECK(describe_duration(40'500'000) == "40 ms");
}

TEST_CASE("a ring in which at any moment one does not wait is no circle") {
  // Each has a lock and waits for the next one's, but for one: the second, or the last, in turn. A reader
  // that passes the second while that waits, and comes to the last when that waits again, has seen all of
  // them wait.
  constexpr std::size_t count = 64;
  std::vector<Lock> locks(count);
  std::vector<ThreadToken> members;
  for (std::size_t i = 0; i < count; ++i) {
    members.push_back(enter_fiber("member " + std::to_string(i)));
    locks[i].state().word.store(members[i]);
  }
  std::vector<std::optional<WaitScope>> waits(count);
  const auto wait = [&](std::size_t i) {
    const ThreadToken mine = exchange_this_thread(members[i]);
    waits[i].emplace(locks[(i + 1) % count].block()->offset(), 1);
    exchange_this_thread(mine);
  };
  for (std::size_t i = 0; i + 1 < count; ++i) wait(i);
  std::atomic<bool> end{false};
  std::atomic<int> turns{0};
  std::thread player([&] {
    while (!end) {
      waits[1].reset();
      wait(count - 1);
      waits[count - 1].reset();
      wait(1);
      ++turns;
    }
  });
  std::size_t circles = 0;
  const Deadline deadline(1s);
  while (!deadline.passed() || turns < 1000) {
    if (!find_cycle(members[0], own_heap()).empty()) ++circles;
  }
  end = true;
  player.join();
  CHECK(circles == 0);
  wait(count - 1);
  CHECK(find_cycle(members[0], own_heap()).size() == count);
  waits.clear();
  for (const Lock& lock : locks) lock.release();
  for (const ThreadToken member : members) leave_fiber(member);
}

}  // namespace
}  // namespace manyhands::shm
