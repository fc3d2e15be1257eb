#include "manyhands/process/placement.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "manyhands/base/cores.hpp"
#include "manyhands/process/pool.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/shm/value.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

int cores_of_this_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  return CPU_COUNT(&set);
}

std::string variable(const std::string& name) {
  const char* value = ::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

TEST_CASE("Bind::core gives each worker one core, Bind::numa those of a node, Bind::none all") {
  const int all = cores_of_this_process();
  CHECK(process::place_workers(Bind::none, 3).empty());
  for (const Bind bind : {Bind::core, Bind::numa}) {
    const auto places = process::place_workers(bind, 5);
    REQUIRE(places.size() == 5);
    for (const auto& place : places) {
      CHECK(CPU_COUNT(&place) >= 1);
      CHECK(CPU_COUNT(&place) <= all);
    }
  }
  if (all > 1) {
    const auto places = process::place_workers(Bind::core, 2);
    CHECK_FALSE(CPU_EQUAL(&places[0], &places[1]));
  }
  Pool pool(2, {.bind = Bind::core});
  const auto cores = process::place_workers(Bind::core, 1);
  CHECK(pool.apply(cores_of_this_process) == CPU_COUNT(&cores[0]));
  CHECK(cores_of_this_process() == all);
}

TEST_CASE("workers' OpenMP and BLAS get their share of the cores, or what the pool says") {
  Pool pool(2);
  CHECK(pool.apply(variable, "OMP_NUM_THREADS") == std::to_string(std::max(cpu_count() / 2, 1)));
  Pool three(1, {.inner_threads = 3});
  CHECK(three.apply(variable, "OPENBLAS_NUM_THREADS") == "3");
  Pool unlimited(1, {.inner_threads = -1});
  CHECK(unlimited.apply(variable, "OMP_NUM_THREADS").empty());
  CHECK_THROWS_WITH_AS(Pool(1, {.inner_threads = -2}), doctest::Contains("inner_threads is -2"), Error);
}

TEST_CASE("pools take CPU tokens and give them back") {
  const int all = process::cpu_tokens_left();
  CHECK(all == cpu_count());
  {
    Pool pool(1);
    CHECK(process::cpu_tokens_left() == all - 1);
    const auto rest = process::CpuTokens::take(1000);
    CHECK(rest.count() == all - 1);
    CHECK(process::cpu_tokens_left() == 0);
    Pool more(2);  // in the program itself, as many workers as were asked for
    CHECK(more.size() == 2);
  }
  CHECK(process::cpu_tokens_left() == all);
}

TEST_CASE("a pool inside a worker has the free cores and one, however many are asked for") {
  const int cores = cpu_count();
  Pool all(cores);
  CHECK(all.apply([] { return Pool{}.size(); }) == 1);
  CHECK(all.apply([] { return Pool{4}.size(); }) == 1);
  CHECK(all.apply([] { return Pool{4, {.oversubscribe = true}}.size(); }) == 4);
  const auto sums = all.map(
      [](int n) {
        Pool inner{8};
        int sum = 0;
        for (const int x : inner.map([](int i) { return i * i; }, std::vector<int>{n, n + 1})) sum += x;
        return sum;
      },
      std::vector<int>{1, 2, 3, 4});
  CHECK(sums == std::vector<int>{5, 13, 25, 41});
}

TEST_CASE("the tokens of a worker that was killed with a pool of its own come back") {
  Pool pool(1);
  const int before = process::cpu_tokens_left();
  CHECK_THROWS_AS(pool.apply([] {
    Pool inner{};
    ::raise(SIGKILL);
  }),
                  WorkerDied);
  CHECK(test::eventually([&] { return process::cpu_tokens_left() == before; }));
}

}  // namespace
}  // namespace manyhands
