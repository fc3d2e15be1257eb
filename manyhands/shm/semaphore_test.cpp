#include "manyhands/shm/semaphore.hpp"

#include <doctest/doctest.h>

#include <mutex>
#include <thread>

#include "manyhands/base/error.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::Recorder;
using test::Words;

TEST_CASE("a semaphore gives as many permits as it has") {
  const Semaphore s(2);
  CHECK(s.value() == 2);
  CHECK(s.acquire());
  CHECK(s.try_acquire());
  CHECK_FALSE(s.try_acquire());
  CHECK_FALSE(s.acquire(Duration(-1)));
  CHECK(s.value() == 0);
  s.release(3);
  CHECK(s.value() == 3);
  s.release(0);
  CHECK(s.value() == 3);
  CHECK(Semaphore().value() == 1);
  CHECK(Semaphore(s.block()) == s);
}

TEST_CASE("numbers of permits that make no sense are refused") {
  CHECK_THROWS_WITH_AS(Semaphore(-1), doctest::Contains("-1 permits"), Error);
  CHECK_THROWS_AS(Semaphore(Semaphore::max() + 1), Error);
  const Semaphore s(Semaphore::max());
  CHECK_THROWS_AS(s.release(), Error);
  CHECK_THROWS_AS(s.release(-1), Error);
  CHECK(s.value() == Semaphore::max());
}

TEST_CASE("a bounded semaphore never has more permits than at its start") {
  const BoundedSemaphore s(2);
  CHECK_THROWS_WITH_AS(s.release(), doctest::Contains("released more often than acquired"), Error);
  CHECK(s.acquire());
  CHECK_THROWS_AS(s.release(2), Error);
  CHECK(s.value() == 1);
  s.release();
  CHECK(s.value() == 2);
  CHECK_THROWS_AS(Semaphore(s.block()).release(), Error);  // by any handle
}

TEST_CASE("acquire waits as long as it was told, and no longer") {
  const Semaphore s(0);
  const Deadline deadline(120ms);
  CHECK_FALSE(s.try_acquire_for(120ms));
  CHECK(deadline.passed());
  const Words words;
  Child child([=] {
    while (words[0] == 0) std::this_thread::yield();
    s.release();
  });
  words[0] = 1;
  CHECK(s.acquire(10s));
  CHECK(child.wait() == 0);
}

TEST_CASE("it works with the standard's guards") {
  const Semaphore s(1);
  {
    const std::scoped_lock guard(s);
    CHECK(s.value() == 0);
  }
  CHECK(s.value() == 1);
}

TEST_CASE("two threads pass a word back and forth, and each sees what the other wrote") {
  const Semaphore ping(0);
  const Semaphore pong(0);
  int word = 0;  // not atomic: ThreadSanitizer looks
  std::thread other([&] {
    for (int i = 0; i < 2'000; ++i) {
      ping.acquire();
      ++word;
      pong.release();
    }
  });
  for (int i = 0; i < 2'000; ++i) {
    ++word;
    ping.release();
    pong.acquire();
  }
  other.join();
  CHECK(word == 4'000);
}

TEST_CASE("never more than so many at once, in four processes") {
  const Semaphore s(2);
  const Words words;
  std::vector<Child> children;
  for (int i = 0; i < 4; ++i) {
    children.emplace_back([=] {
      for (int n = 0; n < 2'000; ++n) {
        const std::scoped_lock guard(s);
        const std::uint32_t now = words[0].fetch_add(1) + 1;
        if (now > 2) words[1] = now;
        if (n % 16 == 0) std::this_thread::yield();
        words[0].fetch_sub(1);
      }
    });
  }
  for (auto& child : children) CHECK(child.wait() == 0);
  CHECK(words[1] == 0);
  CHECK(s.value() == 2);
}

TEST_CASE("one release of many permits wakes as many") {
  const Semaphore s(0);
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i) children.emplace_back([=] { s.acquire(); });
  CHECK(test::eventually(
      [&] { return (shm::at<std::atomic<std::uint32_t>>(s.block()->offset()) >> 31) != 0; }));
  s.release(3);
  for (auto& child : children) CHECK(child.wait() == 0);
  CHECK(s.value() == 0);
}

TEST_CASE("a scheduler decides who gets the permit, and nobody blocks") {
  const Semaphore s(0);
  Recorder recorder;
  CHECK_FALSE(s.try_acquire());
  CHECK_FALSE(s.acquire(1h));
  CHECK_THROWS_AS(s.acquire(), Recorder::Blocked);
  recorder.when_blocked = [&] { s.release(); };
  CHECK(s.acquire());
  s.release();
  CHECK(recorder.take() == "acquire acquire acquire acquire release");
}

}  // namespace
}  // namespace manyhands
