// Exceptions of the same name in the unnamed namespaces of two files: this one, and remote_error_test.cpp.
#include <doctest/doctest.h>

#include <string>

#include "manyhands/wire/remote_error.hpp"

namespace manyhands::wire {
namespace {

struct Failure {
  std::string page;
};
const bool known = register_exception<Failure>();

TEST_CASE("an exception arrives as itself, though another file has one of the same name") {
  ErrorRecord record;
  try {
    throw Failure{"page 7"};
  } catch (...) {
    record = from_bytes<ErrorRecord>(to_bytes(record_of(std::current_exception())));
  }
  REQUIRE(known);
  try {
    std::rethrow_exception(to_exception(record, {}));
  } catch (const Failure& failure) {
    CHECK(failure.page == "page 7");
  }
}

}  // namespace
}  // namespace manyhands::wire
