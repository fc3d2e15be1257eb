// Shared primitives whose users are killed at any moment: the others go on, and nobody waits for ever.
#include "tests/primitives.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <mutex>
#include <random>
#include <thread>

#include "manyhands/shm/barrier.hpp"
#include "manyhands/shm/condition.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/semaphore.hpp"
#include "manyhands/shm/value.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::Words;

constexpr int rounds = 100;

class Moments {
 public:
  // Somewhere within the next 300 us, often at once.
  void pass() {
    const auto us = random_() % 400;
    if (us > 100) ::usleep(static_cast<useconds_t>(us - 100));
  }
  std::size_t one_of(std::size_t count) { return random_() % count; }

 private:
  std::minstd_rand random_{20'26};  // fixed: the moments depend on the machine anyway
};

TEST_CASE("a killed waiter of a semaphore takes no permit of the others with it") {
  const Semaphore s(0);
  const Words words;
  const auto make = [&] {
    return Child([=] {
      for (;;) {
        s.acquire();
        ++words[0];
      }
    });
  };
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i) children.push_back(make());
  Moments moments;
  for (int round = 0; round < rounds; ++round) {
    s.release();
    moments.pass();
    children.erase(children.begin() + static_cast<std::ptrdiff_t>(moments.one_of(3)));
    const std::uint32_t before = words[0];
    s.release();
    REQUIRE(test::eventually([&] { return words[0] > before || s.value() == 0; }, 1s));
    children.push_back(make());
  }
  // Those that are left take all that there is.
  CHECK(test::eventually([&] { return s.value() == 0; }, 1s));
}

TEST_CASE("users of an event that are killed stop neither set nor wait") {
  const Event e;
  const Words words;
  Moments moments;
  for (int round = 0; round < rounds; ++round) {
    const std::uint32_t before = words[0];
    std::vector<Child> waiters;
    for (int i = 0; i < 2; ++i) {
      waiters.emplace_back([=] {
        e.wait();
        ++words[0];
        for (;;) ::pause();
      });
    }
    Child setter([=] {
      for (;;) {
        e.set();
        e.clear();
      }
    });
    moments.pass();
    setter.kill();
    waiters.erase(waiters.begin());
    e.set();
    REQUIRE(test::eventually([&] { return words[0] > before; }, 1s));
    e.clear();
  }
}

TEST_CASE("a waiter of a condition that is killed at the moment of notify does not eat the notification") {
  const Condition c;
  const Words words;  // [0] entered, [1] notified, [2] found the lock abandoned
  const auto make = [&] {
    const std::uint32_t before = words[0];
    Child child([=] {
      for (bool entered = false;;) {
        try {
          const std::scoped_lock guard(c);
          for (;;) {
            if (!std::exchange(entered, true)) ++words[0];
            c.wait();
            ++words[1];
          }
        } catch (const LockAbandoned&) {
          ++words[2];
        }
      }
    });
    REQUIRE(test::eventually([&] { return words[0] > before; }));
    return child;
  };
  const auto with_lock = [&](auto what) {
    for (;;) {
      try {
        const std::scoped_lock guard(c);
        what();
        return;
      } catch (const LockAbandoned&) {
        ++words[2];
      }
    }
  };
  std::vector<Child> waiters;
  for (int i = 0; i < 3; ++i) waiters.push_back(make());
  Moments moments;
  std::int64_t longest = 0;
  for (int round = 0; round < rounds; ++round) {
    const std::uint32_t before = words[1] + words[2];
    const std::int64_t start = now_ns();
    with_lock([&] {
      c.notify();
      if (round % 2 == 0) moments.pass();
    });
    if (round % 3 == 0) moments.pass();
    waiters.erase(waiters.begin());  // often the one that was notified
    // Either it came through, or it was killed with the lock, or another one got it.
    REQUIRE(test::eventually(
        [&] {
          with_lock([] {});  // finds a lock that was abandoned
          return words[1] + words[2] > before;
        },
        1s));
    longest = std::max(longest, now_ns() - start);
    waiters.push_back(make());
  }
  MESSAGE("the longest took " << longest / 1'000'000 << " ms");
}

TEST_CASE("whoever is killed while others wait at a barrier, they hear of it") {
  const Words words;  // [0] took part, [1] told
  Moments moments;
  std::int64_t longest = 0;
  for (int round = 0; round < rounds; ++round) {
    const Barrier barrier(3, {.action = [] { std::this_thread::yield(); }});
    words[0] = words[1] = 0;
    std::vector<Child> children;
    for (int i = 0; i < 3; ++i) {
      children.emplace_back([=] {
        barrier.wait();
        ++words[0];
        try {
          for (;;) barrier.wait();
        } catch (const BrokenBarrier&) {
          ++words[1];
        }
        shm::leave_barriers();
      });
    }
    REQUIRE(test::eventually([&] { return words[0] == 3; }));
    moments.pass();
    const std::int64_t start = now_ns();
    children.erase(children.begin() + static_cast<std::ptrdiff_t>(moments.one_of(3)));
    REQUIRE(test::eventually([&] { return words[1] == 2; }, 1s));
    longest = std::max(longest, now_ns() - start);
    for (auto& child : children) CHECK(child.wait() == 0);
  }
  MESSAGE("the longest took " << longest / 1'000'000 << " ms");
}

TEST_CASE("processes that are killed between all kinds of operations leave all of them usable") {
  const Value<std::uint64_t> v(0);
  const Semaphore s(1'000'000);
  const Event e;
  const Condition c;
  const auto work = [=] {
    for (;;) {
      try {
        v.update([](std::uint64_t n) { return n + 1; });
        s.acquire();
        s.release();
        e.set();
        e.wait(Duration(100'000));  // the other may have cleared it, and been killed
        e.clear();
        const std::scoped_lock guard(c);
        c.notify_all();
        c.wait(Duration(100'000));
      } catch (const LockAbandoned&) {
      }
    }
  };
  Child steady(work);
  Moments moments;
  for (int round = 0; round < rounds; ++round) {
    Child child(work);
    moments.pass();
    moments.pass();
    moments.pass();
    child.kill();
    const std::uint64_t before = v.read();
    REQUIRE(test::eventually([&] { return v.get() > before; }, 1s));
  }
  steady.kill();
  v.update([](std::uint64_t n) { return n; });
  CHECK(s.value() > 999'000);
  e.set();
  CHECK(e.wait(1s));
  for (bool taken = false; !taken;) {
    try {
      taken = c.acquire(1s);
      REQUIRE(taken);
    } catch (const LockAbandoned&) {  // by `steady`
    }
  }
}

}  // namespace
}  // namespace manyhands
