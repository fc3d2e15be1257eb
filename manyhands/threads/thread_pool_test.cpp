#include "manyhands/threads/thread_pool.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <string>
#include <thread>

namespace manyhands {
namespace {

double square(double x) { return x * x; }
static_assert(Executor<ThreadPool>);

TEST_CASE("map gives the results in the order of the items") {
  ThreadPool pool(2);
  std::vector<double> xs(10'000);
  std::iota(xs.begin(), xs.end(), 0.0);
  const auto ys = pool.map(square, xs);
  REQUIRE(ys.size() == xs.size());
  for (std::size_t i = 0; i < xs.size(); ++i) REQUIRE(ys[i] == xs[i] * xs[i]);
}

}  // namespace
}  // namespace manyhands
