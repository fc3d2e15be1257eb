#include "manyhands/base/unique_fd.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>

namespace manyhands {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }
int open_null() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST_CASE("the descriptor closes with its owner") {
  const int raw = open_null();
  {
    const UniqueFd fd(raw);
  }
  CHECK_FALSE(is_open(raw));
}

TEST_CASE("moving hands the descriptor over and closes what the target held") {
  const int first = open_null();
  const int second = open_null();
  UniqueFd a(first);
  UniqueFd b(second);
  a = std::move(b);
  CHECK_FALSE(is_open(first));
  CHECK(is_open(second));
  CHECK(a.get() == second);
}

TEST_CASE("release gives the descriptor up without closing it") {
  UniqueFd fd(open_null());
  const int raw = fd.release();
  CHECK_FALSE(fd);
  CHECK(is_open(raw));
  ::close(raw);
}

TEST_CASE("closed standard descriptors are filled, so that none of ours gets their numbers") {
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int fd : {0, 1, 2}) ::close(fd);
    fill_standard_descriptors();
    const UniqueFd ours(::open("/dev/null", O_RDONLY));
    ::_exit(ours.get() > 2 && ::fcntl(1, F_GETFL) >= 0 && ::fcntl(2, F_GETFL) >= 0 ? 0 : 1);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace
}  // namespace manyhands
