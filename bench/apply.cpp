// One call on an idle pool, and beside it the least that it can cost: waking a process that sleeps on a
// futex, and being woken by it. Both are measured by turns in one program, so that they meet the same
// machine.
//
// The bare futex is measured twice: where the kernel puts the two processes (on one core, as a rule, for the
// waker sleeps at once) and held on two different cores, where each wake must rouse the other core.

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <manyhands/multicore.hpp>
#include <new>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

using Word = std::atomic<std::uint32_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 4);

void sleep_while(const Word& word, std::uint32_t value) {
  while (word.load() == value) ::syscall(SYS_futex, &word, FUTEX_WAIT, value, nullptr, nullptr, 0);
}

void wake(const Word& word) { ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0); }

// The cores on which the calling process may run. Value.
cpu_set_t allowed_cores() {
  cpu_set_t cores;
  ::sched_getaffinity(0, sizeof cores, &cores);
  return cores;
}
void allow(const cpu_set_t& cores) { ::sched_setaffinity(0, sizeof cores, &cores); }

// The nth of the allowed cores, from 0; the last if there are fewer.
cpu_set_t nth_core(int n) {
  const cpu_set_t all = allowed_cores();
  cpu_set_t one;
  for (int core = 0; core < CPU_SETSIZE && n >= 0; ++core) {
    if (!CPU_ISSET(core, &all)) continue;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    --n;
  }
  return one;
}

// A process that answers, without anything around it: two words of shared memory. One thread.
class Echo {
 public:
  // The child runs on `cores` only.
  explicit Echo(const cpu_set_t& cores) {
    void* place = ::mmap(nullptr, sizeof(Words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(place != MAP_FAILED, "mmap");
    words_ = new (place) Words;
    pid_ = ::fork();
    require(pid_ >= 0, "fork");
    if (pid_ == 0) {
      allow(cores);
      answer();
    }
  }
  ~Echo() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::munmap(words_, sizeof(Words));
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;

  // There and back. Neither side spins.
  void round_trip() {
    const std::uint32_t next = words_->call.load() + 1;
    words_->call.store(next);
    wake(words_->call);
    sleep_while(words_->reply, next - 1);
  }

 private:
  struct Words {
    alignas(64) Word call{0};   // rounds asked for; written by the caller
    alignas(64) Word reply{0};  // rounds answered; written by the child
  };

  [[noreturn]] void answer() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (std::uint32_t seen = 0;; ++seen) {
      sleep_while(words_->call, seen);
      words_->reply.store(seen + 1);
      wake(words_->reply);
    }
  }

  Words* words_;
  pid_t pid_;
};

// Long enough for a worker to stop spinning and go to sleep.
void pause_between_calls() {
  const timespec two_milliseconds{.tv_sec = 0, .tv_nsec = 2'000'000};
  ::nanosleep(&two_milliseconds, nullptr);
}

int nothing(int x) { return x; }

}  // namespace

void apply(const Program& program) {
  // Before mh::init: the children are small processes without threads, like a worker.
  const cpu_set_t all = allowed_cores();
  const cpu_set_t first = nth_core(0);
  Echo echo(all);
  Echo other_core(nth_core(1));
  mh::init(program.argc, program.argv);
  mh::Pool one{1};
  mh::Pool two{workers};
  const auto futex = [&] {
    echo.round_trip();
    return 0;
  };
  const auto on_one = [&] { return one.apply(nothing, 1); };
  const auto on_two = [&] { return two.apply(nothing, 1); };

  for (int i = 0; i < 10; ++i)
    static_cast<void>(futex() + on_one() + on_two());  // the workers are there and warm
  Samples futex_waiting, apart_waiting, one_waiting, two_waiting;
  for (int i = 0; i < program.repeats; ++i) {
    pause_between_calls();
    futex_waiting.push_back(seconds_of(futex));
    allow(first);
    pause_between_calls();
    apart_waiting.push_back(seconds_of([&] {
      other_core.round_trip();
      return 0;
    }));
    allow(all);
    pause_between_calls();
    one_waiting.push_back(seconds_of(on_one));
    pause_between_calls();
    two_waiting.push_back(seconds_of(on_two));
  }
  report("waiting: futex there and back", futex_waiting);
  report("waiting: futex there and back, two cores", apart_waiting);
  report("waiting: ours", one_waiting);
  report("waiting: ours, two workers", two_waiting);

  const int calls = 20 * program.repeats;
  report("spinning: ours", repeated(calls, on_one));
  report("spinning: ours, two workers", repeated(calls, on_two));
  report("spinning: futex there and back", repeated(calls, futex));
}

}  // namespace bench
