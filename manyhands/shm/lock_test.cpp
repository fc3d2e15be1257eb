#include "manyhands/shm/lock.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/shm/futex.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;

using test::Child;
using test::contains;
using test::eventually;
using test::message_of;
using test::Words;

std::string line(std::uint_least32_t number) { return "lock_test.cpp:" + std::to_string(number); }

TEST_CASE("a lock is taken, refused to others, and released") {
  const Lock lock;
  CHECK_FALSE(lock.locked());
  lock.lock();
  CHECK(lock.locked());
  CHECK(lock.held_by_this_thread());
  CHECK_FALSE(lock.try_lock());
  std::thread([&] {
    CHECK_FALSE(lock.held_by_this_thread());
    CHECK_FALSE(lock.try_lock());
    CHECK_FALSE(lock.acquire(0s));
    CHECK_FALSE(lock.acquire(-1s));
    CHECK_FALSE(lock.try_lock_for(2ms));
    CHECK_FALSE(lock.try_lock_until(std::chrono::steady_clock::now() + 2ms));
  }).join();
  lock.unlock();
  CHECK_FALSE(lock.locked());
  CHECK(lock.try_lock());
  lock.release();
  CHECK(lock.acquire());
  lock.release();
  CHECK(lock.acquire(1s));
  lock.release();
  CHECK(lock.try_lock_for(std::chrono::hours(24 * 365 * 1000)));
  lock.release();
}

TEST_CASE("a wait with a time limit takes that long, also for the thread that has the lock") {
  const Lock lock;
  lock.lock();
  const std::int64_t before = now_ns();
  CHECK_FALSE(lock.acquire(20ms));
  CHECK(now_ns() - before >= 20'000'000);
}

TEST_CASE("copies are the same lock, other locks are not, and a moved-from handle stays good") {
  Lock lock;
  const Lock copy = lock;
  CHECK(copy == lock);
  CHECK_FALSE(Lock() == lock);
  const Lock moved = std::move(lock);
  lock.lock();  // NOLINT(bugprone-use-after-move)
  CHECK(copy.locked());
  copy.unlock();
  CHECK(Lock(moved.block()) == copy);
}

TEST_CASE("a lock has a name") {
  CHECK(Lock{{.name = "accounts"}}.name() == "accounts");
  CHECK(Lock{{.name = std::string(100, 'x')}}.name() == std::string(41, 'x'));
  const Lock plain;
  CHECK(plain.name() == "Lock " + std::to_string(shm::header_of(plain.block()->offset()).number));
  CHECK(RLock().name().starts_with("RLock "));
}

TEST_CASE("a handle of the other kind is refused") {
  CHECK_THROWS_AS(RLock(Lock().block()), Error);
  CHECK_THROWS_AS(Lock(RLock().block()), Error);
}

TEST_CASE("releasing a free lock is an error") {
  const Lock lock{{.name = "free one"}};
  CHECK(contains(message_of<Error>([&] { lock.release(); }), "Lock 'free one': nobody has it"));
  CHECK(lock.acquire(0s));
  lock.release();
  CHECK_THROWS_AS(RLock().release(), Error);
}

TEST_CASE("another thread may release a Lock, and a waiter gets it then") {
  const Lock lock;
  lock.lock();
  std::atomic<bool> got{false};
  std::thread waiter([&] {
    lock.lock();
    got = lock.held_by_this_thread();
    lock.unlock();
  });
  std::thread([&] {
    CHECK(eventually([&] { return (lock.state().word.load() & shm::LockState::waiters) != 0; }));
    lock.release();
  }).join();
  waiter.join();
  CHECK(got);
}

TEST_CASE("a thread that would wait for itself gets DeadlockError with both lines") {
  const Lock lock;
  lock.lock();
  const auto taken = std::source_location::current().line() - 1;
  const std::string text = message_of<DeadlockError>([&] { lock.lock(); });
  const auto again = std::source_location::current().line() - 1;
  CHECK(contains(text, line(taken)));
  CHECK(contains(text, line(again)));
  CHECK(contains(text, "mh::RLock"));
  CHECK(contains(text, lock.name()));
  CHECK(lock.held_by_this_thread());
}

TEST_CASE("an RLock is taken again by its thread and is free after as many releases") {
  const RLock lock;
  lock.lock();
  lock.lock();
  CHECK(lock.try_lock());
  CHECK(lock.acquire(1ms));
  for (int i = 0; i < 4; ++i) {
    CHECK(lock.locked());
    std::thread([&] { CHECK_FALSE(lock.try_lock()); }).join();
    lock.unlock();
  }
  CHECK_FALSE(lock.locked());
  std::thread([&] {
    CHECK(lock.try_lock());
    lock.unlock();
  }).join();
}

