#include "manyhands/mpi/datatype.hpp"

#include <doctest/doctest.h>

#include "manyhands/mpi/comm.hpp"

namespace manyhands::mpi {
namespace {

struct Inner {
  float a;
  std::array<short, 3> b;
};
struct Outer {
  char c;
  Inner inner;
  double d[2];
  friend bool operator==(const Outer& x, const Outer& y) {
    return x.c == y.c && x.inner.a == y.inner.a && x.inner.b == y.inner.b && x.d[0] == y.d[0] &&
           x.d[1] == y.d[1];
  }
};
enum class Colour : std::uint8_t { red, green };

static_assert(Plain<int> && Plain<Outer> && Plain<Colour> && Plain<std::pair<int, double>> &&
              Plain<std::array<Outer, 3>>);
static_assert(!Plain<std::string> && !Plain<int*> && !Plain<std::vector<int>>);
static_assert(Flat<std::vector<int>> && Flat<std::string> && Flat<std::span<const Outer>> &&
              !Flat<std::vector<bool>>);
static_assert(Resizable<std::vector<double>> && !Resizable<std::span<double>> &&
              !Resizable<std::array<int, 2>>);
static_assert(Packed<std::vector<std::string>> && Packed<std::vector<bool>> && !Packed<int>);

TEST_CASE("structs are described field by field") {
  const Datatype type = Datatype::view(datatype_of<Outer>());
  CHECK(type.extent() == sizeof(Outer));
  CHECK(type.size() == 1 + 4 + 6 + 16);  // without the padding
  CHECK(type.name().find("Outer") != std::string::npos);
  CHECK(datatype_of<Outer>() == datatype_of<Outer>());
  CHECK(datatype_of<double>() == MPI_DOUBLE);
  CHECK(datatype_of<Colour>() == MPI_UINT8_T);
  // Sent as described, received as bytes of the same layout.
  Outer out[2] = {{'a', {1.5F, {1, 2, 3}}, {4, 5}}, {'b', {2.5F, {4, 5, 6}}, {7, 8}}};
  Outer in[2] = {};
  const int me = world().rank();
  auto sent = world().isend(buffer(static_cast<const void*>(out), 2, type), {.dest = me});
  world().recv_into(buffer(static_cast<void*>(in), 2, type), {.source = me});
  sent.get();
  CHECK((in[0] == out[0] && in[1] == out[1]));
}

TEST_CASE("strided, indexed and boxed data are sent from where they lie") {
  constexpr int rows = 4;
  constexpr int columns = 6;
  std::vector<int> matrix(rows * columns);
  for (std::size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<int>(i);
  const int me = world().rank();
  const auto through = [&](int start, const Datatype& type) {
    auto sent = world().isend(buffer(&matrix[static_cast<std::size_t>(start)], 1, type), {.dest = me});
    auto got = world().recv<std::vector<int>>({.source = me});
    sent.get();
    return got;
  };
  CHECK(through(2, Datatype::vector<int>(rows, 1, columns)) == std::vector<int>{2, 8, 14, 20});
  CHECK(through(0, Datatype::hvector<int>(2, 2, columns * sizeof(int))) == std::vector<int>{0, 1, 6, 7});
  CHECK(through(0, Datatype::indexed<int>(std::array{2, 1}, std::array{3, 10})) ==
        std::vector<int>{3, 4, 10});
  CHECK(through(0, Datatype::indexed_block<int>(2, std::array{1, 7})) == std::vector<int>{1, 2, 7, 8});
  CHECK(through(0, Datatype::subarray<int>(std::array{rows, columns}, std::array{2, 2}, std::array{1, 3})) ==
        std::vector<int>{9, 10, 15, 16});
  CHECK(through(1, Datatype::contiguous<int>(3)) == std::vector<int>{1, 2, 3});
  const auto column = Datatype::vector<int>(rows, 1, columns).resized(0, sizeof(int));
  CHECK(column.extent() == sizeof(int));
  CHECK(column.dup().size() == rows * sizeof(int));
  CHECK_THROWS_AS(static_cast<void>(Datatype::indexed<int>(std::array{1}, std::array{1, 2})), Error);
  CHECK_THROWS_AS(static_cast<void>(Datatype::subarray<int>(std::array{4}, std::array{9}, std::array{0})),
                  Error);
  CHECK_THROWS_AS(static_cast<void>(Datatype::contiguous<int>(-1)), Error);
}

TEST_CASE("a type of more than 2^31 elements is one element of a large one") {
  const MPI_Count many = (MPI_Count{1} << 33) + 5;
  const Datatype large = Datatype::contiguous_of(many, MPI_INT);
  CHECK(large.size() == many * 4);
  CHECK(large.extent() == many * 4);
}

}  // namespace
}  // namespace manyhands::mpi
