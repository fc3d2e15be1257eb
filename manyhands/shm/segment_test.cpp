#include "manyhands/shm/segment.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstring>
#include <string>

#include "manyhands/base/error.hpp"

namespace manyhands::shm {
namespace {

std::size_t resident_bytes(const Segment& segment) {
  struct stat info;
  REQUIRE(::fstat(segment.fd(), &info) == 0);
  return static_cast<std::size_t>(info.st_blocks) * 512;
}

TEST_CASE("two mappings of a segment are the same memory") {
  const Segment one = Segment::create(1 << 16);
  const Segment two = Segment::attach(UniqueFd(::fcntl(one.fd(), F_DUPFD_CLOEXEC, 0)));
  REQUIRE(two.size() == one.size());
  std::memcpy(one.data(), "hands", 6);
  CHECK(std::string(reinterpret_cast<const char*>(two.data())) == "hands");
}

TEST_CASE("a forked child writes into its parent's segment") {
  const Segment segment = Segment::create(4096);
  const pid_t child = ::fork();
  if (child == 0) {
    segment.data()[100] = std::byte{42};
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  CHECK(segment.data()[100] == std::byte{42});
}

TEST_CASE("a segment costs only the pages that are touched, and discard gives them back") {
  Segment segment = Segment::create(std::size_t{1} << 30);
  CHECK(resident_bytes(segment) == 0);
  std::memset(segment.data() + 4096, 1, 1 << 20);
  CHECK(resident_bytes(segment) == 1 << 20);
  segment.discard(4096, 1 << 20);
  CHECK(resident_bytes(segment) == 0);
  CHECK(segment.data()[8192] == std::byte{0});
}

}  // namespace
}  // namespace manyhands::shm
