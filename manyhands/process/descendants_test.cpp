#include "manyhands/process/descendants.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "tests/support.hpp"

namespace manyhands::process {
namespace {

TEST_CASE("the children of a process are found, and all that descend from it can be ended") {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::fork() == 0) {
      for (;;) ::pause();
    }
    for (;;) ::pause();
  }
  const auto mine = children_of(::getpid());
  CHECK(std::count(mine.begin(), mine.end(), child) == 1);
  REQUIRE(test::eventually([&] { return children_of(child).size() == 1; }));
  kill_descendants(child);
  CHECK(::kill(child, 0) == 0);
  const auto left = children_of(child);  // killed, and not waited for by its parent, which pauses
  REQUIRE(left.size() == 1);
  REQUIRE(test::eventually([&] {
    std::ifstream stat("/proc/" + std::to_string(left.front()) + "/stat");
    std::string number, name, state;
    return (stat >> number >> name >> state) && state == "Z";
  }));
  ::kill(child, SIGKILL);
  CHECK(::waitpid(child, nullptr, 0) == child);
}

TEST_CASE("a process that is not there has no children") { CHECK(children_of(-1).empty()); }

}  // namespace
}  // namespace manyhands::process
