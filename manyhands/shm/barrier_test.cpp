#include "manyhands/shm/barrier.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include "manyhands/shm/futex.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::Recorder;
using test::Words;

template <class F>
std::string broken_by(F f) {
  try {
    f();
  } catch (const BrokenBarrier& error) {
    return error.what();
  }
  return "not broken";
}

TEST_CASE("a number of parties that makes no sense is refused") {
  CHECK_THROWS_AS(Barrier(0), Error);
  CHECK_THROWS_AS(Barrier(Barrier::max_parties + 1), Error);
  const Barrier most(Barrier::max_parties);
  CHECK(most.parties() == Barrier::max_parties);
  CHECK(Barrier(most.block()) == most);
}

TEST_CASE("alone nobody waits") {
  const Barrier barrier(1);
  for (int i = 0; i < 100; ++i) CHECK(barrier.wait() == 0);
  CHECK(barrier.n_waiting() == 0);
}

TEST_CASE("nobody goes on before all have come, and the numbers are given once each") {
  const Barrier barrier(3);
  const Words words;
  const auto work = [=] {
    for (std::uint32_t round = 0; round < 500; ++round) {
      ++words[0];
      words[1 + barrier.wait()] += 1;
      if (words[0] < 3 * (round + 1)) ::_exit(2);
      barrier.wait();
    }
  };
  Child a(work);
  Child b(work);
  work();
  CHECK(a.wait() == 0);
  CHECK(b.wait() == 0);
  for (std::size_t i = 1; i <= 3; ++i) CHECK(words[i] == 500);
}

