#include "manyhands/base/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace manyhands {
namespace {

// What a process writes that has MANYHANDS_LOG=`level` in its environment, or not the variable.
std::string lines_with(const char* level) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::dup2(::open("/dev/null", O_WRONLY), STDOUT_FILENO);  // doctest's own
    if (level == nullptr)
      ::unsetenv("MANYHANDS_LOG");
    else
      ::setenv("MANYHANDS_LOG", level, 1);
    ::execl("/proc/self/exe", "test", "--no-skip", "-tc=program: logs", nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 1024> part{};
  for (ssize_t size = 0; (size = ::read(ends[0], part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<std::size_t>(size));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return text;
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST_CASE("program: logs" * doctest::skip()) {
  log::debug("worker {} has started", 1);
  log::info("worker {} has ended", 2);
  log::warn("worker {} was stopped", 3);
}

TEST_CASE("warnings are shown as one line with our name, lower levels only if asked for") {
  CHECK(lines_with(nullptr) == "manyhands: worker 3 was stopped\n");
  CHECK(lines_with("warn") == "manyhands: worker 3 was stopped\n");
  CHECK(lines_with("off") == "");
  const std::string info = lines_with("info");
  CHECK_FALSE(contains(info, "worker 1 has started"));
  CHECK(contains(info, "worker 2 has ended\n"));
  CHECK(contains(info, "worker 3 was stopped\n"));
}

TEST_CASE("lower levels say when and in which process") {
  const std::string all = lines_with("debug");  // also of the zygote's start
  const auto line = all.rfind("\n", all.find("worker 1"));
  const std::string text = line == std::string::npos ? all : all.substr(line + 1);
  unsigned hours = 99;
  unsigned minutes = 99;
  double seconds = 99;
  int pid = 0;
  REQUIRE(std::sscanf(text.c_str(), "manyhands %u:%u:%lfZ [%d] worker 1", &hours, &minutes, &seconds, &pid) ==
          4);
  CHECK(hours < 24);
  CHECK(minutes < 60);
  CHECK(seconds < 61);
  CHECK(pid > 0);
  CHECK(contains(text, "] worker 3 was stopped\n"));
}

TEST_CASE("a level that does not exist is pointed out, and warnings are shown") {
  CHECK(lines_with("loud") ==
        "manyhands: MANYHANDS_LOG must be debug, info, warn or off, and is something else\n"
        "manyhands: worker 3 was stopped\n");
}

}  // namespace
}  // namespace manyhands
