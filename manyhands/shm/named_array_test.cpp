#include "manyhands/shm/named_array.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
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

TEST_CASE("names and memory that cannot be are errors") {
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
