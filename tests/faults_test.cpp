// Bad input and faults inside a pool: each has its promised outcome, and the pool goes on.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "manyhands/multicore.hpp"
#include "tests/support.hpp"

namespace mh = manyhands;
using mh::test::eventually;
using mh::test::Flag;
using mh::test::FlagFile;

struct ParseError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Rejected {  // an own type that is no std::exception
  int code;
};
struct Baggage : std::runtime_error {
  using std::runtime_error::runtime_error;
};
template <>
struct manyhands::wire::Codec<Baggage> {
  static void pack(Writer&, const Baggage&) { throw std::runtime_error("too heavy"); }
  static Baggage unpack(Reader&) { return Baggage("never"); }
};

// A result of a hundred terabytes, as far as its codec says.
struct Huge {};
template <>
struct manyhands::wire::Codec<Huge> {
  static void pack(Writer& writer, const Huge& huge) {
    writer.binary({reinterpret_cast<const std::byte*>(&huge), std::size_t{100} << 40});
  }
  static Huge unpack(Reader& reader) {
    reader.skip();
    return {};
  }
};

namespace {

const bool known = mh::register_exception<ParseError>() && mh::register_exception<Rejected>() &&
                   mh::register_exception<Baggage>();

int add(int a, int b) { return a + b; }
double square(double x) { return x * x; }

[[gnu::noinline]] int write_to(volatile int* place) {
  *place = 1;
  return *place;
}
[[gnu::noinline]] void throws() { throw 1; }
int crash_here() { return write_to(nullptr); }

[[gnu::noinline]] int overflow(int depth) {
  volatile char room[4096];
  room[0] = static_cast<char>(depth);
  return depth < 0 ? 0 : room[0] + overflow(depth + 1);
}

// R, S, T (stopped) and so on, as proc(5) says.
char state_of(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  const auto at = text.rfind(") ");
  return at == std::string::npos ? '?' : text[at + 2];
}

// What a call throws, as its type says; fails the test if it throws anything else or nothing.
template <class E, class Call>
E thrown_by(Call call) {
  try {
    call();
  } catch (const E& e) {
    return e;
  }
  FAIL("nothing was thrown");
  throw 0;
}

void check_usable(mh::Pool& pool) {
  CHECK(pool.apply(add, 20, 22) == 42);
  CHECK(pool.map(square, std::vector<double>{1, 2, 3}) == std::vector<double>{1, 4, 9});
}

// ---- Exceptions.

// The pids of all workers, once all have started: a 0 given to kill() would mean our own process group.
std::vector<int> all_pids(mh::Pool& pool) {
  std::vector<int> pids;
  REQUIRE(eventually([&] {
    pids = pool.pids();
    return std::find(pids.begin(), pids.end(), 0) == pids.end();
  }));
  return pids;
}

TEST_CASE("a std exception of a task arrives as itself with type, message, place and stack") {
  mh::Pool pool(2);
  const auto check = [&](auto call) {
    try {
      call();
      FAIL("nothing was thrown");
    } catch (const std::out_of_range& e) {
      const auto* remote = mh::remote_error(e);
      REQUIRE(remote != nullptr);
      CHECK(remote->type() == "std::out_of_range");
      CHECK(remote->place().pid != ::getpid());
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
      const std::string stack = remote->stack();
      CAPTURE(stack);
      CHECK(stack.find("lambda") != std::string::npos);
      CHECK(stack.find("zygote") == std::string::npos);  // what is around the task is not of interest
#endif
    }
  };
  const auto at = [](int i) { return std::vector<int>(3).at(static_cast<std::size_t>(i)); };
  check([&] { pool.apply(at, 5); });
  check([&] { pool.map(at, std::vector<int>{0, 1, 2, 3}); });
  check_usable(pool);
}

TEST_CASE("own exceptions arrive as themselves once they are registered, others as RemoteError") {
  mh::Pool pool(2);
  CHECK_THROWS_WITH_AS(pool.apply([] { throw ParseError("line 3"); }), "line 3", ParseError);
  CHECK(thrown_by<Rejected>([&] { pool.apply([] { throw Rejected{17}; }); }).code == 17);
  CHECK_THROWS_WITH_AS(pool.apply([] { throw 42; }), doctest::Contains("threw int: 42"), mh::RemoteError);
  struct Unknown {};
  CHECK_THROWS_WITH_AS(pool.apply([] { throw Unknown{}; }), doctest::Contains("Unknown"), mh::RemoteError);
  CHECK_THROWS_WITH_AS(pool.apply([] { throw Baggage("the bag"); }),
                       doctest::Contains("could not be packed: too heavy"), mh::RemoteError);
  check_usable(pool);
}

TEST_CASE("the death of a worker of a pool inside a task arrives as what it is") {
  mh::Pool pool(1);
  try {
    pool.apply([] {
      mh::Pool inner(1);
      inner.apply([] { ::raise(SIGKILL); });
    });
    FAIL("nothing was thrown");
  } catch (const mh::WorkerDied& e) {
    CHECK(e.signal() == SIGKILL);
    REQUIRE(mh::remote_error(e) != nullptr);
    CHECK(mh::remote_error(e)->place().pid == pool.pids().front());
  }
}

TEST_CASE("the exception of the lowest item that failed is thrown, and the others are dropped") {
  mh::Pool pool(2);
  const FlagFile runs;
  const auto f = mh::bind(
      [](const Flag& flag, int i) {
        flag.raise();
        if (i == 3) throw std::domain_error("item 3");
        return i;
      },
      runs.flag());
  CHECK_THROWS_WITH_AS(pool.map(f, std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8}, {.chunk = 8}), "item 3",
                       std::domain_error);
  CHECK(runs->count() == 3);
  check_usable(pool);
}

