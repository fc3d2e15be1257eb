#include "manyhands/base/mutex.hpp"

#include <doctest/doctest.h>

#include <thread>

namespace manyhands {
namespace {

TEST_CASE("two threads under one Mutex lose no increment") {
  Mutex mutex;
  long count = 0;
  const auto add = [&] {
    for (int i = 0; i < 50'000; ++i) {
      const MutexLock lock(mutex);
      ++count;
    }
  };
  {
    std::jthread other(add);
    add();
  }
  CHECK(count == 100'000);
}

TEST_CASE("a lock can be given back early and is not given back twice") {
  Mutex mutex;
  MutexLock lock(mutex);
  lock.unlock();
  CHECK(mutex.try_lock());
  mutex.unlock();
  lock.lock();
  bool taken = true;
  std::jthread([&] { taken = mutex.try_lock(); }).join();
  CHECK_FALSE(taken);
}

}  // namespace
}  // namespace manyhands
