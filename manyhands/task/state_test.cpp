#include "manyhands/task/state.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>

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
