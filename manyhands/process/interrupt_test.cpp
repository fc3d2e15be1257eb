#include "manyhands/process/interrupt.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace manyhands::process {
namespace {

int ignored_count = 0;

TEST_CASE("under a guard SIGINT is noted once, and the default is back afterwards") {
  ::signal(SIGINT, SIG_DFL);
  {
    const InterruptGuard outer;
    const InterruptGuard inner;
    ::raise(SIGINT);
    CHECK(InterruptGuard::take());
    CHECK_FALSE(InterruptGuard::take());
  }
  struct sigaction now{};
  ::sigaction(SIGINT, nullptr, &now);
  const bool is_default = now.sa_handler == SIG_DFL;
  CHECK(is_default);
}

TEST_CASE("a handler of the program's own is left alone") {
  ::signal(SIGINT, [](int) { ++ignored_count; });
  {
    const InterruptGuard guard;
    ::raise(SIGINT);
    CHECK_FALSE(InterruptGuard::take());
  }
  CHECK(ignored_count == 1);
  ::signal(SIGINT, SIG_DFL);
}

TEST_CASE("an interrupt that nobody took ends the program when the guard goes") {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGINT, SIG_DFL);
    {
      const InterruptGuard guard;
      ::raise(SIGINT);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGINT);
}

// Runs `body` in a child process; its wait status.
template <class Body>
int status_of(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGINT, SIG_DFL);
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_CASE("with OnInterrupt::raise an interrupt between two waits is kept for the next") {
  const int status = status_of([] {
    set_on_interrupt(OnInterrupt::raise);
    ::raise(SIGINT);
    const InterruptGuard guard;
    if (!InterruptGuard::take()) ::_exit(1);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("with OnInterrupt::raise a second interrupt, the first not taken, ends the program") {
  const int status = status_of([] {
    set_on_interrupt(OnInterrupt::raise);
    ::raise(SIGINT);
    ::raise(SIGINT);
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGINT);
}

TEST_CASE("end_by_interrupt ends the process as SIGINT does") {
  const pid_t child = ::fork();
  if (child == 0) end_by_interrupt();
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WTERMSIG(status) == SIGINT);
}

}  // namespace
}  // namespace manyhands::process
