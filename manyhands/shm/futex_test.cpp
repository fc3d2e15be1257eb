#include "manyhands/shm/futex.hpp"

#include <doctest/doctest.h>

#include <thread>

namespace manyhands::shm {
namespace {

TEST_CASE("a word that has changed already does not put the waiter to sleep") {
  FutexWord word{1};
  CHECK(futex_wait(word, 0) == WakeReason::woken);
}

TEST_CASE("a wait without a waker ends at its deadline") {
  FutexWord word{0};
  const auto start = now_ns();
  CHECK(futex_wait(word, 0, Deadline(std::chrono::milliseconds(5))) == WakeReason::timed_out);
  CHECK(now_ns() - start >= 5'000'000);
}

TEST_CASE("a sleeper sees what was written before it was woken") {
  FutexWord word{0};
  int written = 0;
  std::jthread waker([&] {
    written = 7;
    word.store(1);
    futex_wake(word);
  });
  while (word.load() == 0) static_cast<void>(futex_wait(word, 0));
  CHECK(written == 7);
}

}  // namespace
}  // namespace manyhands::shm
