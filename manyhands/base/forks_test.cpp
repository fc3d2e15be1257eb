#include "manyhands/base/forks.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace manyhands {
namespace {

TEST_CASE("a fork knows that it is one, and its parent is none for that") {
  const int before = forks();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(forks() == before + 1 ? 0 : 1);
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(forks() == before);
}

}  // namespace
}  // namespace manyhands
