// The world a program is born into, or makes for itself: signals ignored, children awaited, no descriptors,
// no processes, no threads, other programs' words. Each case is a fork of the test: it has a zygote of its
// own.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <functional>
#include <manyhands/multicore.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support.hpp"

namespace mh = manyhands;
using namespace std::chrono_literals;

namespace {

// Ends the child that run_apart() made.
void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

// Runs `body` in a fork, as a program of its own; what went wrong, "" if nothing did.
std::string run_apart(const std::function<void()>& body) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    std::string text;
    try {
      body();
    } catch (const std::exception& e) {
      text = e.what();
    } catch (...) {
      text = "an exception of another type";
    }
    static_cast<void>(!::write(ends[1], text.data(), text.size()));
    ::exit(0);  // with its handlers: the zygote's end is one of them
  }
  ::close(ends[1]);
  std::string text;
  char part[512];
  for (ssize_t size = 0; (size = ::read(ends[0], part, sizeof part)) > 0;)
    text.append(part, static_cast<std::size_t>(size));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (!WIFEXITED(status)) text += " killed by signal " + std::to_string(WTERMSIG(status));
  return text;
}

int add_one(int x) { return x + 1; }

void check_pool(mh::Pool& pool) {
  require(pool.apply(add_one, 1) == 2, "apply");
  try {
    pool.apply([] { ::raise(SIGSEGV); });
    require(false, "no error from a worker that crashed");
  } catch (const mh::WorkerDied& e) {
    require(e.signal() == SIGSEGV, "another signal");
  }
  require(pool.apply(add_one, 2) == 3, "apply after a death");
}

void check_processes(mh::Start start = mh::Start::zygote) {
  mh::Process three{{.start = start}, [] { std::_Exit(3); }};
  three.join();
  require(three.exit_code() == 3, "exit code 3");
  mh::Process killed{{.start = start}, [] { ::raise(SIGKILL); }};
  killed.join();
  require(killed.exit_code() == -SIGKILL, "exit code -9");
}

