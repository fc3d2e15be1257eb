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

TEST_CASE("a time limit takes any duration: what is too long is no limit, what is negative is none at all") {
  CHECK(Duration(TimeLimit(std::chrono::seconds::max())) == Deadline::never);
  CHECK(Duration(TimeLimit(std::chrono::hours(3'000'000))) == Deadline::never);
  CHECK_FALSE(Deadline(TimeLimit(std::chrono::hours::max())).bounded());
  CHECK(Duration(TimeLimit(std::chrono::hours::min())) == Duration(0));
  CHECK(Duration(TimeLimit(std::chrono::duration<double>(1.5))) == std::chrono::milliseconds(1500));
  CHECK(Duration(TimeLimit(std::chrono::duration<double>(1e-12))) == Duration(1));  // rounded up
  CHECK(Duration(TimeLimit::until(std::chrono::steady_clock::time_point::min())) == Duration(0));
  CHECK(Duration(TimeLimit::until(std::chrono::system_clock::time_point::min())) == Duration(0));
  const TimeLimit soon = TimeLimit::until(std::chrono::steady_clock::now() + std::chrono::hours(1));
  CHECK(soon > TimeLimit(std::chrono::minutes(59)));
  CHECK(soon <= TimeLimit(std::chrono::hours(1)));
}

}  // namespace
}  // namespace manyhands
