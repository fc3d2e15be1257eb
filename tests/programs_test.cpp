// Faults of whole programs: the parent killed, Ctrl-C, the zygote killed. Nothing may hang, nothing may stay.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>

#include "manyhands/multicore.hpp"
#include "tests/support.hpp"

namespace mh = manyhands;
using mh::test::eventually;
using mh::test::FlagFile;
using mh::test::Program;
using mh::test::victim;

namespace {

#if defined(__SANITIZE_THREAD__)  // where the zygote is forked twice, as the tool wants it
constexpr bool has_keeper = false;
#else
constexpr bool has_keeper = true;
#endif

// The files in /dev/shm that may be manyhands'.
std::set<std::string> names_of_ours() {
  std::set<std::string> names;
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator("/dev/shm", none)) {
    const std::string name = file.path().filename();
    if (name.find("manyhands") != std::string::npos || name.starts_with("mh")) names.insert(name);
  }
  return names;
}

TEST_CASE("when the parent is killed, its workers, their pools and its zygote are gone, and no file stays") {
  const auto shm_before = names_of_ours();
  for (const std::string mode : {"zygote", "fork", "spawn", "nested"}) {
    CAPTURE(mode);
    const FlagFile at_work;
    Program program(victim(), {mode, at_work.flag().path});
    REQUIRE(at_work->wait(2));
    CHECK(program.alive().size() >= 3);
    program.signal(SIGKILL);
    program.wait();
    CHECK(eventually([&] { return program.alive().empty(); }));
  }
  CHECK(eventually([&] {  // other tests' names come and go
    const auto names = names_of_ours();
    return std::includes(shm_before.begin(), shm_before.end(), names.begin(), names.end());
  }));
}

TEST_CASE("a parent that is killed at any moment leaves no process") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 25; ++round) {
    const FlagFile at_work;
    Program program(victim(), {"churn", at_work.flag().path});
    if (round % 3 != 0) REQUIRE(at_work->wait());  // every third dies while it starts
    for (auto i = random() % 20'000; i > 0; --i) std::this_thread::yield();
    program.signal(SIGKILL);
    program.wait();
    REQUIRE(eventually([&] { return program.alive().empty(); }));
  }
}

TEST_CASE("a program killed with processes, shared memory and a name leaves none of them") {
  const FlagFile at_work;
  Program program(victim(), {"named", at_work.flag().path});
  REQUIRE(at_work->wait(2));
  const std::string name = "/dev/shm/manyhands-test-victim-" + std::to_string(program.pid());
  CHECK(std::filesystem::exists(name));
  program.signal(SIGKILL);
  program.wait();
  CHECK(eventually([&] { return program.alive().empty(); }));
  CHECK_FALSE(std::filesystem::exists(name));
}

TEST_CASE("a detached process outlives its program, and nothing outlives it") {
  const FlagFile at_work;
  Program program(victim(), {"detach", at_work.flag().path});
  const int status = program.wait();
  CHECK(WIFEXITED(status));
  REQUIRE(at_work->wait(1));
  // The process, the zygote, whose child it is, and the zygote's keeper.
  CHECK(program.alive().size() == (has_keeper ? 3U : 2U));
  at_work->raise();
  CHECK(eventually([&] { return program.alive().empty(); }));
}

TEST_CASE("the log tells of births, deaths, retries, and waits over a second, and only if asked") {
  for (const bool asked : {true, false}) {
    CAPTURE(asked);
    const FlagFile died;
    if (asked)
      ::setenv("MANYHANDS_LOG", "debug", 1);
    else
      ::unsetenv("MANYHANDS_LOG");
    Program program(victim(), {"log", died.flag().path});
    ::unsetenv("MANYHANDS_LOG");
    const int status = program.wait();
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    const std::string text = program.errors();
    CAPTURE(text);
    if (!asked) {
      CHECK(text.empty());
      continue;
    }
    for (const char* part : {"zygote started", "pool of 2 workers opened", "worker 1 (pid ", ") started",
                             " ended: SIGKILL (Killed)", "goes to another worker, attempt 2: worker ",
                             "pool of 2 workers closes", "process ", " waits for Lock 'till' at ",
                             ", held by ", " ended: exit status 0"})
      CHECK_MESSAGE(text.find(part) != std::string::npos, part);
  }
}

