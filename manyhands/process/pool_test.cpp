#include "manyhands/process/pool.hpp"

#include <doctest/doctest.h>

#include <list>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <unistd.h>
#include <variant>

#include "manyhands/task/progress.hpp"
#include "manyhands/task/this_task.hpp"

namespace manyhands {
namespace {

double square(double x) { return x * x; }
int add(int a, int b) { return a + b; }

static_assert(Executor<Pool>);

TEST_CASE("map gives the results in the order of the items") {
  Pool pool(2);
  std::vector<double> xs(1000);
  std::iota(xs.begin(), xs.end(), 0.0);
  const std::vector<double> ys = pool.map(square, xs);
  REQUIRE(ys.size() == xs.size());
  for (std::size_t i = 0; i < xs.size(); ++i) REQUIRE(ys[i] == xs[i] * xs[i]);
}

TEST_CASE("apply runs in another process") {
  Pool pool(1);
  CHECK(pool.apply(add, 20, 22) == 42);
  const int there = pool.apply([] { return static_cast<int>(::getpid()); });
  CHECK(there != ::getpid());
  CHECK(there == pool.pids()[0]);
}

}  // namespace
}  // namespace manyhands
