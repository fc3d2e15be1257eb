#include "manyhands/base/child_process.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

namespace manyhands {
namespace {

// The exit status of a child that runs `body`; one that came back into this function has 99.
template <class Body>
int status_of_child(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    try {
      ::close(STDERR_FILENO);
      run_as_child("a child", body);
    } catch (...) {
    }
    ::_exit(99);
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("a child ends where its body ends, whatever leaves it") {
  CHECK(status_of_child([] {}) == 0);
  CHECK(status_of_child([] { ::_exit(3); }) == 3);
  CHECK(status_of_child([] { throw std::runtime_error("no memory"); }) == child_failed);
  CHECK(status_of_child([] { throw 7; }) == child_failed);
}

}  // namespace
}  // namespace manyhands