// Whether the process has a handler for SIGINT.
bool notes_interrupts(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("SigCgt:"))
      return (std::stoull(line.substr(7), nullptr, 16) >> (SIGINT - 1) & 1) != 0;
  }
  return false;
}

TEST_CASE("Ctrl-C during a map: one line, the program ends by SIGINT, nothing stays") {
  const FlagFile at_work;
  Program program(victim(), {"zygote", at_work.flag().path});
  REQUIRE(at_work->wait(2));
  REQUIRE(eventually([&] { return notes_interrupts(program.pid()); }));  // it waits
  for (const pid_t pid : program.alive()) ::kill(pid, SIGINT);  // the terminal sends it to all of the group
  const int status = program.wait();
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGINT);
  CHECK(eventually([&] { return program.alive().empty(); }));
  const std::string errors = program.errors();
  CHECK(std::count(errors.begin(), errors.end(), '\n') == 1);
  CHECK(errors.find("manyhands: interrupted") == 0);
}

TEST_CASE("Ctrl-C is an exception in programs that asked for it") {
  const FlagFile at_work;
  Program program(victim(), {"raise", at_work.flag().path});
  REQUIRE(at_work->wait(2));
  program.signal(SIGINT);
  const int status = program.wait();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 3);
  CHECK(program.errors().find("caught: interrupted by Ctrl-C") == 0);
  CHECK(eventually([&] { return program.alive().empty(); }));
}

TEST_CASE("when the zygote is killed, waiting calls get an error that says so") {
  const FlagFile at_work;
  Program program(victim(), {"zygote", at_work.flag().path});
  REQUIRE(at_work->wait(2));
  for (const pid_t pid : program.alive()) {
    std::ifstream comm("/proc/" + std::to_string(pid) + "/comm");
    std::string name;
    std::getline(comm, name);
    if (name == "mh-zygote") ::kill(pid, SIGKILL);
  }
  const int status = program.wait();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  const std::string errors = program.errors();
  CAPTURE(errors);
  CHECK(errors.find(std::string("the zygote, from which worker processes are started, ") +
                    (has_keeper ? "was killed by SIGKILL" : "is gone")) != std::string::npos);
  CHECK(eventually([&] { return program.alive().empty(); }));
}

TEST_CASE("a pool in a program that has threads and did not call mh::init is refused with the remedy") {
  const FlagFile unused;
  Program program(victim(), {"threads-without-init", unused.flag().path});
  CHECK(WEXITSTATUS(program.wait()) == 1);
  CHECK(program.errors().find("Call mh::init(argc, argv) at the start of main") != std::string::npos);
}

// The lines that a mode of the victim writes to its standard output, a file, sorted.
std::vector<std::string> printed(const char* mode) {
  const FlagFile output;
  const pid_t child = ::fork();
  if (child == 0) {
    const int fd = ::open(output.flag().path.c_str(), O_WRONLY | O_TRUNC | O_APPEND);
    ::dup2(fd, STDOUT_FILENO);
    ::execl(victim().c_str(), "victim", mode, "unused", nullptr);
    ::_exit(127);
  }
  ::waitpid(child, nullptr, 0);
  std::ifstream file(output.flag().path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  return lines;
}

TEST_CASE("a captured pointer into memory mapped shared before mh::init leads to it in tasks and processes") {
  CHECK(printed("map-before-init") == std::vector<std::string>{"2.5 3.5"});
}

TEST_CASE("what tasks print through stdio arrives, once") {
  CHECK(printed("print") == std::vector<std::string>{"item 1", "item 2", "item 3"});
}

TEST_CASE("what a program, its tasks and processes print through a std::cout with a buffer arrives, once") {
  CHECK(printed("print-unsynced") == std::vector<std::string>{"after", "before", "between", "between", "call",
                                                              "call", "forked", "item 1", "item 1", "item 2",
                                                              "item 2", "item 3", "item 3", "process"});
}

}  // namespace
