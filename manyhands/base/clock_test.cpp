#include "manyhands/base/clock.hpp"

#include <doctest/doctest.h>

namespace manyhands {
namespace {

TEST_CASE("time does not go back") {
  const auto first = now_ns();
  CHECK(now_ns() >= first);
}

TEST_CASE("a deadline of zero has passed, one of never does not") {
  CHECK(Deadline(Duration(0)).passed());
  CHECK(Deadline(Duration(0)).left() == Duration(0));
  CHECK_FALSE(Deadline().passed());
  CHECK(Deadline(Deadline::never).left() == Deadline::never);
  CHECK_FALSE(Deadline(Deadline::never).bounded());
}

TEST_CASE("a far deadline is ahead and a negative one behind") {
  CHECK_FALSE(Deadline(std::chrono::hours(1)).passed());
  CHECK(Deadline(std::chrono::hours(1)).left() > std::chrono::minutes(59));
  CHECK(Deadline(std::chrono::seconds(-1)).passed());
}

}  // namespace
}  // namespace manyhands
