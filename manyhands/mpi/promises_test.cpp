// What the rows of docs/coming-from-mpi4py.md say beyond names.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/mpi.hpp"

namespace manyhands::mpi {
namespace {

struct WithPair {
  std::pair<int, double> both;
  int id;
};
struct WithArray {
  std::int32_t numbers[3];
  std::int16_t more[2];
};

TEST_CASE("ranges of text, of bools and of ranges are reduced element by element") {
  const int rank = world().rank();
  const int size = world().size();
  std::string digits;
  for (int r = 0; r < size; ++r) digits += std::to_string(r);
  const std::vector<std::string> words{"a" + std::to_string(rank), std::to_string(rank)};
  const auto joined = world().allreduce(words, std::plus<>());
  REQUIRE(joined.size() == 2);
  CHECK(joined[1] == digits);
  CHECK(world().iallreduce(words, std::plus<>()).get() == joined);
  CHECK(world().scan(words, std::plus<>())[1] == digits.substr(0, static_cast<std::size_t>(rank) + 1));

  std::vector<bool> bits(3, false);
  bits[0] = rank == 0;
  bits[2] = true;
  CHECK(world().allreduce(bits, std::logical_or<>()) == std::vector<bool>{true, false, true});
  CHECK(world().allreduce(bits, std::logical_and<>()) == std::vector<bool>{size == 1, false, true});

  const auto longer = [](const std::vector<int>& a, const std::vector<int>& b) {
    return a.size() < b.size() ? b : a;
  };
  const std::vector<std::vector<int>> ranges{std::vector<int>(static_cast<std::size_t>(rank) + 1, 7), {}};
  const auto longest = world().allreduce(ranges, longer);
  REQUIRE(longest.size() == 2);
  CHECK(longest[0].size() == static_cast<std::size_t>(size));
}

TEST_CASE("a reduction of ranges of different lengths is an error on all ranks") {
  if (world().size() == 1) return;
  const std::vector<std::string> words(world().rank() == 1 ? 3 : 2, "x");
  CHECK_THROWS_AS(world().allreduce(words, std::plus<>()), Error);
}

TEST_CASE("a whole range is combined where the operation takes ranges") {
  const auto join = [](std::vector<std::string> a, const std::vector<std::string>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  };
  CHECK(world().allreduce(std::vector<std::string>{"x"}, join).size() ==
        static_cast<std::size_t>(world().size()));
}

TEST_CASE("structs that hold a pair travel and are reduced") {
  const int rank = world().rank();
  const auto larger = [](const WithPair& a, const WithPair& b) {
    return a.both.first < b.both.first ? b : a;
  };
  const auto largest = world().allreduce(WithPair{{rank, 0.5}, rank}, larger);
  CHECK(largest.both == std::pair(world().size() - 1, 0.5));
  CHECK(world().bcast(WithPair{{rank, 1.5}, 3}).both == std::pair(0, 1.5));
}

TEST_CASE("a struct of a function that holds a vector is reduced") {
  struct Local {
    std::vector<int> values;
    int count;
  };
  const auto join = [](Local a, const Local& b) {
    a.values.insert(a.values.end(), b.values.begin(), b.values.end());
    return Local{std::move(a.values), a.count + b.count};
  };
  const auto all = world().allreduce(Local{{world().rank()}, 1}, join);
  CHECK(all.count == world().size());
  CHECK(all.values.size() == static_cast<std::size_t>(world().size()));
}

TEST_CASE("structs with C arrays are packed for other machines") {
  const WithArray sent{{1, -2, 3}, {4, 5}};
  const auto bytes = pack_external(sent);
  CHECK(bytes.size() == 3 * 4 + 2 * 2);
  CHECK(bytes[3] == std::byte{1});
  WithArray received{};
  unpack_external(bytes, received);
  CHECK(received.numbers[1] == -2);
  CHECK(received.more[1] == 5);
}

}  // namespace
}  // namespace manyhands::mpi