TEST_CASE("only its thread releases an RLock") {
  const RLock lock;
  lock.lock();
  std::thread([&] {
    const std::string text = message_of<Error>([&] { lock.release(); });
    CHECK(contains(text, "only the thread that has an RLock"));
  }).join();
  CHECK(lock.held_by_this_thread());
}

TEST_CASE("release_all gives up every level of an RLock, and take_again gives them back") {
  const auto here = std::source_location::current();
  const RLock lock;
  lock.lock();
  lock.lock();
  const std::uint32_t depth = lock.release_all(here);
  CHECK_FALSE(lock.locked());
  CHECK_THROWS_AS(lock.release_all(here), Error);
  lock.take_again(depth, here);
  lock.unlock();
  CHECK(lock.locked());
  lock.unlock();
  CHECK_FALSE(lock.locked());
  const Lock plain;
  plain.lock();
  plain.take_again(plain.release_all(here), here);
  CHECK(plain.held_by_this_thread());
}

// ---- Guards.

TEST_CASE("the standard's guards tell reports their own line") {
  const Lock lock;
  RLock second;
  const auto holds = [](const auto& held, std::uint_least32_t number) {
    return contains(shm::describe(held.state().site.load()), line(number));
  };
  {
    const std::scoped_lock guard(lock);
    CHECK(holds(lock, std::source_location::current().line() - 1));
  }
  {
    const std::lock_guard guard(lock);
    CHECK(holds(lock, std::source_location::current().line() - 1));
  }
  {
    std::unique_lock guard(lock);
    CHECK(holds(lock, std::source_location::current().line() - 1));
    guard.unlock();
    CHECK_FALSE(lock.locked());
    guard.lock();
    CHECK(holds(lock, std::source_location::current().line() - 1));
  }
  {
    const std::scoped_lock guard(lock, second);
    CHECK(holds(lock, std::source_location::current().line() - 1));
    CHECK(holds(second, std::source_location::current().line() - 2));
  }
  CHECK_FALSE(lock.locked());
  CHECK_FALSE(second.locked());
}

TEST_CASE("unique_lock behaves as the standard's") {
  Lock lock;
  std::unique_lock<Lock> deferred(lock, std::defer_lock);
  CHECK_FALSE(deferred.owns_lock());
  CHECK(deferred.try_lock_for(1ms));
  CHECK_THROWS_AS(deferred.lock(), std::system_error);
  const std::unique_lock<Lock> refused(lock, std::try_to_lock);
  CHECK_FALSE(refused);
  CHECK_FALSE(std::unique_lock(lock, 1ms));
  CHECK_FALSE(std::unique_lock(lock, std::chrono::steady_clock::now() + 1ms));
  std::unique_lock<Lock> moved = std::move(deferred);
  CHECK(moved.owns_lock());
  CHECK(moved.mutex() == &lock);
  moved.unlock();
  CHECK_THROWS_AS(moved.unlock(), std::system_error);
  CHECK(moved.try_lock());
  CHECK(moved.release() == &lock);
  CHECK(lock.locked());
  {
    const std::unique_lock adopted(lock, std::adopt_lock);
  }
  CHECK_FALSE(lock.locked());
  lock.lock();
  {
    const std::scoped_lock adopted(std::adopt_lock, lock);
  }
  lock.lock();
  {
    const std::lock_guard adopted(lock, std::adopt_lock);
  }
  CHECK_FALSE(lock.locked());
  CHECK_THROWS_AS(std::unique_lock<Lock>().lock(), std::system_error);
}

TEST_CASE("two guards over two locks in opposite order never deadlock") {
  const Lock a;
  const Lock b;
  int count = 0;
  const auto work = [&](const Lock& first, const Lock& second) {
    for (int i = 0; i < 2000; ++i) {
      const std::scoped_lock both(first, second);
      ++count;
    }
  };
  std::thread other([&] { work(a, b); });
  work(b, a);
  other.join();
  CHECK(count == 4000);
}

TEST_CASE("a guard whose lock was released meanwhile leaves the next holder's alone") {
  const Lock lock;
  std::thread other;
  {
    const std::scoped_lock guard(lock);
    std::thread([&] {
      lock.release();
      lock.lock();
      // The thread ends with the lock; what counts is that the guard does not release it.
    }).join();
  }
  CHECK(lock.locked());
}

