// A library that uses worker processes, in a host that has threads.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "manyhands/multicore.hpp"

namespace mh = manyhands;
using namespace std::chrono_literals;

namespace {

int failures = 0;
void check(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "guest: %s\n", what);
}

// Made by this library's constructors, in its workers, too.
const std::map<int, std::string> table{{1, "one"}, {2, "two"}};
int calls = 0;  // in this process

std::string name_of(int x) {
  ++calls;
  return table.at(x);
}

void check_pools(mh::Start start) {
  mh::Pool pool{2, {.start = start}};
  check(pool.map(name_of, std::vector<int>{1, 2, 1}) == std::vector<std::string>{"one", "two", "one"}, "map");
  check(calls == 0, "a task ran here");
  check(pool.apply([](int x) { return x + 1; }, 41) == 42, "apply of a lambda");
  check(pool.apply([] { return std::getenv("LD_PRELOAD") == nullptr; }),
        "what tasks start would load the library");
  check(pool.apply([] { return std::system("exit 7"); }) == 7 << 8, "a command in a task");
  try {
    pool.apply([] { ::raise(SIGSEGV); });
    check(false, "no error from a crash");
  } catch (const mh::WorkerDied& e) {
    check(e.signal() == SIGSEGV, "another signal");
  }
  check(pool.apply(name_of, 2) == "two", "apply after a crash");
}

void check_process(mh::Start start) {
  mh::Queue<std::string> queue;
  mh::Process process{{.start = start}, [](mh::Queue<std::string> out) { out.put(name_of(1)); }, queue};
  check(queue.get() == "one", "a process");
  process.join();
  check(process.exit_code() == 0, "its exit code");
}

}  // namespace

extern "C" int run_guest() {
  failures = 0;
  try {
    mh::init_in_host({.on_interrupt = mh::OnInterrupt::raise});
    for (const auto start : {mh::Start::zygote, mh::Start::spawn}) {
      check_pools(start);
      check_process(start);
    }
    // Whoever ends the zygote: the next pool has one again.
    mh::Pool pool{1};
    const pid_t zygote = pool.apply([] { return ::getppid(); });
    ::kill(zygote, SIGKILL);
    while (::kill(zygote, 0) == 0) ::usleep(1000);
    mh::Pool next{1};
    check(next.apply(name_of, 2) == "two", "a pool with a new zygote");
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  return failures;
}