void handle_children(void (*handler)(int), int flags) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigaction(SIGCHLD, &action, nullptr);
}
void wait_for_all(int) {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

TEST_CASE("pools and processes know how their children end, whatever the program does with SIGCHLD") {
  const std::vector<std::function<void()>> ways{[] { handle_children(SIG_IGN, 0); },
                                                [] { handle_children(SIG_DFL, SA_NOCLDWAIT); },
                                                [] { handle_children(wait_for_all, SA_RESTART); }};
  for (const auto& set : ways) {
    for (const bool before : {true, false}) {
      CHECK(run_apart([&] {
              if (before) set();
              mh::Pool pool{2};
              if (!before) set();
              check_pool(pool);
              check_processes();
            }) == "");
    }
    CHECK(run_apart([&] {
            set();
            const int signal = mh::test::reaped_ends_are_told() ? SIGSEGV : SIGKILL;
            if (signal == SIGSEGV) check_processes(mh::Start::fork);
            mh::Pool pool{1, {.start = mh::Start::fork}};
            require(pool.map(add_one, std::vector<int>{1, 2})[1] == 3, "map");
            try {
              pool.apply([](int number) { ::raise(number); }, signal);
              require(false, "no error");
            } catch (const mh::WorkerDied& e) {
              require(e.signal() == signal, "another signal");
            }
          }) == "");
  }
}

TEST_CASE("a program that waits for all its children waits for its own only, also as the parent of orphans") {
#if defined(__SANITIZE_THREAD__)  // where the zygote has no keeper, and is an orphan itself
  const std::vector<bool> reapers{false};
#else
  const std::vector<bool> reapers{false, true};
#endif
  for (const bool reaper : reapers) {
    CHECK(run_apart([&] {
            if (reaper) ::prctl(PR_SET_CHILD_SUBREAPER, 1);
            mh::Pool pool{2};
            require(pool.apply(add_one, 1) == 2, "apply");
            for (int i = 0; i < 2; ++i) {
              if (::fork() == 0) ::_exit(0);
            }
            int ended = 0;
            while (::wait(nullptr) > 0) ++ended;
            require(ended == 2, "others than the two were met");
          }) == "");
  }
}

TEST_CASE("a program that becomes a daemon after its first pool goes on to use pools") {
  const mh::test::FlagFile done;
  CHECK(run_apart([&] {
          {
            mh::Pool pool{1};
            require(pool.apply(add_one, 1) == 2, "apply");
          }
          require(::daemon(1, 1) == 0, "daemon");
          for (int round = 0; round < 3; ++round) {
            mh::Pool pool{1};
            require(pool.apply(add_one, 1) == 2, "apply as a daemon");
            check_processes();
          }
          done->raise();
        }) == "");
  CHECK(done->wait());
}

TEST_CASE("signals to the group of the program do not take the zygote from a program that handles them") {
  CHECK(run_apart([] {
          ::setpgid(0, 0);
          ::signal(SIGTERM, SIG_IGN);  // inherited by the workers
          ::signal(SIGHUP, SIG_IGN);
          mh::Pool pool{1};
          require(pool.apply(add_one, 1) == 2, "apply");
          ::kill(0, SIGTERM);
          ::kill(0, SIGHUP);
          check_pool(pool);
        }) == "");
}

TEST_CASE("without descriptors for the workers' pidfds deadlines, cancel and terminate work") {
  CHECK(run_apart([] {
          mh::Pool pool{2};
          require(pool.apply(add_one, 1) == 2, "apply");
          const rlimit few{64, 64};
          ::setrlimit(RLIMIT_NOFILE, &few);
          mh::Pool late{2};
          while (::open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) {
          }
          try {
            late.with({.deadline = 50ms}).apply([] { ::pause(); });
            require(false, "no deadline");
          } catch (const mh::DeadlineExceeded&) {
          }
          auto result = late.apply_async([] { ::pause(); });
          while (!result.cancel({.kill = true})) ::usleep(100);
          try {
            result.get();
            require(false, "not cancelled");
          } catch (const mh::Cancelled&) {
          }
          const auto running = late.apply_async([] { ::pause(); });
          late.terminate();
        }) == "");
}

TEST_CASE("a low limit of descriptors that the program raises later holds for no pool") {
  CHECK(run_apart([] {
          rlimit limit{};
          ::getrlimit(RLIMIT_NOFILE, &limit);
          const rlimit low{48, limit.rlim_max};
          ::setrlimit(RLIMIT_NOFILE, &low);
          const mh::Pool first{1};
          ::setrlimit(RLIMIT_NOFILE, &limit);
          std::vector<std::unique_ptr<mh::Pool>> pools;
          for (int i = 0; i < 16; ++i) {
            pools.push_back(std::make_unique<mh::Pool>(1));
            require(pools.back()->apply(add_one, i) == i + 1, "apply");
          }
        }) == "");
}

pid_t own_zygote() {
  const mh::Value<int> parent(0);
  mh::Process process{[](const mh::Value<int>& to) { to = ::getppid(); }, parent};
  process.join();
  return parent.get();
}

#if !defined(__SANITIZE_THREAD__)  // which starts a thread itself, and keeps the zygote elsewhere
// For limits that do not hold for root.
void become_nobody() {
  require(::setgroups(0, nullptr) == 0 && ::setgid(65534) == 0 && ::setuid(65534) == 0, "setuid");
}

TEST_CASE("what cannot be started for lack of processes is an error, and the next try works") {
  if (::geteuid() != 0) return;
  CHECK(run_apart([] {
          become_nobody();
          {
            mh::Pool first{1};
            require(first.apply(add_one, 1) == 2, "apply");
          }
          const pid_t zygote = own_zygote();
          rlimit before{};
          ::prlimit(zygote, RLIMIT_NPROC, nullptr, &before);
          const rlimit one{1, before.rlim_max};
          mh::Pool pool{2};
          require(pool.map(add_one, std::vector<int>{1, 2, 3})[0] == 2, "map");
          ::prlimit(zygote, RLIMIT_NPROC, &one, nullptr);
          try {
            const mh::Process process{[] {}};
            require(false, "a process was started");
          } catch (const mh::SystemError& e) {
            require(e.error() == EAGAIN, "another error");
          }
          try {
            mh::Pool none{1};
            none.apply(add_one, 1);
            require(false, "a pool without workers");
          } catch (const mh::PoolBroken& e) {
            require(std::string(e.what()).find("EAGAIN") != std::string::npos, e.what());
          }
          try {
            pool.apply([] { ::raise(SIGKILL); });
            require(false, "no death");
          } catch (const mh::WorkerDied&) {
          }
          ::prlimit(zygote, RLIMIT_NPROC, &before, nullptr);
          require(mh::test::eventually([&] {
                    const auto pids = pool.pids();
                    return pids[0] != 0 && pids[1] != 0;
                  }),
                  "the pool did not get its second worker back");
          check_pool(pool);
          check_processes();
        }) == "");
}

TEST_CASE("without a thread for its supervisor a pool takes no call, and takes it when there is one") {
  if (::geteuid() != 0) return;
  CHECK(run_apart([] {
          become_nobody();
          mh::Pool pool{1};
          rlimit before{};
          ::getrlimit(RLIMIT_NPROC, &before);
          const rlimit one{1, before.rlim_max};
          ::setrlimit(RLIMIT_NPROC, &one);
          for (int i = 0; i < 20; ++i) {  // more than a pool has places for maps
            try {
              pool.map(add_one, std::vector<int>{1, 2});
              require(false, "a map without a supervisor");
            } catch (const mh::SystemError&) {
            }
          }
          ::setrlimit(RLIMIT_NPROC, &before);
          require(pool.map(add_one, std::vector<int>{1, 2})[1] == 3, "map");
        }) == "");
}

TEST_CASE("the time that workers spend is the program's") {
  rusage before{};
  ::getrusage(RUSAGE_CHILDREN, &before);
  CHECK(run_apart([] {
          mh::Pool pool{1};
          pool.apply([] {
            const auto used_ms = [] {
              timespec now{};
              ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
              return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
            };
            while (used_ms() < 200) {
            }
          });
        }) == "");
  rusage after{};
  ::getrusage(RUSAGE_CHILDREN, &after);
  const auto ms = [](const rusage& usage) {
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
  };
  CHECK(ms(after) - ms(before) >= 180);
}
#endif

TEST_CASE("a process whose zygote was stopped and killed before it was born does not keep those who wait") {
  CHECK(run_apart([] {
          mh::Event event;
          {
            const mh::Pool first{1};
          }
          mh::Queue<int> queue(10);
          const pid_t zygote = own_zygote();
          ::kill(zygote, SIGSTOP);
          mh::Process process{[](mh::Queue<int> out, mh::Event done) {
                                out.put(1);
                                done.set();
                              },
                              queue, event};
          ::kill(zygote, SIGKILL);
          try {
            queue.get();
            require(false, "a value from nobody");
          } catch (const mh::QueueClosed&) {
            require(false, "nobody closed it");
          } catch (const mh::Error&) {
          }
          process.join();
          require(process.exit_code() == -SIGKILL, "exit code");
        }) == "");
}

TEST_CASE("after the zygote's death processes of the old one end, and a new pool works at once") {
  CHECK(run_apart([] {
          mh::Process old{[] { ::pause(); }};
          mh::Pool pool{1};
          auto running = pool.apply_async([] { ::pause(); });
          ::kill(own_zygote(), SIGKILL);
          try {
            running.get();
            require(false, "no error");
          } catch (const mh::PoolBroken& e) {
            require(std::string(e.what()).find("was killed by SIGKILL") != std::string::npos, e.what());
          }
          mh::Pool next{1};
          require(next.apply(add_one, 1) == 2, "apply");
          old.join();
          require(old.exit_code() == -SIGKILL, "exit code of the old process");
        }) == "");
}

TEST_CASE("what a task started ends with its worker, by a deadline and with the pool") {
  mh::Value<int> by_deadline(0);
  mh::Value<int> with_pool(0);
  const auto start_command = [](mh::Value<int> pid) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::setsid();
      const pid_t grandchild = ::fork();  // left by its parent, as a shell leaves "command &"
      if (grandchild != 0) ::_exit(0);
      ::alarm(60);  // it is not killed if this fails
      pid = ::getpid();
      for (;;) ::pause();
    }
    ::waitpid(child, nullptr, 0);
    while (pid.get() == 0) ::sched_yield();
  };
  {
    mh::Pool pool{1};
    CHECK_THROWS_AS(pool.with({.deadline = 200ms})
                        .apply(
                            [start_command](mh::Value<int> pid) {
                              start_command(pid);
                              ::pause();
                            },
                            by_deadline),
                    mh::DeadlineExceeded);
    REQUIRE(by_deadline.get() != 0);
    CHECK(mh::test::eventually([&] { return !mh::test::is_running(by_deadline.get()); }));
    pool.apply(start_command, with_pool);
  }
  CHECK(mh::test::eventually([&] { return !mh::test::is_running(with_pool.get()); }));
}

