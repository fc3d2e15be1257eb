#include "manyhands/task/state.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

namespace manyhands::task {
namespace {

TEST_CASE("a state is ready once its value is set, and keeps it") {
  LocalState<int> state;
  CHECK_FALSE(state.ready());
  CHECK_FALSE(state.wait(Deadline(Duration(0))));
  state.set_value(7);
  CHECK(state.ready());
  CHECK(state.wait({}));
  CHECK(state.value() == 7);
  CHECK(state.value() == 7);
  CHECK(state.error() == nullptr);
}

TEST_CASE("an error is thrown by every look at the value") {
  LocalState<int> state;
  state.set_error(std::make_exception_ptr(std::out_of_range("x")));
  CHECK_THROWS_AS(state.value(), std::out_of_range);
  CHECK_THROWS_AS(state.take(), std::out_of_range);
}

TEST_CASE("continuations run once, in order, before and after the outcome") {
  std::string log;
  LocalState<void> state;
  state.on_ready([&] { log += "a"; });
  state.on_ready([&] { log += "b"; });
  CHECK(log.empty());
  state.set_value({});
  CHECK(log == "ab");
  state.on_ready([&] { log += "c"; });
  CHECK(log == "abc");
}

TEST_CASE("a state that dies unfinished drops its continuations") {
  bool ran = false;
  {
    LocalState<int>().on_ready([&] { ran = true; });
  }
  CHECK_FALSE(ran);
}

// Whoever lets an exception go last frees it. Its count is kept inside libstdc++, where ThreadSanitizer does
// not see that the other had done with it: without tests/tsan_suppressions.txt this is reported as a race.
TEST_CASE("the thread that set an error may be the last to let it go") {
  auto state = std::make_shared<LocalState<int>>();
  std::atomic<bool> seen{false};
  std::jthread finisher([&seen, mine = state]() mutable {
    mine->set_error(std::make_exception_ptr(std::out_of_range("x")));
    while (!seen.load(std::memory_order_relaxed)) std::this_thread::yield();
    mine.reset();
  });
  while (!state->ready()) std::this_thread::yield();
  try {
    const auto taken = std::exchange(state, nullptr);
    taken->take();
  } catch (const std::out_of_range& e) {
    CHECK(std::string_view(e.what()) == "x");
  }
  seen.store(true, std::memory_order_relaxed);
}

TEST_CASE("registering and finishing in two threads loses no continuation") {
  for (int round = 0; round < 2000; ++round) {
    LocalState<int> state;
    std::atomic<int> ran{0};
    std::jthread finisher([&] { state.set_value(1); });
    for (int i = 0; i < 3; ++i) state.on_ready([&] { ++ran; });
    finisher.join();
    REQUIRE(ran == 3);
  }
}

TEST_CASE("a waiter sees the value set in another thread, alone and among others") {
  LocalState<std::string> a;
  LocalState<std::string> b;
  std::jthread setter([&] { b.set_value("b"); });
  StateBase* both[] = {&a, &b};
  a.wait_any(both, {});
  CHECK(b.ready());
  CHECK(b.value() == "b");
}

}  // namespace
}  // namespace manyhands::task