TEST_CASE("a guard that fork() copied does not release the parent's lock") {
  const Lock lock;
  int status = -1;
  {
    const std::scoped_lock guard(lock);
    const pid_t pid = ::fork();
    if (pid == 0) {
      // leaves the scope in the child
    } else {
      ::waitpid(pid, &status, 0);
      CHECK(lock.held_by_this_thread());
    }
    if (pid == 0) {
      std::fclose(stderr);
      guard.~scoped_lock();
      ::_exit(lock.locked() ? 7 : 8);
    }
  }
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 7));
  CHECK_FALSE(lock.locked());
}

// ---- Exclusion.

template <class L>
void count_in_threads() {
  const L lock;
  long count = 0;  // plain: ThreadSanitizer sees whether the lock orders
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 3000; ++i) {
        if (t == 0) {
          while (!lock.try_lock()) std::this_thread::yield();
        } else if (t == 1) {
          while (!lock.acquire(1ms)) {
          }
        } else {
          lock.lock();
        }
        ++count;
        lock.unlock();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(count == 9000);
}

TEST_CASE("threads exclude each other by Lock") { count_in_threads<Lock>(); }
TEST_CASE("threads exclude each other by RLock") { count_in_threads<RLock>(); }

TEST_CASE("processes exclude each other") {
  const Lock lock;
  const Words shared;
  std::vector<Child> children;
  for (int p = 0; p < 3; ++p) {
    children.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        const std::scoped_lock guard(lock);
        shared[0].store(shared[0].load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      }
    });
  }
  for (auto& child : children) CHECK(child.wait() == 0);
  CHECK(shared[0] == 60'000);
}

TEST_CASE("sleeping waiters are woken one after the other, and not found by their next look") {
  const Lock lock;
  std::vector<std::int64_t> taken_ns;
  for (int round = 0; round < 7; ++round) {
    lock.lock();
    std::atomic<std::int64_t> last_ns{0};
    const auto wait = [&] {
      lock.lock();
      last_ns = now_ns();
      lock.unlock();
    };
    std::thread first(wait);
    std::thread second(wait);
    // Until both sleep in long slices.
    REQUIRE(eventually([&] {
      const LockReport report = lock_report();
      return report.waits.size() == 2 && report.waits[0].waited_s > 0.08 && report.waits[1].waited_s > 0.08;
    }));
    const std::int64_t released_ns = now_ns();
    lock.unlock();
    first.join();
    second.join();
    taken_ns.push_back(last_ns - released_ns);
  }
  std::sort(taken_ns.begin(), taken_ns.end());
  CHECK(taken_ns[3] < 10'000'000);  // the median; a slice is 50 ms
}

// ---- Abandonment, in threads; tests/locks_test.cpp kills processes.

// Takes the lock in a thread that ends with it; returns the line.
std::uint_least32_t abandon(const shm::AnyLock& lock) {
  std::thread([&] { lock.lock(); }).join();
  return std::source_location::current().line() - 1;
}

TEST_CASE("of two that take an abandoned lock over at the same moment one gets it first") {
  const Lock lock{{.when_abandoned = WhenAbandoned::adopt}};
  shm::ThreadToken ended = 0;
  std::thread([&] { ended = shm::this_thread_token(); }).join();
  std::atomic<int> go{0};
  std::atomic<int> done{0};
  std::atomic<int> inside{0};
  std::atomic<int> together{0};
  const auto take = [&] {
    try {
      const std::scoped_lock guard(lock);
      if (inside.fetch_add(1) != 0) ++together;
      for (int i = 0; i < 20; ++i) shm::cpu_relax();
      inside.fetch_sub(1);
    } catch (const Error&) {
      ++together;  // the lock was another one's
    }
  };
  constexpr int rounds = 5'000;
  std::thread other([&] {
    for (int round = 1; round <= rounds; ++round) {
      while (go.load() < round) shm::cpu_relax();
      take();
      done = round;
    }
  });
  for (int round = 1; round <= rounds; ++round) {
    lock.state().word.store(ended);  // as if that thread had taken it
    go = round;
    take();
    while (done.load() < round) std::this_thread::yield();
  }
  other.join();
  CHECK(together.load() == 0);
  CHECK_FALSE(lock.locked());
}