TEST_CASE("an argument or result that fails to pack is an error of that call") {
  mh::Pool pool(1);
  CHECK_THROWS_AS(pool.apply([] { return Baggage("x"); }), std::runtime_error);
  CHECK_THROWS_WITH_AS(pool.apply([](const Baggage&) {}, Baggage("x")), "too heavy", std::runtime_error);
  check_usable(pool);
}

// ---- Deaths.

TEST_CASE("a worker that is killed fails the one task that it ran, with signal and task") {
  mh::Pool pool(2);
  const auto death = thrown_by<mh::WorkerDied>([&] { pool.apply([] { ::kill(::getpid(), SIGKILL); }); });
  CHECK(death.signal() == SIGKILL);
  CHECK(death.pid() > 0);
  CHECK(std::string(death.what()).find("was killed by SIGKILL (Killed) while it ran task 0") !=
        std::string::npos);
  check_usable(pool);
}

TEST_CASE("a segmentation fault leaves its stack in the error") {
  mh::Pool pool(2);
  const auto death = thrown_by<mh::WorkerDied>([&] { pool.apply(crash_here); });
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(death.signal() == SIGSEGV);
  CHECK(death.stack().starts_with("  write_to at "));
  CHECK(death.stack().find("faults_test.cpp:") != std::string::npos);
#endif
  check_usable(pool);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("a stack overflow and a crash in a spawned worker leave their stacks, too") {
  mh::Pool pool(1);
  const auto death = thrown_by<mh::WorkerDied>([&] { pool.apply(overflow, 1); });
  CHECK(death.signal() == SIGSEGV);
  CHECK(death.stack().find("overflow") != std::string::npos);
  mh::Pool spawned(1, {.start = mh::Start::spawn});
  CHECK(thrown_by<mh::WorkerDied>([&] { spawned.apply(crash_here); }).stack().find("write_to") !=
        std::string::npos);
}
#endif

TEST_CASE("exit, abort and an exception out of a noexcept function end the task, not the pool") {
  mh::Pool pool(2);
  const auto exited = thrown_by<mh::WorkerDied>([&] { pool.apply([] { ::_exit(7); }); });
  CHECK(exited.signal() == 0);
  CHECK(exited.death().exit_code == 7);
  CHECK(std::string(exited.what()).find("ended itself with exit status 7") != std::string::npos);
  CHECK(thrown_by<mh::WorkerDied>([&] { pool.apply([] { std::exit(0); }); }).death().exit_code == 0);
  CHECK(thrown_by<mh::WorkerDied>([&] { pool.apply([] { std::abort(); }); }).signal() == SIGABRT);
  CHECK(thrown_by<mh::WorkerDied>([&] { pool.apply([]() noexcept { throws(); }); }).signal() == SIGABRT);
  check_usable(pool);
}

TEST_CASE("the death of a worker in a map names the item, and items that were done stay done") {
  mh::Pool pool(2);
  const FlagFile runs;
  const auto f = mh::bind(
      [](const Flag& flag, int i) {
        flag.raise();
        if (i == 5) ::kill(::getpid(), SIGKILL);
        return i;
      },
      runs.flag());
  std::vector<int> items(10);
  std::iota(items.begin(), items.end(), 0);
  const auto death = thrown_by<mh::WorkerDied>([&] { pool.map(f, items, {.chunk = 10}); });
  CHECK(death.death().task == 5);
  CHECK(death.death().in_map);
  CHECK(runs->count() == 6);
  check_usable(pool);
}

TEST_CASE("with retries a lost item runs again, and the others do not") {
  mh::Pool pool(2, {.retries = 1});
  const FlagFile runs;
  const auto f = mh::bind(
      [](const Flag& flag, int i) {
        flag.raise();
        if (i == 5 && mh::this_task::attempt() == 1) ::kill(::getpid(), SIGKILL);
        return i;
      },
      runs.flag());
  std::vector<int> items(10);
  std::iota(items.begin(), items.end(), 0);
  CHECK(pool.map(f, items, {.chunk = 10}) == items);
  CHECK(runs->count() == 11);
  CHECK(pool.with({.retries = 2}).apply([] {
    if (mh::this_task::attempt() < 3) ::_exit(1);
    return mh::this_task::attempt();
  }) == 3);
  const auto last = thrown_by<mh::WorkerDied>([&] { pool.apply([] { ::_exit(1); }); });
  CHECK(last.death().attempt == 2);
}

TEST_CASE("packed results that a worker had sent before its death count") {
  mh::Pool pool(1, {.retries = 1});
  const FlagFile runs;
  const auto f = mh::bind(
      [](const Flag& flag, int i) {
        flag.raise();
        if (i == 3 && mh::this_task::attempt() == 1) ::kill(::getpid(), SIGKILL);
        return std::to_string(i);
      },
      runs.flag());
  CHECK(pool.map(f, std::vector<int>{0, 1, 2, 3, 4}, {.chunk = 5}) ==
        std::vector<std::string>{"0", "1", "2", "3", "4"});
  CHECK(runs->count() == 6);
}

TEST_CASE("a worker that is killed while idle is replaced, and nothing is lost") {
  mh::Pool pool(2);
  check_usable(pool);
  const auto before = all_pids(pool);
  for (const int pid : before) ::kill(pid, SIGKILL);
  for (int i = 0; i < 100; ++i) REQUIRE(pool.apply(add, i, 1) == i + 1);
  CHECK(eventually([&] {
    const auto now = pool.pids();
    return now[0] > 0 && now[1] > 0 && now[0] != before[0] && now[1] != before[1];
  }));
}

TEST_CASE("workers killed at random moments lose nothing when tasks may be retried") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  mh::Pool pool(3, {.retries = 1000});
  std::vector<int> items(3000);
  std::iota(items.begin(), items.end(), 0);
  std::atomic<bool> end{false};
  std::jthread killer([&] {
    while (!end) {
      const auto pids = pool.pids();
      const int pid = pids[random() % pids.size()];
      if (pid > 0) ::kill(pid, SIGKILL);
      for (unsigned i = 0; i < 20'000 + random() % 100'000 && !end; ++i) std::this_thread::yield();
    }
  });
  for (int round = 0; round < 15; ++round) {
    REQUIRE(pool.map([](int i) { return i + 1; }, items)[2999] == 3000);
    REQUIRE(pool.map([](int i) { return std::to_string(i); }, items)[2999] == "2999");
    std::vector<mh::AsyncResult<int>> results;
    for (int i = 0; i < 500; ++i) results.push_back(pool.apply_async(add, i, round));
    for (int i = 0; i < 500; ++i) REQUIRE(results[static_cast<std::size_t>(i)].get() == i + round);
  }
  end = true;
}

