#include "manyhands/mpi/sort.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

namespace manyhands::mpi {
namespace {

// What all ranks have, one behind the other, on every rank.
template <class T>
std::vector<T> all_of(const std::vector<T>& mine) {
  auto all = world().allgather(mine);
  return std::move(all.values());
}

template <class T, class Less = std::less<>>
std::vector<T> check_sort(const std::vector<T>& mine, const Less& less = {}) {
  std::vector<T> expected = all_of(mine);
  std::stable_sort(expected.begin(), expected.end(), less);
  const std::vector<T> part = sort(world(), mine, less);
  const std::vector<T> sorted = all_of(part);
  REQUIRE(sorted.size() == expected.size());
  CHECK(std::is_sorted(sorted.begin(), sorted.end(), less));
  return part;
}

TEST_CASE("what all ranks have comes sorted over the ranks, whatever its lengths") {
  std::mt19937_64 rng(static_cast<std::uint64_t>(world().rank()) + 1);
  for (const std::size_t count : {0U, 1U, 7U, 20'000U}) {
    std::vector<double> mine(count);
    for (double& x : mine) x = std::uniform_real_distribution<>()(rng);
    std::vector<double> expected = all_of(mine);
    std::sort(expected.begin(), expected.end());
    CHECK(all_of(sort(world(), mine)) == expected);
    CHECK(all_of(sort(world(), mine, std::greater<>())) ==
          std::vector<double>(expected.rbegin(), expected.rend()));
  }
  // One rank has all, or nothing.
  std::vector<int> some;
  if (world().rank() == world().size() - 1) some = {5, 3, 9, 1};
  CHECK(all_of(sort(world(), some)) == std::vector<int>{1, 3, 5, 9});
  CHECK(sort(self(), std::vector<int>{2, 1}) == std::vector<int>{1, 2});
}

TEST_CASE("the parts of a sort are about equally long, also if all elements are equal") {
  const std::size_t count = 10'000;
  const auto average = static_cast<double>(count);
  std::mt19937_64 rng(static_cast<std::uint64_t>(world().rank()) + 1);
  std::vector<int> few(count);
  std::vector<int> equal(count, 7);
  std::vector<int> sorted(count);
  for (std::size_t i = 0; i < count; ++i) {
    few[i] = static_cast<int>(rng() % 3);
    sorted[i] = world().rank() * 10'000 + static_cast<int>(i);
  }
  for (const auto& mine : {few, equal, sorted})
    CHECK(static_cast<double>(check_sort(mine).size()) <= 2 * average);
}

struct Particle {
  double mass;
  int id;
};

TEST_CASE("plain structs are sorted by what the caller says") {
  std::vector<Particle> mine;
  for (int i = 0; i < 100; ++i) mine.push_back({std::fmod(i * 0.37 + world().rank() * 0.11, 1.0), i});
  const auto lighter = [](const Particle& a, const Particle& b) { return a.mass < b.mass; };
  const auto part = sort(world(), mine, lighter);
  CHECK(std::is_sorted(part.begin(), part.end(), lighter));
  CHECK(world().allreduce(part.size(), std::plus<>()) == 100U * static_cast<std::size_t>(world().size()));
}

}  // namespace
}  // namespace manyhands::mpi
