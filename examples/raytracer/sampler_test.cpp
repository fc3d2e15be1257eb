#include "sampler.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <utility>

namespace raytracer {
namespace {

TEST_CASE("the first 256 pairs of every seed are stratified in every shape of cell") {
  for (const std::uint32_t seed : {1U, 77U, 0xdeadbeefU}) {
    for (int log_columns = 0; log_columns <= 8; ++log_columns) {
      const int columns = 1 << log_columns, rows = 256 / columns;
      std::set<std::pair<int, int>> cells;
      for (std::uint32_t i = 0; i < 256; ++i) {
        const Pair p = sobol_pair(i, seed);
        cells.emplace(static_cast<int>(p.u * static_cast<float>(columns)),
                      static_cast<int>(p.v * static_cast<float>(rows)));
      }
      CAPTURE(columns);
      CHECK(cells.size() == 256);
    }
  }
}

TEST_CASE("numbers depend on seed, sample and how many were drawn, and on nothing else") {
  Sampler a{5, 3}, b{5, 3}, other_seed{6, 3}, other_sample{5, 4};
  const Pair first = a.pair();
  CHECK(first.u == b.pair().u);
  CHECK(first.u != a.pair().u);
  CHECK(first.u != other_seed.pair().u);
  CHECK(first.u != other_sample.pair().u);
}

TEST_CASE("numbers lie between 0 and 1 and are even") {
  double sum = 0;
  for (std::uint32_t i = 0; i < 10'000; ++i) {
    const Pair p = Sampler{i, i % 7}.pair();
    REQUIRE(p.u >= 0);
    REQUIRE(p.u < 1);
    sum += p.u + p.v;
  }
  CHECK(sum / 20'000 == doctest::Approx(0.5).epsilon(0.02));
}

}  // namespace
}  // namespace raytracer
