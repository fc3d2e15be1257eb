// Locks: what one costs that is free, one that two processes fight for, and how long it takes until somebody
// is told that its owner was killed. Beside it, in the same program, the mutexes of POSIX.

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <manyhands/multicore.hpp>
#include <mutex>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

constexpr int uncontended = 1'000'000;
constexpr int increments = 500'000;  // of each of two processes

// A pshared mutex, which may be robust, and a counter. One thread makes it before the fork.
struct Posix {
  explicit Posix(bool robust) {
    pthread_mutexattr_t attributes;
    ::pthread_mutexattr_init(&attributes);
    ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (robust) ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    ::pthread_mutex_init(&mutex, &attributes);
  }
  void lock() { ::pthread_mutex_lock(&mutex); }
  void unlock() { ::pthread_mutex_unlock(&mutex); }

  pthread_mutex_t mutex;
  long counter = 0;
};

template <class Lock>
Samples lock_and_unlock(Lock& lock, int repeats) {
  Samples samples = repeated(repeats, [&] {
    for (int i = 0; i < uncontended; ++i) {
      lock.lock();
      lock.unlock();
    }
    return 0;
  });
  for (double& sample : samples) sample /= uncontended;
  return samples;
}

void increment(mh::Array<long> counter, mh::Lock lock, mh::Barrier start) {
  start.wait();
  for (int i = 0; i < increments; ++i) {
    lock.lock();
    ++counter[0];
    lock.unlock();
  }
}

double contended_ours() {
  mh::Array<long> counter(1);
  const mh::Lock lock;
  const mh::Barrier start(2);
  mh::Process other{increment, counter, lock, start};
  start.wait();
  const auto begin = Clock::now();
  for (int i = 0; i < increments; ++i) {
    lock.lock();
    ++counter[0];
    lock.unlock();
  }
  other.join();
  const double seconds = seconds_since(begin);
  require(counter[0] == 2L * increments, "the count");
  return seconds / (2.0 * increments);
}

double contended_posix(Posix& shared, std::atomic<int>& ready) {
  shared.counter = 0;
  ready = 0;
  const auto work = [&] {
    ++ready;
    while (ready.load() < 2) {
    }
    for (int i = 0; i < increments; ++i) {
      shared.lock();
      ++shared.counter;
      shared.unlock();
    }
  };
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(0);
  }
  const auto begin = Clock::now();
  work();
  ::waitpid(child, nullptr, 0);
  const double seconds = seconds_since(begin);
  require(shared.counter == 2L * increments, "the count");
  return seconds / (2.0 * increments);
}

// From the kill of the owner to the exception in the next taker.
double abandoned() {
  const mh::Lock lock;
  const mh::Event taken;
  mh::Process owner{[](const mh::Lock& held, const mh::Event& has_it) {
                      held.lock();
                      has_it.set();
                      for (;;) ::pause();
                    },
                    lock, taken};
  taken.wait();
  const pid_t pid = owner.pid();
  mh::Value<std::int64_t> killed_at(0);
  mh::Process killer{[](pid_t victim, mh::Value<std::int64_t> at) {
                       mh::sleep_for(std::chrono::milliseconds(20));
                       at = mh::now_ns();
                       ::kill(victim, SIGKILL);
                     },
                     pid, killed_at};
  try {
    lock.lock();
    require(false, "a lock whose owner was killed was taken without a word");
  } catch (const mh::LockAbandoned&) {
  }
  return static_cast<double>(mh::now_ns() - killed_at.get()) * 1e-9;
}

}  // namespace

void locks(const Program& program) {
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  require(page != MAP_FAILED, "mmap");
  auto& plain = *new (page) Posix(false);
  auto& robust = *new (static_cast<char*>(page) + 1024) Posix(true);
  auto& ready = *new (static_cast<char*>(page) + 2048) std::atomic<int>(0);
  mh::init(program.argc, program.argv);
  const mh::Lock lock;
  report("free: ours", lock_and_unlock(lock, program.repeats));
  report("free: pthread mutex, shared", lock_and_unlock(plain, program.repeats));
  report("free: pthread mutex, robust", lock_and_unlock(robust, program.repeats));
  Samples ours, posix, posix_robust, told;
  for (int i = 0; i < program.repeats; ++i) {
    ours.push_back(contended_ours());
    posix.push_back(contended_posix(plain, ready));
    posix_robust.push_back(contended_posix(robust, ready));
    told.push_back(abandoned());
  }
  report("two: ours", ours);
  report("two: pthread mutex, shared", posix);
  report("two: pthread mutex, robust", posix_robust);
  report("owner killed: ours", told);
}

}  // namespace bench