TEST_CASE("a process that a task forked and let return is no second worker") {
  mh::Pool pool{1};
  const auto fork_and_return = [](int x) { return ::fork() == 0 ? -1 : x; };
  CHECK(pool.apply(fork_and_return, 7) == 7);
  const std::vector<int> items(20, 3);
  CHECK(pool.map(fork_and_return, items) == items);
  CHECK(pool.apply(add_one, 1) == 2);
  mh::Value<int> ends(0);
  mh::Process process{[](mh::Value<int> ended) {
                        static_cast<void>(::fork());
                        ended.update([](int x) { return x + 1; });
                      },
                      ends};
  process.join();
  CHECK(process.exit_code() == 0);
}

TEST_CASE("Start::spawn works inside of workers and processes of a program that called init") {
  mh::test::Program program(mh::test::victim(), {"spawn-inside", "-"});
  const int status = program.wait();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(program.errors() == "");
}

TEST_CASE("words on a command line make no worker of a program") {
  for (const std::string word : {"--manyhands-worker=0,1,2,0", "--manyhands-worker=3,4,5,0",
                                 "--manyhands-process=64,0", "--manyhands-worker=99999999999,1,2,0"}) {
    ::setenv("MANYHANDS_HEAP_FD", "0", 1);
    mh::test::Program program(mh::test::victim(), {word});
    const int status = program.wait();
    ::unsetenv("MANYHANDS_HEAP_FD");
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 2);
    CHECK(program.errors().find("is for processes that manyhands starts itself") != std::string::npos);
  }
}

