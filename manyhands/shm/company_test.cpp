#include "manyhands/shm/company.hpp"

#include <doctest/doctest.h>
#include <signal.h>

#include <mutex>
#include <source_location>
#include <string>
#include <thread>

#include "manyhands/base/error.hpp"
#include "manyhands/base/own_thread.hpp"
#include "manyhands/shm/barrier.hpp"
#include "manyhands/shm/condition.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/semaphore.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::Words;

// Two looks and more, in which a false alarm would be raised.
constexpr Duration long_enough = 1100ms;

// What wait() throws when the only other process is killed once it waits.
template <class Wait>
std::string error_of(Wait wait) {
  const Words words;
  Child other([=] {
    while (words[0] == 0) std::this_thread::yield();
    ::raise(SIGKILL);
  });
  words[0] = 1;
  const Deadline soon(1500ms);
  std::string text;
  try {
    wait();
  } catch (const Error& error) {
    text = error.what();
  }
  CHECK_FALSE(soon.passed());
  return text;
}

TEST_CASE("a wait that nobody is left to end is an error that says what was waited for, and who is missing") {
  const Event e;
  const Semaphore s(0);
  const Condition c;
  const Barrier b(2);
  const std::string here = "company_test.cpp:" + std::to_string(std::source_location::current().line() + 1);
  const std::string of_event = error_of([&] { e.wait(); });
  CHECK(of_event.starts_with("wait() for Event "));
  CHECK(of_event.find(here) != std::string::npos);
  CHECK(of_event.ends_with("would last for ever: no other process or thread is left that could set it"));
  const std::string of_semaphore = error_of([&] { s.acquire(); });
  CHECK(of_semaphore.starts_with("acquire() of Semaphore "));
  CHECK(of_semaphore.ends_with("could release it"));
  CHECK(error_of([&] { s.lock(); }).ends_with("could release it"));
  const std::string of_condition = error_of([&] {
    const std::scoped_lock guard(c);
    try {
      c.wait();
    } catch (...) {
      c.notify();  // throws if the lock is not taken again
      throw;
    }
  });
  CHECK(of_condition.starts_with("wait() for Condition "));
  CHECK(of_condition.ends_with("could notify it"));
  CHECK(error_of([&] { b.wait(); }).find("1 of 2 had come, and nobody is left who could come") !=
        std::string::npos);
  // All can still be used.
  e.set();
  s.release();
  b.reset();
  CHECK(e.wait());
  CHECK(s.acquire());
}

TEST_CASE("a wait with a time limit ends with that, whoever is left") {
  const Event e;
  const Semaphore s(0);
  CHECK_FALSE(e.wait(600ms));
  CHECK_FALSE(s.acquire(600ms));
}

TEST_CASE("a thread that never used shared memory is company: it may set, release, notify, or come") {
  const Event e;
  const Semaphore s(0);
  const Condition c;
  const Barrier b(2);
  std::thread late([&] {
    std::this_thread::sleep_for(long_enough);
    e.set();
    std::this_thread::sleep_for(long_enough);
    s.release();
    std::this_thread::sleep_for(long_enough);
    {
      const std::scoped_lock guard(c);
      c.notify();
    }
    std::this_thread::sleep_for(long_enough);
    b.wait();
  });
  CHECK(e.wait());
  {
    const std::scoped_lock guard(c);  // before the release: nobody notifies until the wait gives it back
    CHECK(s.acquire());
    CHECK(c.wait());
  }
  b.wait();
  late.join();
}

TEST_CASE("a thread that would only later start those that come is company") {
  const Barrier b(3);
  const Words words;
  std::thread first([&] {
    b.wait();
    ++words[0];
  });
  std::this_thread::sleep_for(long_enough);
  std::thread second([&] {
    b.wait();
    ++words[0];
  });
  std::this_thread::sleep_for(long_enough);
  b.wait();
  first.join();
  second.join();
  CHECK(words[0] == 2);
}

TEST_CASE("a process that holds the block is company, whatever it does") {
  const Event e;
  const Barrier b(2);
  Child late([&] {
    std::this_thread::sleep_for(long_enough);
    e.set();
    std::this_thread::sleep_for(long_enough);
    b.wait();
  });
  CHECK(e.wait());
  b.wait();
  CHECK(late.wait() == 0);
}

#if !defined(__SANITIZE_THREAD__)  // which cannot start threads in such a fork
TEST_CASE("a forked process counts its own threads, not those that its parent had") {
  // Ours: not counted here. The child is forked when it rests: a sanitizer's locks are not made free in a
  // child, and a thread that begins holds them.
  std::atomic<bool> runs{false};
  std::atomic<bool> end{false};
  OwnThread here([&] {
    runs = true;
    runs.notify_one();
    end.wait(false);
  });
  runs.wait(false);
  Child child([] {
    const Event e;
    std::thread late([=] {
      std::this_thread::sleep_for(long_enough);
      e.set();
    });
    if (!e.wait()) ::_exit(2);
    late.join();
  });
  CHECK(child.wait() == 0);
  end = true;
  end.notify_one();
}
#endif

#if !defined(__SANITIZE_THREAD__)  // whose own thread counts
TEST_CASE("our own threads are no company, unless they have something of the user's to do") {
  std::atomic<bool> end{false};
  OwnThread ours([&] {
    while (!end) std::this_thread::yield();
  });
  const Event e;
  CHECK(test::eventually([&] { return shm::is_alone_with(*e.block()); }));
  {
    const Errand errand;
    CHECK_FALSE(shm::is_alone_with(*e.block()));
  }
  {
    std::jthread theirs([&] {
      while (!end) std::this_thread::yield();
    });
    CHECK_FALSE(shm::is_alone_with(*e.block()));
    end = true;
  }
  CHECK(test::eventually([&] { return shm::is_alone_with(*e.block()); }));
  const shm::NamedBlocks named({e.block()});
  CHECK_FALSE(shm::is_alone_with(*e.block()));
}
#endif

}  // namespace
}  // namespace manyhands