// ---- Too long, too much, stopped.

TEST_CASE("a task that hangs past its deadline is killed, and its error says so") {
  mh::Pool pool(2);
  using std::chrono::milliseconds;
  const auto hang = [] {
    for (;;) ::pause();
  };
  CHECK_THROWS_WITH_AS(pool.with({.deadline = milliseconds(50)}).apply(hang),
                       doctest::Contains("longer than its deadline of 0.05 s"), mh::DeadlineExceeded);
  CHECK_THROWS_AS(pool.map(
                      [](int i) {
                        while (i == 2) ::pause();
                        return i;
                      },
                      std::vector<int>{1, 2, 3}, {.deadline = milliseconds(50)}),
                  mh::DeadlineExceeded);
  check_usable(pool);
}

TEST_CASE("the deadline counts from the task's start, not from its submission") {
  mh::Pool pool(1);
  std::vector<mh::AsyncResult<int>> results;
  for (int i = 0; i < 8; ++i) {
    results.push_back(pool.with({.deadline = std::chrono::seconds(20)})
                          .apply_async(
                              [](int x) {
                                const auto start = mh::now_ns();
                                while (mh::now_ns() - start < 5'000'000) {
                                }
                                return x;
                              },
                              i));
  }
  for (int i = 0; i < 8; ++i) CHECK(results[static_cast<std::size_t>(i)].get() == i);
}

