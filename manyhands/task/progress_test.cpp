#include "manyhands/task/progress.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <string>

namespace manyhands {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string what_is_written(ProgressBarOptions options, std::initializer_list<Progress> reports) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  options.fd = ends[1];
  const auto bar = progress_bar("cubes", options);
  for (const auto& report : reports) bar(report);
  ::close(ends[1]);
  std::array<char, 4096> text{};
  const auto size = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

TEST_CASE("the bar shows part, count, times and rate in the width it has") {
  const auto text = task::bar_text("cubes", {.done = 30, .total = 100, .elapsed = seconds(3)}, 60);
  CHECK(text == "cubes  30% |#####            | 30/100 [00:03<00:07, 10.0/s]");
  CHECK(text.size() <= 60);
}

TEST_CASE("failures and unknown totals are said") {
  CHECK(
      task::bar_text("", {.done = 5, .total = 10, .failed = 2, .elapsed = seconds(1)}, 60).find("2 failed") !=
      std::string::npos);
  CHECK(task::bar_text("s", {.done = 5, .total = {}, .elapsed = seconds(1)}, 60) ==
        "s 5 done [00:01, 5.0/s]");
}

TEST_CASE("nothing done yet is no division by zero, and no item is all items") {
  CHECK(task::line_text("x", {.done = 0, .total = 10}) == "x: 0 of 10 (0%), --/s, --:-- left");
  CHECK(task::line_text("x", {.done = 0, .total = 0, .elapsed = seconds(1)}) ==
        "x: 0 of 0 (100%) in 1.00 s, 0.0/s");
}

TEST_CASE("on a terminal the bar is drawn over itself and ends with a line break") {
  const auto text = what_is_written({.terminal = true}, {{.done = 1, .total = 2, .elapsed = seconds(1)},
                                                         {.done = 2, .total = 2, .elapsed = seconds(2)}});
  CHECK(text.starts_with("\rcubes  50%"));
  CHECK(text.ends_with("\n"));
  CHECK(text.find("100%") != std::string::npos);
}

TEST_CASE("elsewhere a line comes every ten seconds and one at the end, without control characters") {
  const auto text =
      what_is_written({.terminal = false}, {{.done = 0, .total = 4, .elapsed = seconds(0)},
                                            {.done = 1, .total = 4, .elapsed = milliseconds(100)},
                                            {.done = 2, .total = 4, .elapsed = seconds(11)},
                                            {.done = 4, .total = 4, .elapsed = seconds(12)}});
  CHECK(text == "cubes: 2 of 4 (50%), 0.2/s, 00:11 left\ncubes: 4 of 4 (100%) in 12.00 s, 0.3/s\n");
}

TEST_CASE("the ticker reports at once and then not before its interval") {
  int calls = 0;
  const ProgressFunction count = [&](const Progress&) { ++calls; };
  task::ProgressTicker ticker(count);
  ticker.tick({});
  ticker.tick({});
  CHECK(calls == 1);
  CHECK(ticker.until_due() > Duration(0));
  ticker.finish({});
  CHECK(calls == 2);
}

}  // namespace
}  // namespace manyhands
