#include "manyhands/base/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

namespace manyhands {
namespace {

TEST_CASE("warnings are shown as one line with our name, lower levels only if asked for") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  log::info("not shown");
  log::warn("worker 1 was stopped");
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(ends[1]);
  std::array<char, 256> text{};
  const auto size = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  CHECK(std::string(text.data(), static_cast<std::size_t>(size)) == "manyhands: worker 1 was stopped\n");
}

}  // namespace
}  // namespace manyhands
