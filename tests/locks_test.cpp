// Locks between real processes, some of which are killed at the worst moment.

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::contains;
using test::eventually;

// Words that processes share, wide enough for times.
struct Shared {
  shm::BlockPtr block = shm::Block::create(4096, shm::BlockKind::raw);
  std::atomic<std::int64_t>& operator[](std::size_t i) const {
    return shm::at<std::atomic<std::int64_t>>(block->offset() + i * 8);
  }
};

[[noreturn]] void stay() {
  for (;;) ::pause();
}

// How many wait for a lock now.
std::size_t waiters_of(const shm::AnyLock& lock) {
  std::size_t count = 0;
  for (const shm::ThreadToken token : shm::live_threads()) {
    const auto edge = shm::read_wait(token, shm::own_heap());
    if (edge && edge->target == lock.block()->offset()) ++count;
  }
  return count;
}

std::string abandoned_text(const shm::AnyLock& lock) {
  try {
    lock.lock();
  } catch (const LockAbandoned& error) {
    return error.what();
  }
  return {};
}

// Takes a lock whose holders may be killed.
void take(const shm::AnyLock& lock) {
  while (!abandoned_text(lock).empty()) {
  }
}

TEST_CASE("a killed owner's lock is reported within 100 ms to one who waits, and names it and its line") {
  std::vector<double> ms;
  for (int round = 0; round < 10; ++round) {
    const Lock lock;
    const Shared shared;
    std::uint_least32_t line = 0;
    Child owner([&] {
      shm::name_this_process("p1");
      lock.lock();
      shared[0] = std::source_location::current().line() - 1;
      stay();
    });
    REQUIRE(eventually([&] { return shared[0] != 0; }));
    line = static_cast<std::uint_least32_t>(shared[0].load());
    Child waiter([&] {
      const std::string text = abandoned_text(lock);
      shared[1] = now_ns();
      const bool good = contains(text, "p1 (pid " + std::to_string(owner.pid()) + ", has ended)") &&
                        contains(text, "locks_test.cpp:" + std::to_string(line));
      if (!good) std::fprintf(stderr, "%s\n", text.c_str());
      ::_exit(good ? 0 : 1);
    });
    REQUIRE(eventually([&] { return waiters_of(lock) == 1; }));
    if (round % 2 == 1) ::usleep(static_cast<useconds_t>(100'000 + round * 7000));  // by then in long slices
    const std::int64_t killed_ns = now_ns();
    owner.signal(SIGKILL);
    CHECK(waiter.wait() == 0);
    ms.push_back(static_cast<double>(shared[1] - killed_ns) / 1e6);
    CHECK_FALSE(lock.locked());
  }
  std::sort(ms.begin(), ms.end());
  MESSAGE("owner killed until told: median ", ms[ms.size() / 2], " ms, at most ", ms.back(), " ms");
  CHECK(ms[ms.size() / 2] < 100);
  CHECK(ms.back() < 1000);
}

TEST_CASE("a lock whose owner was killed before anybody waited is reported, too") {
  const Lock lock;
  Child owner([&] {
    lock.lock();
    stay();
  });
  REQUIRE(eventually([&] { return lock.locked(); }));
  owner.kill();
  const std::int64_t before = now_ns();
  CHECK(contains(abandoned_text(lock), "has ended"));
  CHECK(now_ns() - before < 1'000'000'000);
  lock.lock();
}

TEST_CASE("an owner that is a zombie counts as ended") {
  const RLock lock;
  Child owner([&] { lock.lock(); });
  siginfo_t info;
  ::waitid(P_PID, static_cast<id_t>(owner.pid()), &info, WEXITED | WNOWAIT);
  CHECK(contains(abandoned_text(lock), "has ended"));
}

TEST_CASE("with adopt a killed owner's lock goes to the next without a word") {
  const Lock lock{{.when_abandoned = WhenAbandoned::adopt}};
  Child owner([&] {
    lock.lock();
    stay();
  });
  REQUIRE(eventually([&] { return lock.locked(); }));
  owner.kill();
  lock.lock();
  CHECK(lock.held_by_this_thread());
}

TEST_CASE("the talk: p1 ends with the lock, p2 waits, the parent releases it, p2 goes on") {
  const Lock lock{{.when_abandoned = WhenAbandoned::wait}};
  const Shared value;
  value[0] = 1;
  Child p1([&] {
    lock.lock();
    value[0] = value[0] * 10;
  });
  CHECK(p1.wait() == 0);
  Child p2([&] {
    shm::name_this_process("p2");
    lock.lock();
    value[0] = value[0] + 10;
    lock.unlock();
  });
  REQUIRE(eventually([&] { return waiters_of(lock) == 1; }));
  // It has set the mark: from then on it looks whether p1 lives, and waits on.
  REQUIRE(eventually([&] { return (lock.state().word.load() & shm::LockState::waiters) != 0; }));
  CHECK_FALSE(lock.acquire(150ms));  // as we do
  CHECK(value[0] == 10);
  const LockReport report = lock_report();
  REQUIRE(report.waits.size() == 1);
  CHECK(report.waits[0].thread.name == "p2");
  REQUIRE(report.waits[0].holder);
  CHECK_FALSE(report.waits[0].holder->alive);
  lock.release();
  CHECK(p2.wait() == 0);
  CHECK(value[0] == 20);
}

TEST_CASE("a killed waiter does not swallow the wake of the others") {
  const Lock lock;
  for (int round = 0; round < 100; ++round) {
    take(lock);
    Child first([&] {
      lock.lock();
      stay();  // if it got the lock before it was killed
    });
    REQUIRE(eventually([&] { return waiters_of(lock) == 1; }));
    Child second([&] {
      take(lock);
      lock.unlock();
    });
    REQUIRE(eventually([&] { return waiters_of(lock) == 2; }));
    const std::int64_t before = now_ns();
    if (round % 2 == 0) first.signal(SIGKILL);
    lock.unlock();  // wakes the first, which is dead or about to be
    if (round % 2 == 1) first.signal(SIGKILL);
    REQUIRE(second.wait() == 0);
    REQUIRE(now_ns() - before < 1'000'000'000);
    first.kill();
  }
}

// Kills one of three processes that use the lock at a random moment, a hundred times.
template <class L>
void survive_kills() {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const L lock;
  const Shared shared;  // 2...: rounds of each
  const auto work = [&](std::size_t index) {
    return Child([&, index] {
      for (int i = 0;; ++i) {
        try {
          if (i % 3 == 0) {
            if (!lock.acquire(10ms)) continue;
          } else {
            lock.lock();
          }
          if (i % 5 == 0 && std::is_same_v<L, RLock>) {
            lock.lock();
            lock.unlock();
          }
        } catch (const LockAbandoned&) {
          continue;
        }
        shared[2 + index].fetch_add(1, std::memory_order_relaxed);
        lock.unlock();
      }
    });
  };
  std::vector<Child> children;
  for (std::size_t i = 0; i < 3; ++i) children.push_back(work(i));
  std::int64_t worst_ns = 0;
  for (int round = 0; round < 100; ++round) {
    ::usleep(static_cast<useconds_t>(random() % 2000));  // the random moment
    const std::size_t victim = random() % 3;
    children[victim].signal(SIGKILL);
    const std::int64_t killed_ns = now_ns();
    std::array<std::int64_t, 3> before{};
    for (std::size_t i = 0; i < 3; ++i) before[i] = shared[2 + i];
    REQUIRE(eventually(
        [&] {
          for (std::size_t i = 0; i < 3; ++i) {
            if (i != victim && shared[2 + i] == before[i]) return false;
          }
          return true;
        },
        10s));
    worst_ns = std::max(worst_ns, now_ns() - killed_ns);
    children[victim].kill();
    children[victim] = work(victim);
  }
  MESSAGE("the others went on after at most ", static_cast<double>(worst_ns) / 1e6, " ms");
  CHECK(worst_ns < 1'000'000'000);
}

TEST_CASE("processes that are killed at random moments in lock and unlock stop nobody") {
  survive_kills<Lock>();
}
TEST_CASE("processes that are killed at random moments in an RLock stop nobody") { survive_kills<RLock>(); }

TEST_CASE("exclusion holds while processes are killed") {
  // Each holder writes its number and checks that it stays.
  const Lock lock{{.when_abandoned = WhenAbandoned::adopt}};
  const Shared shared;
  const auto work = [&](std::int64_t me) {
    return Child([&, me] {
      for (;;) {
        const std::scoped_lock guard(lock);
        shared[0].store(me, std::memory_order_relaxed);
        for (int i = 0; i < 20; ++i) {
          if (shared[0].load(std::memory_order_relaxed) != me) ++shared[1];
        }
        ++shared[2];
      }
    });
  };
  std::mt19937 random(7);
  std::int64_t next = 1;
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i) children.push_back(work(next++));
  for (int round = 0; round < 50; ++round) {
    const std::int64_t before = shared[2];
    REQUIRE(eventually([&] { return shared[2] > before + 100; }));
    const std::size_t victim = random() % 3;
    children[victim].kill();
    children.erase(children.begin() + static_cast<std::ptrdiff_t>(victim));
    children.push_back(work(next++));
  }
  CHECK(shared[1] == 0);
}

TEST_CASE("two processes and two locks in opposite order: one is told, with both holders and lines") {
  for (int round = 0; round < 10; ++round) {
    const std::vector<Lock> locks(2);
    const Shared shared;  // 0: how many hold their first; 1: deadlocks; 2: both taken; 3, 4: lines
    const auto work = [&](std::size_t me) {
      return Child([&, me] {
        shm::name_this_process(me == 0 ? "p1" : "p2");
        const std::scoped_lock first(locks[me]);
        shared[3] = std::source_location::current().line() - 1;
        ++shared[0];
        eventually([&] { return shared[0] == 2; });
        try {
          shared[4] = std::source_location::current().line() + 1;
          const std::scoped_lock second(locks[1 - me]);
          ++shared[2];
        } catch (const DeadlockError& error) {
          ++shared[1];
          const std::string text = error.what();
          for (const std::string part : {"p1 (pid ", "p2 (pid "}) {
            if (!contains(text, part)) ::_exit(1);
          }
          for (const std::size_t place : {3U, 4U}) {
            if (!contains(text, "locks_test.cpp:" + std::to_string(shared[place]))) ::_exit(2);
          }
          if (round == 0) std::fprintf(stderr, "%s\n", error.what());
        }
      });
    };
    Child p1 = work(0);
    Child p2 = work(1);
    CHECK(p1.wait() == 0);
    CHECK(p2.wait() == 0);
    CHECK(shared[1] == 1);
    CHECK(shared[2] == 1);
  }
}

TEST_CASE("a member of a circle that was killed makes no deadlock: its lock is abandoned") {
  const Lock a;
  const Lock b;
  a.lock();
  Child other([&] {
    b.lock();
    a.lock();
    stay();
  });
  REQUIRE(eventually([&] { return waiters_of(a) == 1; }));
  other.signal(SIGKILL);
  siginfo_t info;
  ::waitid(P_PID, static_cast<id_t>(other.pid()), &info, WEXITED | WNOWAIT);
  CHECK(contains(abandoned_text(b), "has ended"));
}

// ---- The warning.

TEST_CASE("helper of the next test: waits for a lock that p1 took with it" * doctest::skip()) {
  const Lock lock{{.when_abandoned = WhenAbandoned::wait}};
  Child p1([&] {
    shm::name_this_process("p1");
    lock.lock();
  });
  p1.wait();
  std::thread releaser([&] {
    eventually([&] {
      const LockReport report = lock_report();
      return report.waits.size() == 1 && report.waits[0].waited_s > 0.4;
    });
    lock.release();
  });
  lock.lock();
  releaser.join();
}

TEST_CASE("who waits long for a lock is told once on stderr for whom, unless that is switched off") {
  for (const auto& [seconds, lines] :
       std::vector<std::pair<const char*, std::size_t>>{{"0.1", 1}, {"0", 0}}) {
    ::setenv("MANYHANDS_LOCK_WARN", seconds, 1);
    test::Program program("/proc/self/exe", {"--no-skip", "--test-case=helper of the next test*"});
    ::unsetenv("MANYHANDS_LOCK_WARN");
    const int status = program.wait();
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    const std::string text = program.errors();
    CHECK(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) == lines);
    if (lines == 0) continue;
    CHECK(contains(text, " has waited "));
    CHECK(contains(text, ", which p1 (pid "));
    CHECK(contains(text, ", has ended) took at "));
    CHECK(contains(text, "locks_test.cpp:"));
  }
}

// ---- The command.

struct Output {
  int status = -1;
  std::string text;  // stdout and stderr
};
Output run_command(const std::string& arguments) {
#ifdef MANYHANDS_COMMAND
  const std::string command = MANYHANDS_COMMAND;
#else
  const char* given = std::getenv("MANYHANDS_COMMAND");
  const std::string command = given != nullptr ? given : "manyhands";
#endif
  Output output;
  std::FILE* pipe = ::popen((command + " " + arguments + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return output;
  std::array<char, 4096> part{};
  for (std::size_t size = 0; (size = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    output.text.append(part.data(), size);
  const int status = ::pclose(pipe);
  output.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return output;
}

TEST_CASE("manyhands locks shows the locks and waits of a running program") {
  const Lock lock{{.name = "till"}};
  const Lock free;
  lock.lock();
  Child waiter([&] {
    shm::name_this_process("p2");
    lock.lock();
  });
  REQUIRE(eventually([&] { return waiters_of(lock) == 1; }));
  for (const pid_t pid : {::getpid(), waiter.pid()}) {
    const Output output = run_command("locks " + std::to_string(pid));
    CHECK(output.status == 0);
    CHECK(contains(output.text, "Lock 'till': held by"));
    CHECK(contains(output.text, "(pid " + std::to_string(::getpid()) + ")"));
    CHECK(contains(output.text, free.name() + ": free"));
    CHECK(contains(output.text, "p2 (pid " + std::to_string(waiter.pid()) + ") has waited"));
    CHECK(contains(output.text, "locks_test.cpp:"));
    CHECK(contains(output.text, "deadlocks: 0"));
  }
  const Output json = run_command("locks --json " + std::to_string(::getpid()));
  CHECK(json.status == 0);
  CHECK(json.text.starts_with("{"));
  CHECK(contains(json.text, "\"name\": \"Lock 'till'\""));
  CHECK(contains(json.text, "\"deadlocks\": []"));
}

// Bytes of a heap's start in which the blocks of a test lie, and of the whole copy below.
std::size_t used_bytes() { return shm::size_of_tables() + (16 << 20); }
constexpr std::size_t hostile_size = 64 << 20;

// A process whose descriptor of a heap leads to a copy of this program's, which `change` has made hostile.
// `stay` is what it does from then on, with the descriptor.
template <class Change, class Stay>
Child hostile_process(const Shared& shared, Change change, Stay stay_so) {
  Child child([&] {
    const int memory = ::memfd_create("manyhands-heap", 0);
    if (::ftruncate(memory, hostile_size) != 0) ::_exit(1);
    auto* const copy =
        static_cast<std::byte*>(::mmap(nullptr, hostile_size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0));
    std::copy_n(shm::mapping().data(), used_bytes(), copy);
    ::close(shm::heap_fd());
    change(copy);
    shared[0] = 1;
    stay_so(memory);
  });
  REQUIRE(eventually([&] { return shared[0] != 0; }));
  return child;
}

// Enters a process into a free place of the table, whose list of what it holds begins at `list`. False: all
// are taken.
bool enter_process(std::byte* heap, shm::Offset list) {
  std::byte* at = shm::tables_in({heap, hostile_size}).processes;
  for (std::uint32_t slot = 0; slot < shm::max_processes; ++slot, at += shm::process_slot_size) {
    auto& pid = *reinterpret_cast<std::int32_t*>(at);
    if (pid != 0) continue;
    pid = ::getpid();
    *reinterpret_cast<shm::Offset*>(at + 16) = list;
    return true;
  }
  return false;
}
shm::BlockHeader& put_chunk(std::byte* heap, shm::Offset payload) {
  auto& block = *reinterpret_cast<shm::BlockHeader*>(heap + payload - sizeof(shm::BlockHeader));
  block.kind = shm::BlockKind::holdings;
  return block;
}

TEST_CASE("manyhands locks shows what a terminal would obey in another program's names as bytes") {
  const Shared shared;
  const Lock lock{{.name = "\x1b[2Jroot# \x07\nlocks: 0"}};
  lock.lock();
  shm::name_this_process("\x1b]0;owned\x07");
  for (const char* option : {"", "--json "}) {
    const Output output = run_command(std::string("locks ") + option + std::to_string(::getpid()));
    CHECK(output.status == 0);
    CHECK(std::none_of(output.text.begin(), output.text.end(),
                       [](char c) { return c != '\n' && static_cast<unsigned char>(c) < ' '; }));
    CHECK(contains(output.text, "x1b[2Jroot# "));
    CHECK(contains(output.text, "x07"));
    CHECK_FALSE(contains(output.text, "\nlocks: 0"));
  }
}

TEST_CASE("manyhands locks ends on lists that lead in a circle, or out of the shared memory") {
  const Shared shared;
  const Lock lock{{.name = "till"}};
  constexpr shm::Offset last = hostile_size - 64;
  const Child child = hostile_process(
      shared,
      [](std::byte* heap) {
        const shm::Offset chunk = used_bytes() + 4096;
        put_chunk(heap, chunk).size = 8192;
        *reinterpret_cast<shm::Offset*>(heap + chunk) = chunk;
        put_chunk(heap, last).size = 0;
        for (const shm::Offset list : {last, shm::Offset{hostile_size - 1}, ~shm::Offset{63}})
          enter_process(heap, list);
        while (enter_process(heap, chunk)) {
        }
      },
      [](int) { stay(); });
  const Output output = run_command("locks " + std::to_string(child.pid()));
  CHECK(output.status == 0);
  CHECK(contains(output.text, "Lock 'till': free"));
}

TEST_CASE("manyhands locks survives that the shared memory is shortened while it reads") {
  const Shared shared;
  const Child child = hostile_process(
      shared, [](std::byte*) {},
      [](int memory) {
        for (;;) {
          for (const off_t size : {off_t{4096}, off_t{hostile_size}})
            static_cast<void>(::ftruncate(memory, size));
        }
      });
  for (int round = 0; round < 20; ++round) {
    const Output output = run_command("locks " + std::to_string(child.pid()));
    INFO(output.text);
    CHECK((output.status == 0 || output.status == 1));
  }
}

TEST_CASE("manyhands says what is wrong with its arguments, and what it cannot look at") {
  CHECK(run_command("").status == 2);
  CHECK(run_command("locks").status == 2);
  CHECK(run_command("locks word").status == 2);
  CHECK(run_command("locks 0").status == 2);
  CHECK(run_command("frobnicate").status == 2);
  const Output none = run_command("locks 4194303");
  CHECK(none.status == 1);
  CHECK(contains(none.text, "there is no process 4194303"));
  const Output other = run_command("locks " + std::to_string(::getppid()));
  CHECK(other.status == 1);
  CHECK(contains(other.text, "has no manyhands shared memory"));
  const Output version = run_command("--version");
  CHECK(version.status == 0);
  CHECK(version.text.starts_with("manyhands 0."));
  const Output help = run_command("--help");
  CHECK(help.status == 0);
  CHECK(contains(help.text, "locks"));
}

}  // namespace
}  // namespace manyhands
