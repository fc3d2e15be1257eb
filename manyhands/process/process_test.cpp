#include "manyhands/process/process.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/process/init.hpp"
#include "manyhands/process/pool.hpp"
#include "manyhands/shm/participants.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

// A word that processes share, as the simplest handle there can be.
class Word {
 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::raw;
  Word() : block_(shm::Block::create(8, block_kind)) {}
  explicit Word(shm::BlockPtr block) : block_(std::move(block)) {}
  const shm::BlockPtr& block() const noexcept { return block_; }

  std::atomic<std::uint32_t>& get() const { return shm::at<std::atomic<std::uint32_t>>(block_->offset()); }
  std::uint32_t refs() const { return shm::header_of(block_->offset()).refs.load(); }
  bool wait_for(std::uint32_t value) const {
    const Deadline deadline(std::chrono::seconds(20));
    while (get().load() != value && !deadline.passed()) std::this_thread::yield();
    return get().load() == value;
  }

 private:
  shm::BlockPtr block_;
};

void wait_until_killed(Word at_work) {
  at_work.get() = 1;
  for (;;) ::pause();
}

TEST_CASE("a process runs its function with its arguments, and a handle means the same memory") {
  Word sum;
  Process p{[](Word out, std::uint32_t a, const std::string& text, const std::vector<double>& values) {
              out.get() = a + static_cast<std::uint32_t>(text.size() + values.size());
            },
            sum, 7U, "four", std::vector<double>(100'000, 1.0)};
  CHECK(p.join());
  CHECK(sum.get() == 100'011);
  CHECK(p.exit_code() == 0);
  CHECK_FALSE(p.is_alive());
  CHECK(p.join(std::chrono::nanoseconds(0)));  // again, at once
}

TEST_CASE("a process is alive until its end, and join with a timeout says so") {
  Word go;
  Process p{{.name = "waiter"}, [](Word flag) { static_cast<void>(flag.wait_for(1)); }, go};
  CHECK(p.is_alive());
  CHECK_FALSE(p.exit_code().has_value());
  CHECK_FALSE(p.join(std::chrono::milliseconds(1)));
  CHECK_FALSE(p.join(std::chrono::nanoseconds(-1)));
  CHECK(p.name() == "waiter");
  CHECK(p.pid() > 0);
  CHECK(p.pid() != ::getpid());
  const auto active = active_children();
  REQUIRE(active.size() == 1);
  CHECK(active[0].name == "waiter");
  CHECK(active[0].pid == p.pid());
  go.get() = 1;
  CHECK(p.join());
  CHECK(active_children().empty());
}

TEST_CASE("terminate and kill end a process, and its exit code is the negative signal") {
  for (const int number : {SIGTERM, SIGKILL}) {
    Word at_work;
    Process p{wait_until_killed, at_work};
    REQUIRE(at_work.wait_for(1));
    number == SIGTERM ? p.terminate() : p.kill();
    CHECK(p.join());
    CHECK(p.exit_code() == -number);
    p.kill();  // of one that has ended: nothing
    CHECK(shm::header_of(at_work.block()->offset()).refs.load() >= 1);
  }
}

TEST_CASE("what a killed process held is given back") {
  Word at_work;
  Process p{wait_until_killed, at_work};
  REQUIRE(at_work.wait_for(1));
  CHECK(at_work.refs() >= 2);
  p.kill();
  CHECK(p.join());
  CHECK(at_work.refs() == 1);
}

TEST_CASE("the exit code is that of exit, or 1 after an exception") {
  Process exits{[] { ::_exit(7); }};
  exits.join();
  CHECK(exits.exit_code() == 7);
  Process throws{[] { throw std::runtime_error("expected by the test"); }};
  throws.join();
  CHECK(throws.exit_code() == 1);
  Process crashes{[] { ::raise(SIGABRT); }};
  crashes.join();
  CHECK(crashes.exit_code() == -SIGABRT);
}

TEST_CASE("the sentinel can be polled, before and after the end") {
  Word at_work;
  Process p{wait_until_killed, at_work};
  pollfd polled{p.sentinel(), POLLIN, 0};
  CHECK(::poll(&polled, 1, 0) == 0);
  p.kill();
  CHECK(::poll(&polled, 1, 20'000) == 1);
  p.join();
  Process q{[] {}};
  q.join();
  polled.fd = q.sentinel();
  CHECK(::poll(&polled, 1, 0) == 1);
}

TEST_CASE("the destructor waits; while an exception passes by it kills") {
  Word done;
  {
    Process p{[](Word word) { word.get() = 1; }, done};
  }
  CHECK(done.get() == 1);
  Word at_work;
  try {
    Process p{wait_until_killed, at_work};
    REQUIRE(at_work.wait_for(1));
    throw std::runtime_error("passing by");
  } catch (const std::runtime_error&) {
  }
  CHECK(active_children().empty());
}

TEST_CASE("a process that ends takes along the processes that it started") {
  Word inner;
  Word ready;
  Process outer{[](Word mail, Word flag) {
                  Process p{[](Word word) {
                              word.get() = static_cast<std::uint32_t>(::getpid());
                              for (;;) ::pause();
                            },
                            mail};
                  while (mail.get() == 0) std::this_thread::yield();
                  flag.get() = 1;
                  for (;;) ::pause();
                },
                inner, ready};
  REQUIRE(ready.wait_for(1));
  const auto pid = static_cast<pid_t>(inner.get().load());
  CHECK(::kill(pid, 0) == 0);
  outer.kill();
  outer.join();
  CHECK(test::eventually([&] { return ::kill(pid, 0) != 0; }));
}

TEST_CASE("processes know their names and parents") {
  CHECK(this_process::name() == "main");
  CHECK_FALSE(this_process::parent().has_value());
  Word right;
  Process p{{.name = "p1"},
            [](Word answer, pid_t parent) {
              if (this_process::name() != "p1" || this_process::parent()->pid != parent ||
                  this_process::parent()->name != "main")
                return;
              Process inner{[](Word found) { found.get() = this_process::parent()->name == "p1" ? 1 : 0; },
                            answer};
            },
            right,
            ::getpid()};
  p.join();
  CHECK(right.get() == 1);
}

TEST_CASE("active children are those that run, however they were started") {
  for (const Start start : {Start::zygote, Start::fork}) {
    Process runs{{.name = "runs", .start = start}, [] { ::pause(); }};
    Process ends{{.name = "ends", .start = start}, [] {}};
    Process killed{{.name = "killed", .start = start}, [] { ::raise(SIGKILL); }};
    CHECK(test::eventually([] { return active_children().size() == 1; }));
    CHECK(active_children().front().name == "runs");
    CHECK(active_children().front().pid == runs.pid());
    CHECK(ends.exit_code() == 0);
    CHECK(killed.exit_code() == -SIGKILL);
    runs.kill();
  }
}

TEST_CASE("after the zygote was killed the next process starts a new one") {
  const auto parent_of = [](pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(stat, text);
    return static_cast<pid_t>(std::stoi(text.substr(text.rfind(')') + 4)));
  };
  Process first{[] { ::pause(); }};
  const pid_t zygote = parent_of(first.pid());
  ::kill(zygote, SIGKILL);
  first.join();
  Word word;
  Process second{[](Word found) { found.get() = 2; }, word};
  CHECK(second.join());
  CHECK(second.exit_code() == 0);
  CHECK(word.get() == 2);
  Process third{[] { ::pause(); }};
  ::kill(parent_of(third.pid()), SIGKILL);
  third.join();
  Pool pool(1);
  CHECK(pool.apply([] { return 3; }) == 3);
}

TEST_CASE("Start::fork runs any closure on a snapshot of the caller") {
  std::vector<int> local{1, 2, 3};
  Word sum;
  Process p{{.start = Start::fork}, snapshot([&] { sum.get() = static_cast<std::uint32_t>(local.size()); })};
  CHECK(p.join());
  CHECK(p.exit_code() == 0);
  CHECK(sum.get() == 3);
  Process throws{{.start = Start::fork}, [] { ::_exit(9); }};
  throws.join();
  CHECK(throws.exit_code() == 9);
  Process detached{{.start = Start::fork}, [] {}};
  CHECK_THROWS_WITH_AS(detached.detach(), doctest::Contains("Start::zygote"), Error);
}

TEST_CASE("Start::spawn starts the program anew with the same shared memory") {
  Word sum;
  Process p{{.start = Start::spawn}, [](Word word) { word.get() = 5; }, sum};
  CHECK(p.join());
  CHECK(p.exit_code() == 0);
  CHECK(sum.get() == 5);
}

TEST_CASE("a process that was moved from stands for none") {
  Process p{[] {}};
  Process q = std::move(p);
  CHECK(q.joinable());
  CHECK_FALSE(p.joinable());
  CHECK_THROWS_WITH_AS(static_cast<void>(p.pid()), doctest::Contains("moved from or detached"), Error);
  q = Process{[] { ::_exit(3); }};
  q.join();
  CHECK(q.exit_code() == 3);
}

TEST_CASE("a hundred processes killed at random moments are seen to end, and what they held is given back") {
  const auto before = shm::heap_statistics().allocated;
  for (int round = 0; round < 100; ++round) {
    Word word;
    Process p{[](Word count, const std::string& text) {
                for (;;) {
                  Word another;
                  another.get() = static_cast<std::uint32_t>(text.size());
                  count.get().fetch_add(1);
                }
              },
              word, std::string(5000, 'x')};
    // By the clock: on a busy machine a count of yields may take minutes.
    const Deadline moment(std::chrono::microseconds(round * 10));
    while (!moment.passed()) std::this_thread::yield();
    p.kill();
    REQUIRE(p.join());
    CHECK(p.exit_code() == -SIGKILL);
  }
  // Each held several blocks. One that it was just taking or giving back when it was killed may be lost.
  CHECK(shm::heap_statistics().allocated <= before + 100);
}

}  // namespace
}  // namespace manyhands
