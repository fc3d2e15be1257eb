#include "manyhands/base/streams.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

namespace manyhands {
namespace {

// What a child that runs `body` writes to its standard output, a pipe.
template <class Body>
std::string output_of(Body body) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  flush_streams();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    body();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 256> part{};
  for (ssize_t n = 0; (n = ::read(ends[0], part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<std::size_t>(n));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return text;
}

TEST_CASE("text in any standard stream is written once, though a fork copies the buffers") {
  const std::string text = output_of([] {
    std::ios::sync_with_stdio(false);
    std::cout << "cout\n";
    std::fputs("stdout\n", stdout);
    flush_streams();
    const pid_t copy = ::fork();
    if (copy == 0) {
      std::cout << "copy\n";
      flush_standard_output();
      ::_exit(0);
    }
    ::waitpid(copy, nullptr, 0);
    std::cout << "end\n";
    flush_streams();
  });
  CHECK(text == "cout\nstdout\ncopy\nend\n");
}

TEST_CASE("a stream of the user's that throws does not harm") {
  struct Thrower : std::streambuf {
    int sync() override { throw 42; }
  } thrower;
  auto* const before = std::cout.rdbuf(&thrower);
  flush_streams();
  flush_standard_output();
  std::cout.rdbuf(before);
}

}  // namespace
}  // namespace manyhands
