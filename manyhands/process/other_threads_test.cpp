#include "manyhands/process/other_threads.hpp"

#include <doctest/doctest.h>
#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "manyhands/process/pool.hpp"

namespace manyhands::process {
namespace {

// A thread as a numerical library has one from its start on, and ends before a fork.
std::optional<std::jthread> library_thread;

void start_library() {
  static const int registered = ::pthread_atfork([] { library_thread.reset(); }, nullptr, nullptr);
  REQUIRE(registered == 0);
  library_thread.emplace([](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait(lock, stop, [] { return false; });
  });
}

TEST_CASE("a library's thread that ends before a fork is in nobody's way") {
  start_library();
  CHECK(threads_that_forbid_fork() == 0);
  start_library();
  Pool pool(2);
  CHECK(pool.apply([](int x) { return x + 1; }, 1) == 2);
  start_library();
  Pool forked(2, {.start = Start::fork});
  CHECK(forked.apply([](int x) { return x + 1; }, 1) == 2);
  library_thread.reset();
}

TEST_CASE("a thread of the program's own forbids a fork, and is told of") {
  const std::jthread other([](const std::stop_token& stop) {
    while (!stop.stop_requested()) std::this_thread::yield();
  });
  CHECK(threads_that_forbid_fork() == 1);
  CHECK(describe_other_threads(1).starts_with("1 other thread runs in this process"));
  CHECK(describe_other_threads(2).starts_with("2 other threads run in this process"));
}

}  // namespace
}  // namespace manyhands::process
