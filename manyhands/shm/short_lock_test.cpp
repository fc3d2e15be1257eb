#include "manyhands/shm/short_lock.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <thread>

namespace manyhands::shm {
namespace {

using namespace std::chrono_literals;

TEST_CASE("two threads under the lock never meet") {
  ShortLock lock;
  int count = 0;
  const auto add = [&] {
    for (int i = 0; i < 20'000; ++i) {
      lock.lock();
      ++count;
      lock.unlock();
    }
  };
  {
    const std::jthread one(add);
    const std::jthread two(add);
  }
  CHECK(count == 40'000);
}

TEST_CASE("an owner that does not go on is waited for until the deadline only") {
  ShortLock lock;
  std::atomic<bool> held{false};
  std::atomic<bool> over{false};
  std::jthread owner([&] {
    lock.lock();
    held = true;
    held.notify_one();
    over.wait(false);
    lock.unlock();
  });
  held.wait(false);
  CHECK_FALSE(lock.try_lock_until(Deadline(20ms)));
  over = true;
  over.notify_one();
  CHECK(lock.try_lock_until(Deadline(10s)));
  lock.unlock();
}

TEST_CASE("a lock whose owner was killed is taken over") {
  ensure_heap();
  void* page = ::mmap(nullptr, sizeof(ShortLock), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto* lock = new (page) ShortLock;
  const pid_t child = ::fork();
  if (child == 0) {
    lock->lock();
    ::raise(SIGKILL);
  }
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(lock->try_lock_until(Deadline(10s)));
  lock->unlock();
  ::munmap(page, sizeof(ShortLock));
}

}  // namespace
}  // namespace manyhands::shm