TEST_CASE("a program without standard descriptors keeps its shared memory") {
  mh::test::Program program("/bin/sh", {"-c", "exec \"$0\" stdio - 0<&- 1>&- 2>&-", mh::test::victim()});
  const int status = program.wait();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)  // which take much address space
TEST_CASE("under a limit of address space the program and its tasks keep the most of it") {
  for (const std::string kilobytes : {"4000000", "2000000"}) {
    mh::test::Program program(
        "/bin/sh", {"-c", "ulimit -v " + kilobytes + "; exec \"$0\" address-space -", mh::test::victim()});
    const int status = program.wait();
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(program.errors() == "");
  }
}
#endif

TEST_CASE("an initializer runs in each worker, also if no task ever comes") {
  mh::Value<int> runs(0);
  {
    const mh::Pool pool{2,
                        {.initializer = mh::bind(
                             [](mh::Value<int> count) { count.update([](int x) { return x + 1; }); }, runs)}};
  }
  CHECK(runs.get() == 2);
}

TEST_CASE("a task that gives up at its deadline has exceeded it") {
  mh::Pool pool{1};
  const auto until_stopped = [] {
    while (!mh::this_task::stop_requested()) {
    }
    return 1;
  };
  for (int i = 0; i < 10; ++i)
    CHECK_THROWS_AS(pool.with({.deadline = 5ms}).apply(until_stopped), mh::DeadlineExceeded);
  CHECK(pool.apply(add_one, 1) == 2);
}

TEST_CASE("a result goes with its last handle") {
  mh::Pool pool{1};
  std::weak_ptr<int> alive;
  {
    auto result = pool.apply_async(add_one, 1);
    auto kept = std::make_shared<int>(1);
    alive = kept;
    auto next = result.then([kept](int x) { return x + *kept; });
    kept.reset();
    CHECK(next.get() == 3);
  }
  CHECK(mh::test::eventually([&] { return alive.expired(); }));
}

TEST_CASE("where main has ended and other threads go on, the process lives, and holds what it holds") {
  mh::test::Program program(mh::test::victim(), {"main-ends", "-"});
  const int status = program.wait();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(program.errors() == "");
}

}  // namespace