TEST_CASE("exactly one taker is told that the lock was abandoned, by whom and where") {
  const Lock lock{{.name = "till"}};
  const auto taken = abandon(lock);
  const std::string text = message_of<LockAbandoned>([&] { lock.lock(); });
  CHECK(contains(text, line(taken)));
  CHECK(contains(text, "Lock 'till'"));
  CHECK(contains(text,
                 " of pid " + std::to_string(::getpid()) + ", has ended)"));  // the thread, not the process
  CHECK(contains(text, "half written"));
  CHECK_FALSE(lock.locked());
  lock.lock();
  lock.unlock();
}

TEST_CASE("of many waiters one is told that the lock was abandoned, and the others get it") {
  const Lock lock;
  for (int round = 0; round < 10; ++round) {
    std::thread holder([&] {
      lock.lock();
      eventually([&] { return (lock.state().word.load() & shm::LockState::waiters) != 0; });
    });
    REQUIRE(eventually([&] { return lock.locked(); }));
    std::atomic<int> told{0};
    std::atomic<int> got{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        try {
          const std::scoped_lock guard(lock);
          ++got;
        } catch (const LockAbandoned&) {
          ++told;
        }
      });
    }
    holder.join();
    for (auto& thread : threads) thread.join();
    CHECK(told == 1);
    CHECK(got == 3);
  }
}

TEST_CASE("two takers at the same moment: one is told that the lock was abandoned, the other gets it") {
  const Lock lock;
  constexpr int rounds = 1000;
  std::atomic<int> started{0};
  std::atomic<int> ended{0};
  std::atomic<int> told{0};
  std::atomic<int> got{0};
  const auto work = [&] {
    for (int round = 1; round <= rounds; ++round) {
      while (started < round) std::this_thread::yield();
      try {
        const std::scoped_lock guard(lock);
        ++got;
      } catch (const LockAbandoned&) {
        ++told;
      }
      ++ended;
    }
  };
  std::thread first(work);
  std::thread second(work);
  for (int round = 1; round <= rounds; ++round) {
    abandon(lock);
    ++started;
    while (ended < 2 * round) std::this_thread::yield();
  }
  first.join();
  second.join();
  CHECK(told == rounds);
  CHECK(got == rounds);
}

TEST_CASE("with adopt the next taker gets an abandoned lock") {
  const Lock lock{{.when_abandoned = WhenAbandoned::adopt}};
  abandon(lock);
  lock.lock();
  CHECK(lock.held_by_this_thread());
  lock.unlock();
  const RLock recursive{{.when_abandoned = WhenAbandoned::adopt}};
  std::thread([&] {
    recursive.lock();
    recursive.lock();
  }).join();
  recursive.lock();
  recursive.unlock();
  CHECK_FALSE(recursive.locked());
}

TEST_CASE("with wait takers wait until somebody releases an abandoned lock") {
  const Lock lock{{.when_abandoned = WhenAbandoned::wait}};
  abandon(lock);
  CHECK_FALSE(lock.acquire(120ms));
  std::thread waiter([&] {
    lock.lock();
    lock.unlock();
  });
  REQUIRE(eventually([&] { return shm::lock_report(shm::own_heap()).waits.size() == 1; }));
  lock.release();
  waiter.join();
  const RLock recursive{{.when_abandoned = WhenAbandoned::wait}};
  abandon(recursive);
  recursive.release();  // its thread cannot any more
  CHECK(recursive.try_lock());
  recursive.unlock();
}

TEST_CASE("tries and short waits find out too that a lock was abandoned") {
  const Lock lock;
  const auto is_told = [&](auto take) {
    abandon(lock);
    return eventually([&] {
      bool taken = false;
      const std::string text = message_of<LockAbandoned>([&] { taken = take(); });
      REQUIRE_FALSE(taken);
      return !text.empty();
    });
  };
  CHECK(is_told([&] { return lock.try_lock(); }));
  CHECK(is_told([&] { return lock.acquire(100us); }));
  CHECK(lock.try_lock());
}

TEST_CASE("a forked child sees that the parent's other thread has the lock, and waits for it") {
  const Lock lock;
  const Words shared;
  std::thread holder([&] {
    const std::scoped_lock guard(lock);
    shared[0] = 1;
    eventually([&] { return shared[1] == 1; });
  });
  REQUIRE(eventually([&] { return shared[0] == 1; }));
  Child child([&] {
    if (!lock.locked() || lock.held_by_this_thread() || lock.try_lock()) ::_exit(1);
    if (lock.acquire(120ms)) ::_exit(2);  // long enough to look whether its holder lives
    shared[1] = 1;
    lock.lock();
    if (shared[0] != 1) ::_exit(3);
    lock.unlock();
  });
  CHECK(child.wait() == 0);
  holder.join();
}

