#include "manyhands/process/inherited.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>

#include "manyhands/base/unique_fd.hpp"

namespace manyhands::process {
namespace {

constexpr std::size_t size = 8192;

TEST_CASE("memory mapped shared and files mapped for reading are inherited, all else is not") {
  const UniqueFd program(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  void* const shared = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  void* const file = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, program.get(), 0);
  void* const own = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const auto small = std::make_unique<int>(1);
  const int local = 1;
  note_mappings();
  CHECK(is_inherited(static_cast<char*>(shared) + size - 1));
  CHECK(is_inherited(file));
  CHECK_FALSE(is_inherited(own));
  CHECK_FALSE(is_inherited(small.get()));
  CHECK_FALSE(is_inherited(&local));
  CHECK_FALSE(is_inherited(nullptr));

  // Another mapping in the place of one that was noted is another memory.
  REQUIRE(::mmap(shared, size, PROT_READ, MAP_SHARED | MAP_FIXED, program.get(), 0) == shared);
  CHECK_FALSE(is_inherited(shared));
  ::mprotect(file, size, PROT_READ | PROT_WRITE);
  CHECK_FALSE(is_inherited(file));
  ::munmap(shared, size);
  CHECK_FALSE(is_inherited(shared));
  ::munmap(file, size);
  ::munmap(own, size);
  note_mappings();
}

}  // namespace
}  // namespace manyhands::process
