#include "manyhands/base/error.hpp"

#include <doctest/doctest.h>

#include <cerrno>

namespace manyhands {
namespace {

TEST_CASE("a system error says what was tried and names the errno") {
  errno = ENOENT;
  try {
    throw_errno("open /no/such/file");
  } catch (const SystemError& e) {
    CHECK(std::string(e.what()) == "open /no/such/file: No such file or directory (ENOENT)");
    CHECK(e.error() == ENOENT);
  }
}

TEST_CASE("every error is an Error and a std::runtime_error") {
  CHECK_THROWS_AS(throw Timeout("late"), Error);
  CHECK_THROWS_AS(throw Cancelled("by the user"), std::runtime_error);
  CHECK_THROWS_AS(throw SystemError("x", 999'999), Error);
}

}  // namespace
}  // namespace manyhands
