#include "manyhands/explore/schedule.hpp"

#include <doctest/doctest.h>

#include <sstream>
#include <string>

#include "manyhands/base/error.hpp"

namespace manyhands {
namespace {

Schedule sample() {
  return Schedule(
      {{.process = 1, .name = "mult", .operation = "load", .object = "Value 1", .where = "race.cpp:5"},
       {.process = 2,
        .name = "add",
        .operation = "acquire",
        .object = "Lock 1",
        .where = "race.cpp:6",
        .preempts = true},
       {.process = 2, .name = "add", .operation = "load", .object = "Value 1", .where = "race.cpp:6"},
       {.process = 1,
        .name = "mult",
        .operation = "wait",
        .object = "Event 1",
        .where = "?",
        .timed_out = true}});
}

TEST_CASE("a schedule reads as one line for each step, with preemptions and time-outs marked") {
  std::ostringstream out;
  out << sample();
  CHECK(out.str() ==
        "  mult  load     Value 1  race.cpp:5\n"
        "> add   acquire  Lock 1   race.cpp:6\n"
        "  add   load     Value 1  race.cpp:6\n"
        "  mult  wait     Event 1  ?  (timed out)\n");
  CHECK(sample().preemptions() == 1);
}

TEST_CASE("the short form of a schedule can be read again") {
  CHECK(sample().to_string() == "1 2x2 1");
  CHECK(Schedule::parse("1 2x2 1") == std::vector<std::uint32_t>{1, 2, 2, 1});
  CHECK(Schedule::parse("").empty());
  CHECK(Schedule::parse("  3  ") == std::vector<std::uint32_t>{3});
  CHECK(Schedule().to_string().empty());
}

TEST_CASE("what is no schedule is refused with the place where it goes wrong") {
  for (const char* const text :
       {"a", "1 b", "1x", "1x0", "1,2", "-1", "1x2x3", "99999999999", "1x1000001", "1x999999 2x2"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(static_cast<void>(Schedule::parse(text)), doctest::Contains("is not a schedule"),
                         Error);
  }
  CHECK_THROWS_WITH_AS(static_cast<void>(Schedule::parse("1 b")), doctest::Contains("character 3"), Error);
}

}  // namespace
}  // namespace manyhands