TEST_CASE("cancel with kill ends a running task at once") {
  mh::Pool pool(1);
  const FlagFile started;
  auto result = pool.apply_async(
      [](const Flag& flag) {
        flag.raise();
        for (;;) ::pause();
      },
      started.flag());
  REQUIRE(started->wait());
  CHECK(result.cancel({.kill = true}));
  CHECK_THROWS_AS(result.get(), mh::Cancelled);
  check_usable(pool);
}

TEST_CASE("a queued call can be cancelled, a running one is asked to end") {
  mh::Pool pool(1);
  const FlagFile started;
  auto busy = pool.apply_async(
      [](const Flag& flag) {
        flag.raise();
        while (!mh::this_task::stop_requested()) std::this_thread::yield();
        return 5;
      },
      started.flag());
  auto queued = pool.apply_async(add, 1, 2);
  REQUIRE(started->wait());
  CHECK(queued.cancel());
  CHECK(queued.cancel());  // it stays cancelled
  CHECK_THROWS_AS(queued.get(), mh::Cancelled);
  CHECK_FALSE(busy.cancel());
  CHECK(busy.get() == 5);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("a task that needs more than memory_limit fails with it, and its worker lives on") {
  mh::Pool pool(1, {.memory_limit = std::uint64_t{64} << 20});
  const int before = pool.apply([] { return static_cast<int>(::getpid()); });
  CHECK_THROWS_WITH_AS(pool.apply([] { return std::vector<char>(256 << 20, 'x').size(); }),
                       doctest::Contains("memory_limit"), mh::MemoryLimitExceeded);
  CHECK(pool.apply([] { return std::vector<char>(16 << 20, 'x').size(); }) == 16 << 20);
  CHECK(pool.apply([] { return static_cast<int>(::getpid()); }) == before);
}
#endif

TEST_CASE("a stopped worker holds up its own task only") {
  mh::Pool pool(2);
  check_usable(pool);
  const FlagFile started;
  auto held = pool.apply_async(
      [](const Flag& flag) {
        flag.raise();
        ::kill(::getpid(), SIGSTOP);
        return 1;
      },
      started.flag());
  REQUIRE(started->wait());
  for (int i = 0; i < 200; ++i) REQUIRE(pool.apply(add, i, i) == 2 * i);
  CHECK_FALSE(held.ready());
  for (const int pid : all_pids(pool)) ::kill(pid, SIGCONT);
  CHECK(held.get() == 1);
}

TEST_CASE("a stopped idle worker is not relied upon") {
  mh::Pool pool(2);
  check_usable(pool);
  for (int round = 0; round < 20; ++round) {
    const int pid = all_pids(pool)[static_cast<std::size_t>(round % 2)];
    ::kill(pid, SIGSTOP);
    REQUIRE(eventually([&] { return state_of(pid) == 'T'; }));  // until then it may take a task, and hold it
    for (int i = 0; i < 20; ++i) REQUIRE(pool.apply(add, i, i) == 2 * i);
    ::kill(pid, SIGCONT);
  }
}

TEST_CASE("a stopped worker that runs past its deadline is killed") {
  mh::Pool pool(1);
  CHECK_THROWS_AS(
      pool.with({.deadline = std::chrono::milliseconds(100)}).apply([] { ::kill(::getpid(), SIGSTOP); }),
      mh::DeadlineExceeded);
  check_usable(pool);
}

// ---- The initializer.

TEST_CASE("an initializer that throws is reported once and clearly, and is not tried again and again") {
  const FlagFile runs;
  mh::Pool pool(2, {.initializer = mh::bind(
                        [](const Flag& flag) {
                          flag.raise();
                          throw std::runtime_error("no licence file");
                        },
                        runs.flag())});
  CHECK_THROWS_WITH_AS(pool.map(square, std::vector<double>{1, 2}), doctest::Contains("no licence file"),
                       mh::InitializerFailed);
  CHECK_THROWS_AS(pool.apply(add, 1, 2), mh::InitializerFailed);
  CHECK(runs->count() <= 2);
}

TEST_CASE("an initializer that crashes breaks the pool, with the signal") {
  mh::Pool pool(2, {.initializer = [] { ::kill(::getpid(), SIGKILL); }});
  CHECK_THROWS_WITH_AS(pool.apply(add, 1, 2), doctest::Contains("SIGKILL"), mh::InitializerFailed);
}

// ---- Large and many.

#if !defined(__SANITIZE_THREAD__)
TEST_CASE("a result of one gigabyte arrives") {
  mh::Pool pool(1);
  const auto result = pool.apply([] { return std::vector<double>(std::size_t{1} << 27, 1.5); });
  REQUIRE(result.size() == std::size_t{1} << 27);
  CHECK(result.front() == 1.5);
  CHECK(result.back() == 1.5);
}

TEST_CASE("a result larger than memory is an error with numbers, not a crash") {
  mh::Pool pool(1);
  // A string that claims to be larger than any machine: packing it asks for the memory and never reads it.
  CHECK_THROWS_WITH_AS(pool.apply([] { return Huge{}; }), doctest::Contains("MiB"), mh::ResourceExhausted);
  check_usable(pool);
}
#endif

TEST_CASE("imap over an endless input runs in constant memory") {
  mh::Pool pool(2);
  struct Naturals {
    struct Iterator {
      using value_type = int;
      using difference_type = std::ptrdiff_t;
      int i = 0;
      int operator*() const { return i; }
      Iterator& operator++() {
        ++i;
        return *this;
      }
      void operator++(int) { ++i; }
      bool operator==(std::default_sentinel_t) const { return false; }
    };
    Iterator begin() const { return {}; }
    std::default_sentinel_t end() const { return {}; }
  };
  const auto resident = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  int seen = 0;
  long at_start = 0;
  for (const int x : pool.imap([](int i) { return i; }, Naturals{})) {
    REQUIRE(x == seen++);
    if (seen == 20'000) at_start = resident();
    if (seen == 100'000) break;
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep freed memory for a while
  CHECK(resident() - at_start < 2048);                               // KiB
#else
  CHECK(resident() >= at_start);
#endif
}

// ---- The pool's own end.

TEST_CASE("terminate drops what is queued and kills what runs") {
  mh::Pool pool(2);
  auto hang = pool.apply_async([] {
    for (;;) ::pause();
  });
  auto map = pool.map_async(
      [](int) {
        for (;;) ::pause();
      },
      std::vector<int>(10));
  pool.terminate();
  CHECK_THROWS_AS(hang.get(), mh::Cancelled);
  CHECK_THROWS_AS(map.get(), mh::Cancelled);
  CHECK_THROWS_AS(pool.apply(add, 1, 2), mh::PoolBroken);
}

TEST_CASE("an exception that passes a pool does not wait for its tasks") {
  try {
    mh::Pool pool(1);
    const auto hang = pool.apply_async([] {
      for (;;) ::pause();
    });
    throw std::runtime_error("on the way");
  } catch (const std::runtime_error& e) {
    CHECK(std::string(e.what()) == "on the way");
  }
}

TEST_CASE("no worker outlives its pool") {
  std::vector<int> pids;
  {
    mh::Pool pool(3);
    check_usable(pool);
    REQUIRE(eventually([&] {
      pids = pool.pids();
      return std::count(pids.begin(), pids.end(), 0) == 0;  // 0: its start is not known yet
    }));
  }
  for (const int pid : pids) CHECK(::kill(pid, 0) == -1);
}

TEST_CASE("Start::fork is refused while other threads run") {
  mh::Pool pool(2, {.start = mh::Start::fork});
  std::atomic<bool> end{false};
  std::jthread other([&] {
    while (!end) std::this_thread::yield();
  });
  CHECK_THROWS_WITH_AS(pool.map(square, std::vector<double>{1}), doctest::Contains("other thread"),
                       mh::Error);
  end = true;
  other.join();
  CHECK(pool.map(square, std::vector<double>{3}) == std::vector<double>{9});
}

TEST_CASE("a zygote pool works in a program with threads that hold locks") {
  std::mutex mutex;
  std::atomic<bool> end{false};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      while (!end) {
        const std::lock_guard lock(mutex);
        const std::string text(1000, 'x');  // the allocator's locks, too
        static_cast<void>(text.find('y'));
      }
    });
  }
  for (int round = 0; round < 5; ++round) {
    mh::Pool pool(2);
    CHECK(pool.map([](int i) { return std::string(static_cast<std::size_t>(i), 'x'); },
                   std::vector<int>{1, 2, 3})[2] == "xxx");
  }
  end = true;
}

}  // namespace
