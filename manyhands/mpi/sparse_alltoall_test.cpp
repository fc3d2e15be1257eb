#include "manyhands/mpi/sparse_alltoall.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

namespace manyhands::mpi {
namespace {

// What rank `from` sends to rank `to` in one round: nothing to about half of them.
std::vector<int> message(int from, int to, int round) {
  std::mt19937 rng(static_cast<unsigned>(from * 1000 + to * 10 + round));
  if (rng() % 2 == 0) return {};
  return std::vector<int>(1 + rng() % 2000, from * 100 + to);
}

TEST_CASE("a sparse exchange brings what the others have for this rank, round after round") {
  SparseAlltoall exchange(world());
  for (int round = 0; round < 20; ++round) {
    std::map<int, std::vector<int>> to;
    std::map<int, std::vector<int>> expected;
    for (int rank = 0; rank < world().size(); ++rank) {
      if (const auto values = message(world().rank(), rank, round); !values.empty()) to[rank] = values;
      if (const auto values = message(rank, world().rank(), round); !values.empty()) expected[rank] = values;
    }
    CHECK(exchange(to) == expected);
  }
  CHECK(exchange(std::map<int, double>{}).empty());
}

TEST_CASE("a sparse exchange takes objects, texts and plain values") {
  SparseAlltoall exchange(world());
  const int next = (world().rank() + 1) % world().size();
  const int before = (world().rank() + world().size() - 1) % world().size();
  using Table = std::map<std::string, std::vector<double>>;
  CHECK(exchange(std::map<int, Table>{{next, {{"a", {1, 2}}, {"of", {world().rank() * 1.0}}}}}) ==
        std::map<int, Table>{{before, {{"a", {1, 2}}, {"of", {before * 1.0}}}}});
  CHECK(exchange(std::map<int, std::string>{{next, "text"}}) == std::map<int, std::string>{{before, "text"}});
  CHECK(exchange(std::map<int, double>{{next, 0.5}}) == std::map<int, double>{{before, 0.5}});
}

TEST_CASE("a sparse exchange refuses what is no rank before it sends") {
  SparseAlltoall exchange(world());
  CHECK_THROWS_WITH_AS(exchange(std::map<int, int>{{0, 1}, {world().size(), 1}}),
                       doctest::Contains("its ranks are 0 to"), Error);
  CHECK_THROWS_AS(exchange(std::map<int, int>{{-1, 1}}), Error);
  CHECK(exchange(std::map<int, int>{{world().rank(), 5}}) == std::map<int, int>{{world().rank(), 5}});
}

TEST_CASE("an exchange over a grid gives what alltoall gives, for any number of ranks") {
  for (int size = 1; size <= world().size(); ++size) {
    const Comm part = world().split(world().rank() < size ? 0 : 1);
    const GridAlltoall grid(part);
    for (int round = 0; round < 3; ++round) {
      std::vector<std::vector<int>> items;
      for (int rank = 0; rank < part.size(); ++rank) items.push_back(message(part.rank(), rank, round));
      CHECK(grid(items) == part.alltoall(items));
      CHECK(grid(Ragged<int>(items)) == part.alltoall(Ragged<int>(items)));
    }
    CHECK_THROWS_WITH_AS(grid(std::vector<std::vector<int>>(static_cast<std::size_t>(part.size()) + 1)),
                         doctest::Contains("parts for"), Error);
  }
}

}  // namespace
}  // namespace manyhands::mpi
