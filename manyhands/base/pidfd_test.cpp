#include "manyhands/base/pidfd.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.hpp"

namespace manyhands {
namespace {

template <class Body>
pid_t forked(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) body();
  return child;
}

TEST_CASE("a child's end is known though somebody else has waited for it") {
  const auto status_of = [](const auto& body) {
    const pid_t child = forked(body);
    const UniqueFd pidfd = open_pidfd(child);
    REQUIRE(pidfd);
    CHECK(::waitpid(child, nullptr, 0) == child);
    CHECK_FALSE(send_signal(pidfd, SIGTERM));
    return status_of_reaped(pidfd);
  };
  const auto exited = status_of([] { ::_exit(3); });
  const auto killed = status_of([] {
    ::raise(SIGKILL);
    ::_exit(1);
  });
  if (!test::reaped_ends_are_told()) return;
  REQUIRE(exited.has_value());
  CHECK(WEXITSTATUS(*exited) == 3);
  REQUIRE(killed.has_value());
  CHECK(WTERMSIG(*killed) == SIGKILL);
}

TEST_CASE("a child's end is known though SIGCHLD is ignored") {
  const auto before = ::signal(SIGCHLD, SIG_IGN);
  const pid_t child = forked([] {
    ::pause();
    ::_exit(1);
  });
  const UniqueFd pidfd = open_pidfd(child);
  REQUIRE(pidfd);
  CHECK(status_of_reaped(pidfd) == std::nullopt);  // it lives
  CHECK(send_signal(pidfd, SIGKILL));
  pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  CHECK(::poll(&ended, 1, -1) == 1);
  const auto status = status_of_reaped(pidfd);
  ::signal(SIGCHLD, before);
  if (!test::reaped_ends_are_told()) return;
  REQUIRE(status.has_value());
  CHECK(WTERMSIG(*status) == SIGKILL);
}

TEST_CASE("no process, no handle") {
  CHECK_FALSE(open_pidfd(0x3ffffff));
  CHECK_FALSE(send_signal(UniqueFd(), SIGTERM));
  CHECK(status_of_reaped(UniqueFd()) == std::nullopt);
}

}  // namespace
}  // namespace manyhands
