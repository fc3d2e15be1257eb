#include "manyhands/mpi/shared_array.hpp"

#include <doctest/doctest.h>

#include <atomic>

#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::Particle;

TEST_CASE("ranks of a node read what the others wrote before the fence") {
  const Comm node = world().split_node();
  for (const bool contiguous : {true, false}) {
    SharedArray<Particle> array(node, 10, {.contiguous = contiguous});
    CHECK(array.local().size() == 10);
    for (const Particle& one : array.local()) CHECK(one == Particle{});
    for (int i = 0; i < 10; ++i) array.local()[static_cast<std::size_t>(i)] = {1.5 * i, 0, node.rank()};
    array.fence();
    for (int rank = 0; rank < node.size(); ++rank) {
      CHECK(array.of(rank).size() == 10);
      for (int i = 0; i < 10; ++i)
        CHECK(array.of(rank)[static_cast<std::size_t>(i)] == Particle{1.5 * i, 0, rank});
    }
    array.fence();
    const int next = (node.rank() + 1) % node.size();
    array.of(next)[3].id = 100 + node.rank();
    array.fence();
    CHECK(array.local()[3].id == 100 + (node.rank() + node.size() - 1) % node.size());
  }
}

TEST_CASE("parts of different sizes lie side by side, in the order of the ranks") {
  const Comm node = world().split_node();
  const auto me = static_cast<std::size_t>(node.rank());
  SharedArray<int> array(node, me % 3);  // rank 0 has none
  std::ranges::fill(array.local(), node.rank());
  array.fence();
  std::vector<int> expected;
  for (int rank = 0; rank < node.size(); ++rank) {
    expected.insert(expected.end(), static_cast<std::size_t>(rank % 3), rank);
    CHECK(array.of(rank).size() == static_cast<std::size_t>(rank % 3));
  }
  const auto all = array.all();
  CHECK(std::vector<int>(all.begin(), all.end()) == expected);
  array.fence();
  SharedArray<int> moved = std::move(array);
  CHECK(moved.all().size() == expected.size());
}

TEST_CASE("atomics work across ranks, and what cannot be is an error") {
  const Comm node = world().split_node();
  SharedArray<long> array(node, 1, {.contiguous = false});
  const std::atomic_ref<long> counter(array.of(0)[0]);
  for (int i = 0; i < 1000; ++i) ++counter;
  array.fence();
  CHECK(array.of(0)[0] == 1000 * node.size());
  const auto code_of = [](auto call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return Errc::other;
  };
  CHECK(code_of([&] { static_cast<void>(array.of(1000)); }) == Errc::rank);
  CHECK(code_of([&] { static_cast<void>(array.all()); }) == Errc::rma_shared);
  CHECK(code_of([&] { SharedArray<int>(Comm(), 1); }) == Errc::comm);
  array.fence();
}

}  // namespace
}  // namespace manyhands::mpi