TEST_CASE("what the action writes is seen by all whom it lets go") {
  int word = 0;  // not atomic: ThreadSanitizer looks
  const Barrier barrier(2, {.action = [&] { ++word; }});
  std::atomic<int> go{0};
  const auto play = [&](int me) {
    for (int i = 1; i <= 3'000; ++i) {
      // Both come at once, so that often the one that comes first still spins when the action runs.
      go.fetch_add(1);
      while (go.load(std::memory_order_relaxed) < 2 * i) shm::cpu_relax();
      barrier.wait();
      if (word != i) throw std::runtime_error("not seen by " + std::to_string(me));
    }
  };
  std::thread other([&] { play(1); });
  play(0);
  other.join();
  CHECK(word == 3'000);
}

TEST_CASE("what was written before the barrier is seen behind it by all") {
  const Barrier barrier(2);
  std::array<int, 2> words{};  // not atomic: ThreadSanitizer looks
  const auto play = [&](std::size_t me) {
    for (int i = 1; i <= 500; ++i) {
      words[me] = i;
      barrier.wait();
      if (words[1 - me] != i) throw std::runtime_error("not seen");
      barrier.wait();
    }
  };
  std::thread other([&] { play(1); });
  play(0);
  other.join();
  CHECK(words[0] == 500);
}

TEST_CASE("the one that comes last runs its action before the others go on") {
  int actions = 0;  // not atomic: ThreadSanitizer looks
  const Barrier barrier(2, {.action = [&] { ++actions; }});
  int seen = 0;
  std::thread other([&] {
    for (int i = 1; i <= 200; i += 2) {
      barrier.wait();
      seen += actions == i ? 1 : 0;
      barrier.wait();
    }
  });
  for (int i = 1; i <= 200; i += 2) {
    barrier.wait();
    barrier.wait();
  }
  other.join();
  CHECK(actions == 200);
  CHECK(seen == 100);
}

TEST_CASE("more threads than parties take turns") {
  const Barrier barrier(2, {.action = [] { std::this_thread::yield(); }});
  std::array<std::thread, 4> threads;
  std::atomic<int> waits{0};
  std::atomic<int> first{0};
  for (auto& thread : threads) {
    thread = std::thread([&] {
      while (waits.fetch_add(1) < 800) {
        if (barrier.wait() == 0) ++first;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(first == 400);
}

TEST_CASE("an action that throws breaks the barrier for the others") {
  const Barrier barrier(2, {.action = [] { throw std::runtime_error("no"); }});
  Child child([=] {
    if (broken_by([&] { barrier.wait(); }).find("the action threw") == std::string::npos) ::_exit(2);
  });
  CHECK(test::eventually([&] { return barrier.n_waiting() == 1; }));
  CHECK_THROWS_WITH_AS(barrier.wait(), "no", std::runtime_error);
  CHECK(child.wait() == 0);
  CHECK(barrier.broken());
}

TEST_CASE("a timeout breaks the barrier for all, until it is reset") {
  const Barrier barrier(3, {.timeout = 150ms});
  Child child([=] {
    if (broken_by([&] { barrier.wait(10s); }).find("1 of 3") != std::string::npos) ::_exit(2);
  });
  CHECK(test::eventually([&] { return barrier.n_waiting() == 1; }));
  const std::string text = broken_by([&] { barrier.wait(); });
  CHECK_MESSAGE(text.find("2 of 3 had come") != std::string::npos, text);
  CHECK(text.find("barrier_test.cpp") != std::string::npos);
  CHECK(child.wait() == 0);
  CHECK(barrier.broken());
  CHECK(barrier.n_waiting() == 0);
  CHECK_THROWS_AS(barrier.wait(), BrokenBarrier);
  CHECK_THROWS_AS(barrier.wait(Duration(0)), BrokenBarrier);
  barrier.reset();
  CHECK_FALSE(barrier.broken());
  CHECK_THROWS_AS(barrier.wait(Duration(0)), BrokenBarrier);
}

TEST_CASE("abort and reset send those away that wait") {
  const Barrier barrier(2);
  for (const bool abort : {true, false, true, false}) {
    Child child([=] {
      const std::string text = broken_by([&] { barrier.wait(); });
      if (text.find(abort ? "called abort()" : "called reset()") == std::string::npos) ::_exit(2);
    });
    CHECK(test::eventually([&] { return barrier.n_waiting() == 1; }));
    if (abort) {
      barrier.abort();
      CHECK(barrier.broken());
    }
    barrier.reset();  // at once: the waiter is told all the same
    CHECK_FALSE(barrier.broken());
    CHECK(child.wait() == 0);
  }
  // Whole as before.
  Child child([=] { barrier.wait(); });
  barrier.wait();
  CHECK(child.wait() == 0);
}

TEST_CASE("who was sent away by a reset can come again at once") {
  const Barrier barrier(3);
  std::atomic<int> sent_away{0};
  std::atomic<int> spurious{0};
  const auto wait_in_new_round = [&] {
    try {
      barrier.wait();
    } catch (const BrokenBarrier&) {
      ++spurious;
    }
  };
  for (int round = 0; round < 500; ++round) {
    const auto come = [&] {
      try {
        barrier.wait();
      } catch (const BrokenBarrier&) {
        ++sent_away;
      }
      wait_in_new_round();
    };
    std::thread a(come);
    std::thread b(come);
    REQUIRE(test::eventually([&] { return barrier.n_waiting() == 2; }));
    barrier.reset();
    wait_in_new_round();
    a.join();
    b.join();
    if (spurious != 0) barrier.reset();
  }
  CHECK(sent_away == 1000);
  CHECK(spurious == 0);
}

TEST_CASE("an abort that meets the end of a round breaks the next one") {
  const Barrier barrier(1);
  for (int round = 0; round < 200; ++round) {
    std::atomic<bool> broken{false};
    std::thread other([&] {
      try {
        for (;;) barrier.wait();
      } catch (const BrokenBarrier&) {
        broken = true;
      }
    });
    barrier.abort();
    CHECK(barrier.broken());
    other.join();
    CHECK(broken);
    barrier.reset();
  }
}

TEST_CASE("reset of an idle barrier does nothing") {
  const Barrier barrier(1);
  for (int i = 0; i < 100; ++i) barrier.reset();
  CHECK(barrier.wait() == 0);
}

TEST_CASE("a participant that is killed while it waits breaks the barrier") {
  const Barrier barrier(3);
  Child dead([=] { barrier.wait(); }, "p1");
  CHECK(test::eventually([&] { return barrier.n_waiting() == 1; }));
  Child waits([=] {
    if (broken_by([&] { barrier.wait(10s); }).find("took part in it and died") == std::string::npos)
      ::_exit(2);
  });
  CHECK(test::eventually([&] { return barrier.n_waiting() == 2; }));
  const std::string name = "p1 (pid " + std::to_string(dead.pid());
  dead.kill();
  CHECK(waits.wait() == 0);
  const std::string text = broken_by([&] { barrier.wait(); });
  CHECK_MESSAGE(text.find(name) != std::string::npos, text);
}

TEST_CASE("a participant that is killed between two rounds breaks the next one, and reset forgets it") {
  const Barrier barrier(2);
  Child dead([=] {
    barrier.wait();
    for (;;) ::pause();
  });
  barrier.wait();
  dead.kill();
  const Deadline second(1s);
  CHECK(broken_by([&] { barrier.wait(); }).find("died") != std::string::npos);
  CHECK_FALSE(second.passed());
  barrier.reset();
  Child next([=] { barrier.wait(); });
  barrier.wait();
  CHECK(next.wait() == 0);
}

TEST_CASE("participants that end in order make room for others") {
  const Barrier barrier(2);
  for (int round = 0; round < 3; ++round) {
    std::thread thread([&] { barrier.wait(); });
    barrier.wait();
    thread.join();
    Child child([=] {
      barrier.wait();
      shm::leave_barriers();
    });
    barrier.wait();
    CHECK(child.wait() == 0);
    Child exits([=] {
      barrier.wait();
      std::exit(0);  // its main thread leaves
    });
    barrier.wait();
    CHECK(exits.wait() == 0);
  }
  // Longer than a look for dead participants takes.
  CHECK(broken_by([&] { barrier.wait(200ms); }).find("was over") != std::string::npos);
}

TEST_CASE("a scheduler decides who goes on") {
  int actions = 0;
  const Barrier barrier(2, {.action = [&] { ++actions; }});
  Recorder recorder;
  recorder.when_blocked = [&] { barrier.wait(); };
  barrier.wait();
  CHECK(actions == 1);
  CHECK(recorder.take() == "set wait");
  CHECK_THROWS_AS(barrier.wait(1h), BrokenBarrier);
  barrier.reset();
  CHECK_THROWS_AS(barrier.wait(), Recorder::Blocked);
}

}  // namespace
}  // namespace manyhands
