#include "manyhands/shm/array.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <numeric>
#include <vector>

namespace manyhands {
namespace {

TEST_CASE("an Array holds zeros, also in memory that was used before") {
  for (int round = 0; round < 3; ++round) {
    Array<double> a(1000);
    CHECK(a.size() == 1000);
    CHECK(std::accumulate(a.begin(), a.end(), 0.0) == 0);
    std::iota(a.begin(), a.end(), 1.0);
  }
}

TEST_CASE("copies and slices are the same elements") {
  const auto a = Array<int>::of(std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  const Array<int> copy = a;
  copy[3] = 30;
  CHECK(a[3] == 30);
  const Array<int> part = a.slice(2, 5);
  CHECK(part.size() == 3);
  CHECK(part[1] == 30);
  CHECK(part.slice(1, 3)[1] == 4);
  CHECK(part.slice(3, 3).empty());
  CHECK(part.first() == 2);
  CHECK_THROWS_WITH_AS(static_cast<void>(part.slice(1, 4)), doctest::Contains("slice(1, 4) of 3 elements"),
                       Error);
  CHECK_THROWS_AS(static_cast<void>(part.slice(2, 1)), Error);
  CHECK_THROWS_AS(static_cast<void>(part.at(3)), Error);
}

TEST_CASE("split gives all elements in order, in parts that differ by one at most") {
  const Array<int> a(10);
  for (const std::size_t parts : {1U, 3U, 10U, 13U}) {
    std::size_t at = 0;
    for (const auto& part : a.split(parts)) {
      CHECK(part.first() == at);
      CHECK(part.size() <= 10 / parts + 1);
      at += part.size();
    }
    CHECK(at == 10);
  }
  CHECK_THROWS_AS(static_cast<void>(a.split(0)), Error);
}

TEST_CASE("an Array of several dimensions is row-major") {
  const Array<float> image({4, 3, 2});
  CHECK(image.rank() == 3);
  CHECK(image.size() == 24);
  image(1, 2, 1) = 7;
  CHECK(image[1 * 6 + 2 * 2 + 1] == 7);
  const Array<float> row = image.row(1);
  CHECK(row.shape() == Shape({3, 2}));
  CHECK(row(2, 1) == 7);
  CHECK(image.slice(1, 3).shape() == Shape({2, 3, 2}));
  CHECK(image.reshape({6, 4})(2, 3) == image[11]);
  CHECK_THROWS_WITH_AS(static_cast<void>(image.reshape({5, 5})),
                       doctest::Contains("24 elements cannot have the shape (5, 5)"), Error);
  CHECK_THROWS_AS(static_cast<void>(image(1, 2)), Error);
  CHECK_THROWS_AS(static_cast<void>(image(4, 0, 0)), Error);
  CHECK_THROWS_AS(static_cast<void>(image.row(4)), Error);
  CHECK_THROWS_AS(static_cast<void>(Array<int>(3).row(0)), Error);
}

TEST_CASE("sizes that make no sense, or do not fit, are errors with the numbers") {
  CHECK_THROWS_WITH_AS(Array<int>(-5), doctest::Contains("a size of -5"), Error);
  const auto memory = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * 4096;
  CHECK_THROWS_WITH_AS(Array<char>(memory + memory / 2), doctest::Contains("MiB are left"),
                       ResourceExhausted);
  CHECK_THROWS_AS(Array<double>(SIZE_MAX / 4), ResourceExhausted);
  CHECK_THROWS_AS(Array<double>({SIZE_MAX / 2, 4}), Error);
  CHECK_THROWS_AS(Shape(std::vector<std::size_t>(9, 1)), Error);
  const Array<double> nothing(0);
  CHECK(nothing.empty());
  CHECK(nothing.begin() == nothing.end());
  CHECK(Array<double>().empty());
  CHECK(Array<double>().slice(0, 0).empty());
}

TEST_CASE("an Array made with a lock has one for all its handles") {
  const Array<int> a(10, {.with_lock = true});
  {
    const std::scoped_lock guard(a.lock());
    CHECK_FALSE(a.slice(0, 5).lock().try_lock());
  }
  CHECK_THROWS_WITH_AS(static_cast<void>(Array<int>(1).lock()), doctest::Contains(".with_lock = true"),
                       Error);
}

TEST_CASE("a forked process writes into the same Array") {
  const Array<int> a(100'000);
  const pid_t child = ::fork();
  if (child == 0) {
    for (int& x : a.slice(50'000, 100'000)) x = 2;
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(std::accumulate(a.begin(), a.end(), 0) == 100'000);
}

TEST_CASE("a message that names elements which are not there is refused") {
  const Array<int> a(10);
  CHECK(Array<int>::attach(a.block()->offset(), 2, Shape(8), {})[0] == 0);
  CHECK_THROWS_AS(static_cast<void>(Array<int>::attach(a.block()->offset(), 2, Shape(9), {})), Error);
  CHECK_THROWS_AS(static_cast<void>(Array<int>::attach(a.block()->offset(), SIZE_MAX, Shape(9), {})), Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(Array<float>::attach(a.block()->offset(), 0, Shape(1), {})),
                       doctest::Contains("another element type"), Error);
}

}  // namespace
}  // namespace manyhands
