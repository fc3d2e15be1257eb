#include "manyhands/shm/condition.hpp"

#include <doctest/doctest.h>

#include <mutex>
#include <optional>
#include <thread>

#include "manyhands/base/error.hpp"
#include "manyhands/shm/value.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::Recorder;
using test::Words;

// A child that waits once; words[1] counts those that came back. Returns once it is sure to wait: it has
// given the lock up.
Child waiter(const Condition& condition, const Words& words) {
  const std::uint32_t before = words[0];
  Child child([=] {
    const std::scoped_lock guard(condition);
    ++words[0];
    if (condition.wait()) ++words[1];
  });
  REQUIRE(test::eventually([&] { return words[0] > before; }));
  const std::scoped_lock guard(condition);
  return child;
}

TEST_CASE("only who has the lock may wait or notify") {
  const Condition c;
  CHECK_THROWS_WITH_AS(c.wait(Duration(0)), doctest::Contains("does not have its lock"), Error);
  CHECK_THROWS_AS(c.notify(), Error);
  CHECK_THROWS_AS(c.notify_all(), Error);
  const std::scoped_lock guard(c);
  c.notify();  // nobody waits: nothing happens
  CHECK_FALSE(c.wait(Duration(0)));
  CHECK_FALSE(c.wait(60ms));
}

TEST_CASE("notify lets as many go as it says, the longest waiting first") {
  const Condition c;
  const Words words;
  Child first = waiter(c, words);
  Child second = waiter(c, words);
  Child third = waiter(c, words);
  {
    const std::scoped_lock guard(c);
    c.notify();
  }
  CHECK(first.wait() == 0);
  CHECK(words[1] == 1);
  {
    const std::scoped_lock guard(c);
    c.notify_all();
  }
  CHECK(second.wait() == 0);
  CHECK(third.wait() == 0);
  CHECK(words[1] == 3);
}

TEST_CASE("a notification is not for those that come later") {
  const Condition c;
  const std::scoped_lock guard(c);
  c.notify(5);
  CHECK_FALSE(c.wait(Duration(0)));
}

TEST_CASE("wait_for goes on when the predicate holds, or at the end of its time") {
  const Condition c;
  const Words words;
  Child child([=] {
    for (std::uint32_t i = 1; i <= 3; ++i) {
      const std::scoped_lock guard(c);
      words[0] = i;
      c.notify_all();
    }
  });
  {
    const std::scoped_lock guard(c);
    CHECK(c.wait_for([&] { return words[0] == 3; }));
    CHECK_FALSE(c.wait_for([&] { return words[0] == 4; }, 60ms));
    CHECK(c.wait_for([&] { return words[0] == 3; }, Duration(0)));
  }
  CHECK(child.wait() == 0);
}

TEST_CASE("it works over a given lock, recursive or not, and gives an RLock up completely") {
  const Lock lock;
  const Condition over_lock(lock);
  {
    const std::scoped_lock guard(lock);
    over_lock.notify();
  }
  const RLock recursive;
  const Condition c(recursive);
  const Words words;
  Child child([=] {
    while (words[0] == 0) std::this_thread::yield();
    const std::scoped_lock guard(c);
    c.notify();
  });
  const std::scoped_lock guard(recursive);
  const std::scoped_lock again(recursive);
  words[0] = 1;
  CHECK(c.wait(10s));
  recursive.release();  // it has it twice, as before
  CHECK(recursive.held_by_this_thread());
  CHECK(recursive.try_lock());
  CHECK(child.wait() == 0);
  CHECK_THROWS_AS(Condition(Lock(Value<int>().block())), Error);
}

TEST_CASE("a Condition that came in a message brings its lock, which lives as long as it does") {
  std::optional<Condition> first(std::in_place);
  const shm::Offset lock = shm::at<shm::Offset>(first->block()->offset());
  const auto refs = [&] { return shm::header_of(lock).refs.load(); };
  CHECK(refs() == 2);
  const shm::BlockPtr block = first->block();
  first.reset();
  CHECK(refs() == 1);
  {
    const Condition again(block);
    const std::scoped_lock guard(again);
    again.notify();
  }
  const_cast<shm::BlockPtr&>(block).reset();
  CHECK(refs() == 0);
}

TEST_CASE("more waiters than one chunk has entries for") {
  const Condition c;
  const Words words;
  std::vector<Child> children;
  for (int i = 0; i < 40; ++i) {
    children.emplace_back([=] {
      const std::scoped_lock guard(c);
      ++words[0];
      c.wait_for([&] { return words[1] != 0; });
      ++words[2];
    });
  }
  CHECK(test::eventually([&] { return words[0] == 40; }));
  {
    const std::scoped_lock guard(c);
    words[1] = 1;
    c.notify_all();
  }
  for (auto& child : children) CHECK(child.wait() == 0);
  CHECK(words[2] == 40);
}

TEST_CASE("two threads hand a word to each other, and nothing is lost") {
  const Condition c;
  int turn = 0;
  int word = 0;  // not atomic: ThreadSanitizer looks
  const auto play = [&](int me) {
    for (int i = 0; i < 1'000; ++i) {
      const std::scoped_lock guard(c);
      c.wait_for([&] { return turn == me; });
      ++word;
      turn = 1 - me;
      c.notify();
    }
  };
  std::thread other([&] { play(1); });
  play(0);
  other.join();
  CHECK(word == 2'000);
}

TEST_CASE("a notification that its waiter throws away goes to another one") {
  const Condition c;
  const Words words;
  // The first waiter fails to take the lock again.
  Child first([=] {
    Recorder recorder;
    const std::scoped_lock guard(c);
    recorder.when_blocked = [&] {
      words[2] = 1;
      while (words[2] != 2) std::this_thread::yield();
    };
    try {
      c.wait();
    } catch (const Recorder::Blocked&) {
      words[2] = 3;
    }
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return words[2] == 1; }));
  Child second = waiter(c, words);
  {
    const std::scoped_lock guard(c);
    c.notify();
    words[2] = 2;
    REQUIRE(test::eventually([&] { return words[2] == 3; }));
  }
  CHECK(second.wait() == 0);
  CHECK(words[1] == 1);
}

TEST_CASE("LockAbandoned comes out of wait with the lock taken") {
  const Condition c;
  const Words words;
  Child child([=] {
    while (words[0] == 0) std::this_thread::yield();
    c.lock();
    c.notify();
    words[0] = 2;
    for (;;) ::pause();
  });
  std::thread killer([&] {
    while (words[0] != 2) std::this_thread::yield();
    child.kill();
  });
  {
    const std::scoped_lock guard(c);
    words[0] = 1;
    CHECK_THROWS_AS(c.wait(), LockAbandoned);
    CHECK_NOTHROW(c.notify());  // it has the lock
  }
  killer.join();
  CHECK(c.try_lock());
}

TEST_CASE("a scheduler decides when a wait is over") {
  const Condition c;
  Recorder recorder;
  const std::scoped_lock guard(c);
  recorder.take();
  recorder.when_blocked = [&] {
    const std::scoped_lock other(c);
    c.notify();
  };
  CHECK(c.wait());
  CHECK(recorder.take() == "wait release wait acquire");
  CHECK_FALSE(c.wait(1h));
  c.notify();
  CHECK(recorder.take() == "wait release wait acquire set");
}

}  // namespace
}  // namespace manyhands
