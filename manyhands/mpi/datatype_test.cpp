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
// Has members beside a range's, which would be lost.
struct Table : std::vector<double> {
  int columns;
};
static_assert(!Flat<Table> && !Resizable<Table> && !Packed<Table>);
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

TEST_CASE("a datatype tells how it was made") {
  const Datatype column = Datatype::vector<double>(3, 1, 4);
  CHECK(column.combiner() == Combiner::vector);
  CHECK_FALSE(column.is_predefined());
  const DatatypeContents made = column.contents();
  CHECK(made.integers == std::vector<int>{3, 1, 4});
  CHECK(made.addresses.empty());
  REQUIRE(made.types.size() == 1);
  CHECK(made.types[0].native() == MPI_DOUBLE);
  CHECK(column.describe() == "vector(3, 1, 4) of MPI_DOUBLE");
  CHECK(Datatype::view(MPI_INT).is_predefined());
  CHECK(Datatype::view(MPI_INT).describe() == "MPI_INT");
  CHECK(Datatype::view(MPI_INT).contents().types.empty());
  CHECK(column.dup().describe() == "dup() of vector(3, 1, 4) of MPI_DOUBLE");
  CHECK(name_of(column.resized(0, 8).combiner()) == "resized");
  const int lengths[] = {2, 1};
  const MPI_Aint offsets[] = {0, 16};
  const MPI_Datatype types[] = {MPI_INT, column.native()};
  const Datatype both = Datatype::structure(lengths, offsets, types);
  CHECK(both.describe() == "structure(2, 2, 1, 0 B, 16 B) of {MPI_INT, vector(3, 1, 4) of MPI_DOUBLE}");
  CHECK(column.size() == 24);  // what contents() gave back was its own
  CHECK_THROWS_AS(static_cast<void>(Datatype().describe()), Error);
}

TEST_CASE("the true extent is that of the data") {
  const Datatype padded = Datatype::vector<int>(2, 1, 3).resized(-4, 100);
  CHECK(padded.extent() == 100);
  CHECK(padded.lower_bound() == -4);
  CHECK(padded.true_extent() == 16);
  CHECK(padded.true_lower_bound() == 0);
}

// The elements of an array of 0, 1, 2 ... that `type` selects.
std::vector<int> selected(const Datatype& type, int elements) {
  std::vector<int> all(static_cast<std::size_t>(elements));
  for (int i = 0; i < elements; ++i) all[static_cast<std::size_t>(i)] = i;
  std::vector<int> part(static_cast<std::size_t>(type.size()) / sizeof(int));
  self().sendrecv_into(buffer(std::as_const(all).data(), 1, type), {.dest = 0}, std::span(part),
                       {.source = 0});
  return part;
}

TEST_CASE("an array is dealt out to a grid of processes") {
  using Part = std::vector<int>;
  using D = Distribution;
  const int line[] = {7};
  const int two[] = {2};
  const auto deal = [&](D how, int rank) {
    return selected(Datatype::darray<int>(line, std::span(&how, 1), two, rank), 7);
  };
  CHECK(deal(D::block(), 0) == Part{0, 1, 2, 3});
  CHECK(deal(D::block(), 1) == Part{4, 5, 6});
  CHECK(deal(D::block(5), 1) == Part{5, 6});
  CHECK(deal(D::cyclic(), 1) == Part{1, 3, 5});
  CHECK(deal(D::cyclic(2), 0) == Part{0, 1, 4, 5});
  const int shape[] = {2, 3};
  const int grid[] = {1, 3};
  const D across[] = {D::none(), D::block()};
  CHECK(selected(Datatype::darray<int>(shape, across, grid, 2), 6) == Part{2, 5});
  CHECK(selected(Datatype::darray<int>(shape, across, grid, 2, Order::fortran), 6) == Part{4, 5});
  const int starts[] = {1, 0};
  const int box[] = {1, 2};
  CHECK(selected(Datatype::subarray<int>(shape, box, starts), 6) == Part{3, 4});
  CHECK(selected(Datatype::subarray<int>(shape, box, starts, Order::fortran), 6) == Part{1, 3});
  CHECK_THROWS_AS(static_cast<void>(Datatype::darray<int>(shape, across, two, 0)), Error);
  CHECK_THROWS_AS(static_cast<void>(Datatype::darray<int>(shape, across, grid, 3)), Error);
  CHECK_THROWS_AS(static_cast<void>(deal(D::block(3), 0)), Error);
  CHECK_THROWS_AS(static_cast<void>(deal(D::none(), 0)), Error);
  CHECK_THROWS_AS(static_cast<void>(deal(D::cyclic(0), 0)), Error);
}

// Padding within, and at the end.
struct Padded {
  std::int8_t kind;
  double x;
  std::int16_t n;
  friend bool operator==(const Padded&, const Padded&) = default;
};
static_assert(sizeof(Padded) == 24);

std::vector<Padded> padded(int count) {
  std::vector<Padded> all;
  for (int i = 0; i < count; ++i)
    all.push_back({static_cast<std::int8_t>(i + 1), i + 0.5, static_cast<std::int16_t>(-i)});
  return all;
}

TEST_CASE("structs with padding are the same through a datatype as without") {
  CHECK(Datatype::contiguous<Padded>(3).size() == 3 * sizeof(Padded));
  CHECK(Datatype::contiguous<Padded>(3).extent() == 3 * sizeof(Padded));
  const Comm& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int last = (comm.rank() + comm.size() - 1) % comm.size();
  const auto all = padded(12);
  const int starts[] = {1, 6, 7};
  const int lengths[] = {2, 1, 3};
  const int shape[] = {3, 4};
  const int box[] = {2, 2};
  const int corner[] = {1, 1};
  const auto pick = [&](std::initializer_list<std::size_t> which) {
    std::vector<Padded> some;
    for (const std::size_t i : which) some.push_back(all[i]);
    return some;
  };
  const auto goes_round = [&](const Datatype& type, const std::vector<Padded>& wanted) {
    // Out through the datatype, in as values.
    auto sent = comm.isend(buffer(all.data(), 1, type), {.dest = next});
    CHECK((comm.recv<std::vector<Padded>>({.source = last}) == wanted));
    sent.get();
    // Out as values, in through the datatype.
    std::vector<Padded> in(12);
    auto values = comm.isend(std::vector(wanted), {.dest = next});
    comm.recv_into(buffer(in.data(), 1, type), {.source = last});
    values.get();
    std::size_t found = 0;
    for (std::size_t i = 0; i < in.size(); ++i) found += in[i] == all[i] && !(in[i] == Padded{}) ? 1 : 0;
    CHECK(found == wanted.size());
  };
  goes_round(Datatype::contiguous<Padded>(12).resized(0, 1), all);
  goes_round(Datatype::vector<Padded>(3, 1, 4), pick({0, 4, 8}));
  goes_round(Datatype::hvector<Padded>(2, 2, 6 * sizeof(Padded)), pick({0, 1, 6, 7}));
  goes_round(Datatype::indexed<Padded>(lengths, starts), pick({1, 2, 6, 7, 8, 9}));
  goes_round(Datatype::indexed_block<Padded>(1, starts), pick({1, 6, 7}));
  goes_round(Datatype::subarray<Padded>(shape, box, corner), pick({5, 6, 9, 10}));
}

}  // namespace
}  // namespace manyhands::mpi
