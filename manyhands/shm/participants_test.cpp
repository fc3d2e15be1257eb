#include "manyhands/shm/participants.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "manyhands/shm/block.hpp"
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

}  // namespace
}  // namespace manyhands::shm
