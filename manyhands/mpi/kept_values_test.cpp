#include "manyhands/mpi/kept_values.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

namespace manyhands::mpi::detail {
namespace {

TEST_CASE("kept values stay as they were until those of their rank are dropped") {
  KeptValues kept(3);
  std::vector<std::pair<const std::byte*, std::uint64_t>> copies;
  for (std::uint64_t i = 0; i < 5000; ++i) copies.emplace_back(kept.keep(i % 2, &i, sizeof i), i);
  kept.drop(2);
  for (int epoch = 0; epoch < 3; ++epoch) {
    for (std::uint64_t i = 0; i < 1000; ++i) static_cast<void>(kept.keep(2, &i, sizeof i));
    kept.drop(2);
  }
  for (const auto& [copy, value] : copies) REQUIRE(std::memcmp(copy, &value, sizeof value) == 0);
}

TEST_CASE("a value that is kept again and again takes no more memory, and another one its own") {
  KeptValues kept(1);
  const long one = 1, two = 2;
  const std::byte* const first = kept.keep(0, &one, sizeof one);
  CHECK(kept.keep(0, &one, sizeof one) == first);
  const std::byte* const second = kept.keep(0, &two, sizeof two);
  CHECK(second != first);
  CHECK(std::memcmp(first, &one, sizeof one) == 0);
  CHECK(std::memcmp(second, &two, sizeof two) == 0);
  const char same_bytes = 2;
  CHECK(kept.keep(0, &same_bytes, sizeof same_bytes) != second);
}

TEST_CASE("memory of kept values is used again after they were dropped") {
  KeptValues kept(1);
  const long value = 5;
  const std::byte* const before = kept.keep(0, &value, sizeof value);
  kept.drop_all();
  CHECK(kept.keep(0, &value, sizeof value) == before);
  const std::vector<char> large(1 << 20, 'x');
  CHECK(std::memcmp(kept.keep(0, large.data(), large.size()), large.data(), large.size()) == 0);
  kept.drop(0);
  CHECK(std::memcmp(kept.keep(0, large.data(), large.size()), large.data(), large.size()) == 0);
}

}  // namespace
}  // namespace manyhands::mpi::detail
