#include "manyhands/process/surroundings.hpp"

#include <doctest/doctest.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <clocale>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "manyhands/process/pool.hpp"
#include "manyhands/process/process.hpp"

namespace manyhands::process {
namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "-";
}

// What a process has from its system, as text.
std::string look() {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  rlimit core{};
  ::getrlimit(RLIMIT_CORE, &core);
  return std::filesystem::current_path().string() + " " + variable("MANYHANDS_TEST_SETTING") + " " +
         std::to_string(mask) + " " + std::to_string(core.rlim_cur) + " " +
         std::to_string(::getpriority(PRIO_PROCESS, 0)) + " " + std::setlocale(LC_ALL, nullptr) + " " +
         std::to_string(::geteuid()) + " " + std::to_string(::getgroups(0, nullptr));
}

TEST_CASE("workers and processes have the program's surroundings at the time they are asked for") {
  const Pool before(1);  // the zygote is as the program was until here
  std::filesystem::current_path("/");
  ::setenv("MANYHANDS_TEST_SETTING", "on", 1);
  ::umask(077);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + 1);
  std::setlocale(LC_ALL, "C.UTF-8");
  {
    Pool pool(1);
    CHECK(pool.apply(look) == look());
  }
  ::unsetenv("MANYHANDS_TEST_SETTING");
  std::filesystem::current_path("/tmp");
  Array<char> text(1000);
  Process process{[](Array<char> to) {
                    const std::string seen = look();
                    seen.copy(to.data(), to.size() - 1);
                  },
                  text};
  process.join();
  CHECK(std::string(text.data()) == look());
}

TEST_CASE("a program that gave up root has workers without root") {
  if (::geteuid() != 0) return;
  const Pool before(1);
  const pid_t child = ::fork();
  if (child == 0) {  // uses a zygote of its own, and keeps it
    int status = 1;
    try {
      const Pool early(1);
      if (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(2);
      Pool pool(1);
      const auto user = [] { return ::setuid(0) != 0 ? static_cast<int>(::getuid()) : 0; };
      const auto group = [] { return static_cast<int>(::getegid()) * 10 + ::getgroups(0, nullptr); };
      status = pool.apply(user) == 65534 && pool.apply(group) == 655340 ? 0 : 3;
      if (status == 0) {  // and its workers can be killed, and replaced by such
        try {
          pool.apply([] { ::raise(SIGKILL); });
          status = 4;
        } catch (const WorkerDied&) {
          status = pool.apply(user) == 65534 ? 0 : 5;
        }
      }
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s\n", e.what());
      status = 6;
    }
    ::_exit(status);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("surroundings are captured once as long as nothing changes") {
  const Surroundings first = capture_surroundings();
  CHECK(capture_surroundings().block == first.block);
  ::setenv("MANYHANDS_TEST_SETTING", "other", 1);
  CHECK(capture_surroundings().block != first.block);
  ::unsetenv("MANYHANDS_TEST_SETTING");
}

TEST_CASE("a block that was not captured changes nothing") {
  const std::string before = look();
  apply_surroundings(0, -1);
  const shm::BlockPtr zeros = shm::Block::create(16, shm::BlockKind::raw);
  apply_surroundings(zeros->offset(), -1);
  const shm::BlockPtr large = shm::Block::create(100'000, shm::BlockKind::raw);
  apply_surroundings(large->offset(), -1);
  CHECK(look() == before);
}

TEST_CASE("credentials are read from the kernel") {
  const auto seen = credentials_of(::getpid());
  REQUIRE(seen.has_value());
  CHECK(*seen == own_credentials());
  CHECK_FALSE(credentials_of(-1).has_value());
}

}  // namespace
}  // namespace manyhands::process
