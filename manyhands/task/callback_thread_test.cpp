#include "manyhands/task/callback_thread.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>

namespace manyhands::task {
namespace {

TEST_CASE("callbacks run in order in another thread, and closing waits for them") {
  std::string log;
  std::thread::id where;
  {
    CallbackThread callbacks;
    for (const char c : {'a', 'b', 'c'}) {
      callbacks.post([&log, &where, c] {
        log += c;
        where = std::this_thread::get_id();
      });
    }
  }
  CHECK(log == "abc");
  CHECK(where != std::this_thread::get_id());
}

TEST_CASE("what is posted after the end runs at once") {
  CallbackThread callbacks;
  callbacks.close();
  bool ran = false;
  callbacks.post([&] { ran = true; });
  CHECK(ran);
}

TEST_CASE("a callback may post another") {
  std::atomic<int> count = 0;
  {
    CallbackThread callbacks;
    callbacks.post([&] { callbacks.post([&] { ++count; }); });
    while (count == 0) std::this_thread::yield();
  }
  CHECK(count == 1);
}

}  // namespace
}  // namespace manyhands::task
