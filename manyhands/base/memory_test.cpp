#include "manyhands/base/memory.hpp"

#include <doctest/doctest.h>

#include <string>

#include "manyhands/base/error.hpp"

namespace manyhands {
namespace {

TEST_CASE("asking for more memory than the machine has is refused with the numbers") {
  CHECK_NOTHROW(require_memory(1 << 20, "a test"));
  try {
    require_memory(std::size_t{1} << 50, "a test");
    FAIL("accepted a PiB");
  } catch (const ResourceExhausted& e) {
    CHECK(std::string(e.what()).find("a test needs 1073741824 MiB") != std::string::npos);
  }
}

}  // namespace
}  // namespace manyhands
