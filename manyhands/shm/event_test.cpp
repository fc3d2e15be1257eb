#include "manyhands/shm/event.hpp"

#include <doctest/doctest.h>

#include <thread>

#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::Recorder;
using test::Words;

bool somebody_sleeps(const Event& event) {
  return (shm::at<std::atomic<std::uint32_t>>(event.block()->offset()) & 2) != 0;
}

TEST_CASE("an event is set until it is cleared") {
  const Event e;
  CHECK_FALSE(e.is_set());
  CHECK_FALSE(e.wait(Duration(0)));
  e.set();
  e.set();
  CHECK(e.is_set());
  CHECK(e.wait());
  e.clear();
  CHECK_FALSE(e.is_set());
  const Deadline deadline(120ms);
  CHECK_FALSE(e.wait(120ms));
  CHECK(deadline.passed());
  CHECK(Event(e.block()) == e);
}

TEST_CASE("set lets all processes go that wait") {
  const Event e;
  const Words words;
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i) {
    children.emplace_back([=] {
      ++words[0];
      e.wait();
    });
  }
  CHECK(test::eventually([&] { return words[0] == 3 && somebody_sleeps(e); }));
  e.set();
  for (auto& child : children) CHECK(child.wait() == 0);
}

TEST_CASE("a set that is cleared at once still lets those go that wait") {
  const Event e;
  for (int round = 0; round < 20; ++round) {
    Child child([=] {
      if (!e.wait()) ::_exit(2);
    });
    CHECK(test::eventually([&] { return somebody_sleeps(e); }));
    e.set();
    e.clear();
    CHECK(child.wait() == 0);
  }
}

TEST_CASE("what was written before set is seen after wait") {
  const Event there;
  const Event back;
  int word = 0;  // not atomic: ThreadSanitizer looks
  std::thread other([&] {
    for (int i = 0; i < 1'000; ++i) {
      there.wait();
      ++word;
      there.clear();
      back.set();
    }
  });
  for (int i = 0; i < 1'000; ++i) {
    back.clear();
    ++word;
    there.set();
    back.wait();
  }
  other.join();
  CHECK(word == 2'000);
}

TEST_CASE("what was written before set is seen after is_set, also if it was set before") {
  for (int round = 0; round < 200; ++round) {
    const Event e;
    e.set();
    int word = 0;  // not atomic: ThreadSanitizer looks
    std::atomic<bool> there{false};
    std::thread other([&] {
      word = 1;
      e.set();
      there.store(true, std::memory_order_relaxed);  // orders nothing
    });
    while (!there.load(std::memory_order_relaxed)) std::this_thread::yield();
    CHECK(e.is_set());
    CHECK(word == 1);
    other.join();
  }
}

TEST_CASE("a scheduler decides when a wait is over") {
  const Event e;
  Recorder recorder;
  CHECK_FALSE(e.wait(Duration(0)));
  CHECK_FALSE(e.wait(1h));
  CHECK_THROWS_AS(e.wait(), Recorder::Blocked);
  recorder.when_blocked = [&] {
    e.set();
    e.clear();
  };
  CHECK(e.wait());
  e.set();
  CHECK(e.is_set());
  CHECK(recorder.take() == "wait wait wait wait wait wait wait set wait");
}

}  // namespace
}  // namespace manyhands
