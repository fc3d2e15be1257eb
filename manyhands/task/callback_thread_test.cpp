#include "manyhands/task/callback_thread.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
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

TEST_CASE("a callback may destroy what it runs in; those behind it run all the same") {
  auto callbacks = std::make_unique<CallbackThread>();
  std::atomic<int> count = 0;
  std::atomic<bool> posted = false;
  callbacks->post([&] {
    while (!posted) std::this_thread::yield();
    callbacks.reset();
    ++count;
  });
  callbacks->post([&] { ++count; });
  posted = true;
  while (count < 2) std::this_thread::yield();
  CHECK(callbacks == nullptr);
}

TEST_CASE("in a fork of its process it can be closed and destroyed") {
  auto callbacks = std::make_unique<CallbackThread>();
  std::atomic<int> count = 0;
  callbacks->post([&] { ++count; });
  while (count == 0) std::this_thread::yield();
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(10);  // instead of waiting for a thread that only the parent has
    callbacks->close();
    callbacks.reset();
    ::_exit(0);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace
}  // namespace manyhands::task
