#include "manyhands/task/scaling.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

namespace manyhands {
namespace {

TEST_CASE("twenty hours of which one is serial cannot become more than twenty times faster") {
  CHECK(amdahl(1.0 / 20) == doctest::Approx(20));
  CHECK(amdahl(0.05, 19) == doctest::Approx(10));
  CHECK(amdahl(0, 8) == 8);
  CHECK(amdahl(1, 8) == 1);
  CHECK(std::isinf(amdahl(0)));
}

TEST_CASE("a fraction outside 0 to 1 and less than one worker are refused") {
  CHECK_THROWS_AS(amdahl(-0.1), std::invalid_argument);
  CHECK_THROWS_AS(amdahl(1.1), std::invalid_argument);
  CHECK_THROWS_AS(amdahl(NAN), std::invalid_argument);
  CHECK_THROWS_AS(amdahl(0.5, 0), std::invalid_argument);
}

TEST_CASE("the fit finds the fraction that made the times") {
  std::vector<Run> runs;
  for (int n = 1; n <= 8; ++n) runs.push_back({n, 100 / amdahl(0.07, n)});
  const auto fit = fit_amdahl(runs);
  CHECK(fit.serial_fraction == doctest::Approx(0.07));
  CHECK(fit.serial_seconds == doctest::Approx(100));
  CHECK(fit.limit == doctest::Approx(1 / 0.07));
  CHECK(fit.seconds(4) == doctest::Approx(100 / amdahl(0.07, 4)));
}

TEST_CASE("times that are better than linear or do not scale stay within the law") {
  CHECK(fit_amdahl(std::vector<Run>{{1, 10}, {2, 4.5}}).serial_fraction == 0);
  CHECK(fit_amdahl(std::vector<Run>{{1, 10}, {2, 12}}).serial_fraction == 1);
}

TEST_CASE("a fit needs runs with two numbers of workers and positive times") {
  CHECK_THROWS_AS(fit_amdahl(std::vector<Run>{}), std::invalid_argument);
  CHECK_THROWS_AS(fit_amdahl(std::vector<Run>{{2, 1}, {2, 1.1}}), std::invalid_argument);
  CHECK_THROWS_AS(fit_amdahl(std::vector<Run>{{1, 1}, {2, 0}}), std::invalid_argument);
}

}  // namespace
}  // namespace manyhands
