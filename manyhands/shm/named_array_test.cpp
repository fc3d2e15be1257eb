#include "manyhands/shm/named_array.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <random>
#include <string>

namespace manyhands {
namespace {

std::string name_for_test(const char* what) {
  return "manyhands-test-" + std::to_string(::getpid()) + "-" + what;
}
bool exists(const std::string& name) { return std::filesystem::exists("/dev/shm/" + name); }

TEST_CASE("a named array is seen by who opens it, and by plain POSIX calls, until its last handle goes") {
  const std::string name = name_for_test("a");
  {
    auto a = NamedArray<double>::create(name, {3, 4});
    a[5] = 5;
    const auto b = NamedArray<double>::open(name);
    CHECK(b.shape() == Shape({3, 4}));
    CHECK(b[5] == 5);
    const int fd = ::shm_open(("/" + name).c_str(), O_RDONLY, 0);
    double sixth = 0;
    CHECK(::pread(fd, &sixth, sizeof sixth, 5 * sizeof sixth) == sizeof sixth);
    ::close(fd);
    CHECK(sixth == 5);
    CHECK_THROWS_WITH_AS(NamedArray<double>::create(name, 3), doctest::Contains("the name is taken"), Error);
    CHECK_THROWS_WITH_AS(NamedArray<float>::open(name), doctest::Contains("elements of another type"), Error);
  }
  CHECK_FALSE(exists(name));
  CHECK_THROWS_WITH_AS(NamedArray<double>::open(name),
                       doctest::Contains("no program that runs has created it"), Error);
}

TEST_CASE("the name of a killed creator goes when another named array is made") {
  std::string name = name_for_test("killed");
  SUBCASE("") {}
  SUBCASE("hidden from ls") { name.insert(0, "."); }
  const pid_t child = ::fork();
  if (child == 0) {
    const auto a = NamedArray<int>::create(name, 10);
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(exists(name));
  shm::remove_orphaned_names();
  CHECK_FALSE(exists(name));
}

TEST_CASE("a creator that is killed at any step leaves no name behind") {
  std::minstd_rand random(20'26);
  const auto left = [](const std::string& prefix) {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
      count += entry.path().filename().string().starts_with(prefix) ? 1U : 0U;
    return count;
  };
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const std::string prefix = name_for_test("steps-") + std::to_string(round) + "-";
    std::array<int, 2> started{};
    REQUIRE(::pipe(started.data()) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      for (int i = 0;; ++i) {
        const auto a = NamedArray<char>::create(prefix + std::to_string(i), 300'000);
        if (i == 0) static_cast<void>(!::write(started[1], "x", 1));
      }
    }
    char byte = 0;
    CHECK(::read(started[0], &byte, 1) == 1);
    ::usleep(static_cast<useconds_t>(random() % 500));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ::close(started[0]);
    ::close(started[1]);
    shm::remove_orphaned_names();  // as the next program does that creates or opens one
    REQUIRE(left(prefix) == 0);
  }
}

TEST_CASE("a name that is taken stays its owner's, whoever else wanted it") {
  const std::string name = name_for_test("taken");
  const auto first = NamedArray<int>::create(name, 1);
  for (int i = 0; i < 3; ++i) CHECK_THROWS_AS(NamedArray<int>::create(name, 1), Error);
  CHECK(exists(name));
}

TEST_CASE("names and memory that cannot be are errors") {
  CHECK_THROWS_WITH_AS(NamedArray<int>::create(name_for_test("none"), 0), doctest::Contains("of no elements"),
                       Error);
  CHECK_THROWS_AS(NamedArray<int>::create(name_for_test("none"), {3, 0}), Error);
  for (const char* name : {"", "a/b", "..", "/x"}) CHECK_THROWS_AS(NamedArray<int>::create(name, 1), Error);
  CHECK_THROWS_AS(NamedArray<int>::create(std::string("a\0b", 3), 1), Error);
  CHECK_THROWS_AS(NamedArray<int>::create(name_for_test("large"), std::size_t{1} << 50), ResourceExhausted);
  CHECK_FALSE(exists(name_for_test("large")));
  const std::string foreign = name_for_test("foreign");
  const int fd = ::shm_open(("/" + foreign).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(::ftruncate(fd, 8192) == 0);
  ::close(fd);
  CHECK_THROWS_WITH_AS(NamedArray<int>::open(foreign), doctest::Contains("not made by mh::NamedArray"),
                       Error);
  shm::remove_orphaned_names();
  CHECK(exists(foreign));  // not ours to remove
  ::shm_unlink(("/" + foreign).c_str());
}

}  // namespace
}  // namespace manyhands