TEST_CASE("a forked child does not own what the forking thread holds") {
  const Lock lock;
  const RLock recursive;
  lock.lock();
  recursive.lock();
  Child child([&] {
    if (lock.held_by_this_thread() || recursive.held_by_this_thread()) ::_exit(1);
    if (lock.acquire(10ms) || recursive.acquire(10ms)) ::_exit(2);
  });
  CHECK(child.wait() == 0);
  CHECK(lock.held_by_this_thread());
  CHECK(recursive.held_by_this_thread());
}

TEST_CASE("a signal handler that runs during a wait does not end it") {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  struct sigaction before{};
  ::sigaction(SIGUSR1, &action, &before);
  const Lock lock;
  lock.lock();
  std::atomic<bool> got{false};
  std::thread waiter([&] {
    lock.lock();
    got = true;
    lock.unlock();
  });
  REQUIRE(eventually([&] { return (lock.state().word.load() & shm::LockState::waiters) != 0; }));
  for (int i = 0; i < 20; ++i) {
    ::pthread_kill(waiter.native_handle(), SIGUSR1);
    std::this_thread::yield();
  }
  CHECK_FALSE(got);
  lock.unlock();
  waiter.join();
  CHECK(got);
  ::sigaction(SIGUSR1, &before, nullptr);
}

// ---- Under a scheduler, as mh::explore is one: never blocks for real.

class OneFiber final : public shm::Scheduler {
 public:
  OneFiber() {
    shm::detail::scheduler = this;
    shm::detail::watch.fetch_or(shm::detail::watch_explore);
  }
  ~OneFiber() {
    shm::detail::scheduler = nullptr;
    shm::detail::watch.fetch_and(~static_cast<std::uint32_t>(shm::detail::watch_explore));
  }
  void step(const shm::Operation& operation, shm::Readiness ready) override {
    kinds.push_back(operation.kind);
    waits = shm::describe_wait(shm::this_thread_token());
    if (ready.holds != nullptr && !ready.holds(ready.context)) throw Error("nobody can go on");
  }
  bool step_or_time_out(const shm::Operation& operation, shm::Readiness ready) override {
    kinds.push_back(operation.kind);
    return ready.holds(ready.context);
  }
  std::uint32_t start(std::string_view, void (*)(void*), void*) override { return 0; }
  bool ended(std::uint32_t) const override { return true; }

  std::vector<shm::OpKind> kinds;
  std::string waits;
};

TEST_CASE("a scheduler is asked before each operation, and sees what a fiber waits for") {
  const Lock lock{{.name = "fork 1"}};
  const RLock recursive;
  const Lock left{{.when_abandoned = WhenAbandoned::report}};
  const Lock kept{{.when_abandoned = WhenAbandoned::wait}};
  abandon(left);
  abandon(kept);
  const shm::ThreadToken other = shm::enter_fiber("p2");
  OneFiber scheduler;
  lock.lock();
  lock.unlock();
  recursive.lock();
  recursive.lock();
  recursive.unlock();
  recursive.unlock();
  CHECK_FALSE(recursive.locked());
  using shm::OpKind;
  CHECK(scheduler.kinds == std::vector{OpKind::acquire, OpKind::release, OpKind::acquire, OpKind::acquire,
                                       OpKind::release, OpKind::release, OpKind::load});
  CHECK_THROWS_AS(left.lock(), LockAbandoned);
  CHECK(contains(message_of<Error>([&] { kept.lock(); }), "nobody can go on"));
  lock.lock();
  CHECK_THROWS_AS(lock.lock(), DeadlockError);
  const shm::ThreadToken mine = shm::exchange_this_thread(other);
  CHECK_FALSE(lock.try_lock());
  CHECK_FALSE(lock.acquire(1h));  // no time passes
  CHECK(contains(message_of<Error>([&] { lock.lock(); }), "nobody can go on"));
  CHECK(scheduler.waits.starts_with("p2 (pid "));
  CHECK(contains(scheduler.waits, "waits for Lock 'fork 1' at"));
  CHECK(contains(scheduler.waits, ", held by"));
  CHECK(contains(shm::describe_wait(other), "does not wait"));
  shm::exchange_this_thread(mine);
  shm::leave_fiber(other);
  lock.unlock();
}

}  // namespace
}  // namespace manyhands
