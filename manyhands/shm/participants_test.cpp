#include "manyhands/shm/participants.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "manyhands/shm/block.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/lock_errors.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands::shm {
namespace {

TEST_CASE("a thread keeps its token; another has another, which outlives it by name") {
  const ThreadToken mine = this_thread_token();
  CHECK(this_thread_token() == mine);
  CHECK(is_alive(mine));
  ThreadToken other = 0;
  std::thread([&] {
    other = this_thread_token();
    CHECK(is_alive(other));
  }).join();
  CHECK(other != mine);
  CHECK_FALSE(is_alive(other));
  const ThreadInfo info = describe_thread(other);
  CHECK(info.pid == ::getpid());
  CHECK_FALSE(info.alive);
}

TEST_CASE("a forked child is another participant, and seen dead when it was killed") {
  const ThreadToken mine = this_thread_token();
  const BlockPtr mail = Block::create(8, BlockKind::raw);
  auto& token = at<std::atomic<ThreadToken>>(mail->offset());
  const pid_t child = ::fork();
  if (child == 0) {
    name_this_process("the child");
    token.store(this_thread_token());
    for (;;) ::pause();
  }
  while (token.load() == 0) std::this_thread::yield();
  CHECK(token.load() != mine);
  CHECK(is_alive(token.load()));
  CHECK(describe_thread(token.load()).name == "the child");
  CHECK(describe_thread(token.load()).pid == child);
  ::kill(child, SIGKILL);
  siginfo_t info;
  ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);  // a zombie
  CHECK_FALSE(is_alive(token.load()));
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK_FALSE(is_alive(token.load()));
  CHECK(test::eventually([] {  // the zygote may enter itself meanwhile
    const auto before = live_processes();
    sweep();
    return live_processes() == before;
  }));
  CHECK(describe_thread(token.load()).name == "the child");
}

TEST_CASE("who cannot look into /proc takes nobody for dead") {
  const ThreadToken mine = this_thread_token();
  const pid_t child = ::fork();
  if (child == 0) {
    // Formats once while it has descriptors: UBSan opens a pipe when it meets an object of a class for the
    // first time.
    static_cast<void>(this_process_name());
    rlimit none{3, 3};
    ::setrlimit(RLIMIT_NOFILE, &none);
    while (::open("/dev/null", O_RDONLY) >= 0) {
    }
    ::_exit(is_alive(mine) && is_alive(this_thread_token()) ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("a fiber stands in for its thread") {
  const ThreadToken mine = this_thread_token();
  const ThreadToken fiber = enter_fiber("p1");
  CHECK(exchange_this_thread(fiber) == mine);
  CHECK(this_thread_token() == fiber);
  CHECK(describe_thread(fiber).name == "p1");
  CHECK(exchange_this_thread(mine) == fiber);
  CHECK(is_alive(fiber));
  leave_fiber(fiber);
  CHECK_FALSE(is_alive(fiber));
}

TEST_CASE("sites are interned once and described by file, line and function") {
  const auto here = std::source_location::current();
  const Site site = intern(here);
  CHECK(site != 0);
  CHECK(intern(here) == site);
  CHECK(intern(std::source_location::current()) != site);
  const std::string text = describe(site);
  CHECK(text.find("participants_test.cpp:" + std::to_string(here.line())) != std::string::npos);
  CHECK(describe(0) == "an unknown line");
  CHECK(describe(max_sites + 5) == "an unknown line");
}

// Goes into the folder, where no /proc is; false if the system does not allow it.
bool leave_proc(const std::string& folder) {
  const auto go = [&] { return ::chroot(folder.c_str()) == 0 && ::chdir("/") == 0; };
  return (go() || (::unshare(CLONE_NEWUSER) == 0 && go())) && ::access("/proc/self", F_OK) != 0;
}

TEST_CASE("without /proc what a live process or thread holds stays its own, and a dead one is found out") {
  const test::Words words;
  std::string folder = std::filesystem::temp_directory_path() / "manyhands-test-XXXXXX";
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  test::Child world([=] {
    if (!leave_proc(folder)) ::_exit(77);
    const auto require = [](bool condition, int code) {
      if (!condition) ::_exit(code);
    };
    const Lock lock;
    test::Child holder([=] {
      lock.lock();
      words[0] = 1;
      for (;;) ::pause();
    });
    require(test::eventually([&] { return words[0] == 1; }), 2);
    require(!lock.acquire(std::chrono::milliseconds(200)), 3);  // looks several times whether it lives
    require(is_alive(lock.state().owner()), 4);
    sweep();
    require(live_processes() >= 2 && lock.locked(), 5);

    const Lock other;
    std::atomic<bool> ends{false};
    std::thread thread([&] {
      other.lock();
      words[1] = 1;
      while (!ends) std::this_thread::yield();
      other.unlock();
    });
    require(test::eventually([&] { return words[1] == 1; }), 6);
    require(!other.acquire(std::chrono::milliseconds(200)), 7);
    ends = true;
    thread.join();

    holder.signal(SIGKILL);  // and nobody reaps it
    try {
      lock.lock();
      ::_exit(8);
    } catch (const LockAbandoned&) {
    }
  });
  const int status = world.wait();
  ::rmdir(folder.c_str());
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    MESSAGE("not tested: this user may not chroot");
    return;
  }
  CHECK(status == 0);
}

}  // namespace
}  // namespace manyhands::shm
