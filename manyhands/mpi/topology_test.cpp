#include "manyhands/mpi/topology.hpp"

#include <doctest/doctest.h>

#include <array>
#include <complex>
#include <map>
#include <numeric>
#include <optional>
#include <string>

#include "manyhands/mpi/large.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::Particle;

struct Job {
  std::string name;
  std::vector<double> values;
  friend bool operator==(const Job&, const Job&) = default;
};

// A value of any type that tells n.
template <class T>
T value_of(int n) {
  if constexpr (std::is_same_v<T, Particle>) {
    return {n + 0.5, -n + 0.25, n};
  } else if constexpr (std::is_same_v<T, std::string>) {
    return std::string(static_cast<std::size_t>(n % 7), 'a') + std::to_string(n);
  } else if constexpr (std::is_same_v<T, Job>) {
    return {std::to_string(n), std::vector<double>(static_cast<std::size_t>(n % 50) * 100, n)};
  } else if constexpr (std::is_same_v<T, std::vector<int>>) {
    return std::vector<int>(static_cast<std::size_t>(n % 5), n);
  } else if constexpr (std::is_same_v<T, std::array<int, 3>>) {
    return {n, n + 1, n + 2};
  } else if constexpr (std::is_same_v<T, bool>) {
    return n % 3 == 0;
  } else {
    return static_cast<T>(n);
  }
}

// What rank `from` sends to neighbour number i of its own.
int number(int from, std::size_t i) { return from * 16 + static_cast<int>(i); }

// Where each thing that comes to this rank was sent from: the rank, and the number that this rank has among
// its destinations.
struct Origin {
  int rank;
  std::size_t slot;
};
using Origins = std::vector<std::optional<Origin>>;

Origins origins_in(const Cart& grid) {
  Origins all;
  for (std::size_t i = 0; i < grid.sources().size(); ++i) {
    const int rank = grid.sources()[i];
    if (rank == proc_null) {
      all.emplace_back(std::nullopt);
    } else {
      all.push_back(Origin{rank, i ^ 1U});  // what comes from the left was sent to the right
    }
  }
  return all;
}

template <class T>
void exchanges(const Neighborhood& comm, const Origins& origins) {
  const int me = comm.rank();
  const auto expected_gather = [&](auto make) {
    std::vector<T> all;
    for (const auto& from : origins) all.push_back(from ? make(from->rank) : T{});
    return all;
  };
  const auto expected_all = [&] {
    std::vector<T> all;
    for (const auto& from : origins) all.push_back(from ? value_of<T>(number(from->rank, from->slot)) : T{});
    return all;
  };
  std::vector<T> out;
  for (std::size_t i = 0; i < comm.destinations().size(); ++i) out.push_back(value_of<T>(number(me, i)));

  CHECK((comm.neighbor_allgather(value_of<T>(me)) == expected_gather(value_of<T>)));
  CHECK((comm.neighbor_alltoall(out) == expected_all()));
  auto first = comm.ineighbor_allgather(value_of<T>(me));
  auto second = comm.ineighbor_alltoall(std::vector<T>(out));
  auto third = comm.ineighbor_allgather(value_of<T>(me + 1));
  CHECK((third.get() == expected_gather([](int rank) { return value_of<T>(rank + 1); })));
  CHECK((second.get() == expected_all()));
  CHECK((first.get() == expected_gather(value_of<T>)));
}

// Flat data of `count` elements for each neighbour, in all forms.
template <class T>
void flat_exchanges(const Neighborhood& comm, const Origins& origins, std::size_t count) {
  const int me = comm.rank();
  const std::size_t in_size = comm.sources().size() * count;
  const auto fill = [](std::span<T> to, int n) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = value_of<T>(n + static_cast<int>(i % 97));
  };
  std::vector<T> mine(count);
  fill(mine, me);
  std::vector<T> out(comm.destinations().size() * count);
  for (std::size_t i = 0; i < comm.destinations().size(); ++i)
    fill(std::span(out).subspan(i * count, count), number(me, i));
  std::vector<T> gathered(in_size, value_of<T>(99));
  std::vector<T> exchanged(in_size, value_of<T>(99));
  for (std::size_t i = 0; i < origins.size(); ++i) {
    if (!origins[i]) continue;  // what comes from nobody is left as it is
    fill(std::span(gathered).subspan(i * count, count), origins[i]->rank);
    fill(std::span(exchanged).subspan(i * count, count), number(origins[i]->rank, origins[i]->slot));
  }
  const std::vector<MPI_Count> in_counts(comm.sources().size(), static_cast<MPI_Count>(count));
  const std::vector<MPI_Count> out_counts(comm.destinations().size(), static_cast<MPI_Count>(count));
  std::vector<T> in;
  const auto reset = [&] { in.assign(in_size, value_of<T>(99)); };

  reset();
  comm.neighbor_allgather_into(mine, in);
  CHECK((in == gathered));
  reset();
  comm.neighbor_allgatherv_into(mine, in, in_counts);
  CHECK((in == gathered));
  reset();
  comm.neighbor_alltoall_into(out, in);
  CHECK((in == exchanged));
  reset();
  comm.neighbor_alltoallv_into(out, out_counts, in, in_counts);
  CHECK((in == exchanged));
  reset();
  comm.ineighbor_allgather_into(mine, in).get();
  CHECK((in == gathered));
  reset();
  comm.ineighbor_allgatherv_into(mine, in, in_counts).get();
  CHECK((in == gathered));
  reset();
  comm.ineighbor_alltoall_into(out, in).get();
  CHECK((in == exchanged));
  reset();
  comm.ineighbor_alltoallv_into(out, out_counts, in, in_counts).get();
  CHECK((in == exchanged));
  std::vector<ConstBuffer> out_buffers;
  std::vector<Buffer> in_buffers;
  reset();
  for (std::size_t i = 0; i < out_counts.size(); ++i)
    out_buffers.push_back(as_buffer(std::span(out).subspan(i * count, count)));
  for (std::size_t i = 0; i < in_counts.size(); ++i) {
    const auto part = std::span(in).subspan(i * count, count);
    in_buffers.push_back(as_writable(part));
  }
  comm.neighbor_alltoallw(out_buffers, in_buffers);
  CHECK((in == exchanged));
  std::ranges::fill(in, value_of<T>(99));
  comm.ineighbor_alltoallw(out_buffers, in_buffers).get();
  CHECK((in == exchanged));

  const auto three_rounds = [&](Persistent all, const std::vector<T>& wanted) {
    for (int round = 0; round < 3; ++round) {
      std::ranges::fill(in, value_of<T>(99));
      all.start();
      all.wait();
      CHECK((in == wanted));
    }
  };
  three_rounds(comm.neighbor_allgather_init(mine, in), gathered);
  three_rounds(comm.neighbor_allgatherv_init(mine, in, in_counts), gathered);
  three_rounds(comm.neighbor_alltoall_init(out, in), exchanged);
  three_rounds(comm.neighbor_alltoallv_init(out, out_counts, in, in_counts), exchanged);
  three_rounds(comm.neighbor_alltoallw_init(out_buffers, in_buffers), exchanged);
}

void some_exchanges(const Neighborhood& comm, const Origins& origins) {
  exchanges<int>(comm, origins);
  exchanges<std::string>(comm, origins);
  flat_exchanges<int>(comm, origins, 7);
}

void all_exchanges(const Neighborhood& comm, const Origins& origins) {
  exchanges<int>(comm, origins);
  exchanges<double>(comm, origins);
  exchanges<char>(comm, origins);
  exchanges<std::complex<double>>(comm, origins);
  exchanges<Particle>(comm, origins);
  exchanges<std::array<int, 3>>(comm, origins);
  exchanges<bool>(comm, origins);
  exchanges<std::string>(comm, origins);
  exchanges<std::vector<int>>(comm, origins);
  exchanges<Job>(comm, origins);
  for (const std::size_t count : {0U, 1U, 7U, 1000U}) {
    flat_exchanges<Particle>(comm, origins, count);
  }
  flat_exchanges<double>(comm, origins, 1000);
  flat_exchanges<std::array<int, 3>>(comm, origins, 7);
}

Comm reversed() { return world().split(0, {.key = -world().rank()}); }

TEST_CASE("grids are spread evenly, and what cannot be is an error") {
  CHECK(dims_create(12, {0, 0}) == std::vector{4, 3});
  CHECK(dims_create(12, {0, 2, 0}) == std::vector{3, 2, 2});
  CHECK(dims_create(7, {0}) == std::vector{7});
  CHECK_THROWS_AS(static_cast<void>(dims_create(7, {2, 0})), Error);
  CHECK_THROWS_AS(static_cast<void>(dims_create(4, {-1, 0})), Error);
  const int n = world().size();
  const Cart grid(world(), {.dims = {0, 0, 0}});
  CHECK(grid.dims()[0] * grid.dims()[1] * grid.dims()[2] == n);
}

TEST_CASE("coordinates and ranks of a grid are row-major and wrap where it is periodic") {
  const Cart grid(world(), {.dims = {0, 0}, .periodic = {true, false}});
  CHECK(topology_of(grid) == Topology::cart);
  CHECK(topology_of(world()) == Topology::none);
  const int columns = grid.dims()[1];
  for (int rank = 0; rank < grid.size(); ++rank) {
    CHECK(grid.coords(rank) == std::vector{rank / columns, rank % columns});
    CHECK(grid.rank_of(grid.coords(rank)) == rank);
    CHECK(grid.rank_of({rank / columns + grid.dims()[0], rank % columns}) == rank);
    CHECK(grid.rank_of({rank / columns - grid.dims()[0], rank % columns}) == rank);
  }
  const auto here = grid.coords();
  const auto [up, down] = grid.shift(0);
  CHECK(up == grid.rank_of({here[0] - 1, here[1]}));
  CHECK(down == grid.rank_of({here[0] + 1, here[1]}));
  const auto [left, right] = grid.shift(1);
  CHECK(left == (here[1] == 0 ? proc_null : grid.rank() - 1));
  CHECK(right == (here[1] == columns - 1 ? proc_null : grid.rank() + 1));
  CHECK(grid.neighbours() == std::vector{up, down, left, right});
  CHECK(grid.shift(0, 0).source == grid.rank());
  CHECK(grid.shift(0, -1).source == down);
}

TEST_CASE("errors of grids have the same class on every MPI") {
  const auto code_of = [](auto call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return Errc::other;
  };
  CHECK(code_of([] { Cart(world(), {.dims = {100, 100}}); }) == Errc::dims);
  CHECK(code_of([] { Cart(world(), {.dims = {-1, 0}}); }) == Errc::dims);
  CHECK(code_of([] { Cart(world(), {.dims = {0, 0}, .periodic = {true}}); }) == Errc::dims);
  CHECK(code_of([] { static_cast<void>(Cart::view(MPI_COMM_WORLD)); }) == Errc::topology);
  CHECK(code_of([] { static_cast<void>(Graph::view(MPI_COMM_WORLD)); }) == Errc::topology);
  CHECK(code_of([] { static_cast<void>(DistGraph::adopt(MPI_COMM_NULL)); }) == Errc::comm);
  CHECK(code_of([] { static_cast<void>(Cart().coords(0)); }) == Errc::comm);
  const Cart grid(world(), {.dims = {0, 0}});
  CHECK(code_of([&] { static_cast<void>(grid.coords(1000)); }) == Errc::rank);
  CHECK(code_of([&] { static_cast<void>(grid.rank_of({1000, 0})); }) == Errc::arg);
  CHECK(code_of([&] { static_cast<void>(grid.rank_of({0})); }) == Errc::dims);
  CHECK(code_of([&] { static_cast<void>(grid.shift(2)); }) == Errc::dims);
  CHECK(code_of([&] { static_cast<void>(grid.sub({true})); }) == Errc::dims);
  CHECK(code_of([&] { static_cast<void>(grid.neighbor_alltoall(std::vector<int>(3))); }) == Errc::count);
  CHECK(code_of([&] {
          std::vector<int> in(9);
          grid.neighbor_allgather_into(1, in);
        }) == Errc::count);
  CHECK(code_of([] { Graph(world(), {{1000}}); }) == Errc::topology);
  CHECK(code_of([] { DistGraph(world(), {.sources = {1000}, .destinations = {}}); }) == Errc::rank);
}

TEST_CASE("subgrids, copies and raw handles keep the topology; ranks beyond the grid get nothing") {
  const Cart grid(world(), {.dims = {0, 0}, .periodic = {false, true}});
  const Cart row = grid.sub({false, true});
  CHECK(row.dims() == std::vector{grid.dims()[1]});
  CHECK(row.periodic() == std::vector{true});
  CHECK(row.rank() == grid.coords()[1]);
  const Cart twin = grid.dup();
  CHECK(twin.dims() == grid.dims());
  CHECK(twin.compare(grid) == Comparison::congruent);
  CHECK(Cart::view(grid.native()).neighbours() == grid.neighbours());
  Cart given = Cart::adopt(grid.dup().release());
  CHECK(given.dims() == grid.dims());
  const Cart moved = std::move(given);
  CHECK(moved.coords() == grid.coords());
  const Cart one(world(), {.dims = {1}});
  CHECK(static_cast<bool>(one) == (world().rank() == 0));
  const int mapped = Cart::map(world(), {.dims = {0, 0}});
  CHECK((mapped == undefined || (mapped >= 0 && mapped < world().size())));
}

TEST_CASE("neighbours of grids exchange values, ranges and objects") {
  const Cart grid(world(), {.dims = {0, 0}, .periodic = {true, false}});
  all_exchanges(grid, origins_in(grid));
  const Comm backwards = reversed();
  for (const CartOptions& options : {CartOptions{.dims = {0}, .periodic = {true}}, CartOptions{.dims = {0}},
                                     CartOptions{.dims = {0, 0}, .periodic = {true, true}},
                                     CartOptions{.dims = {0, 0, 0}, .periodic = {false, true, true}}}) {
    const Cart other(backwards, options);
    some_exchanges(other, origins_in(other));
  }
}

TEST_CASE("counts above MPI's limit go to neighbours as derived datatypes") {
  const MPI_Count limit = std::exchange(detail::large_limit, 5);
  const Cart grid(world(), {.dims = {0, 0}, .periodic = {true, true}});
  flat_exchanges<int>(grid, origins_in(grid), 7);
  flat_exchanges<Particle>(grid, origins_in(grid), 7);
  detail::large_limit = limit;
}

TEST_CASE("neighbours in a graph exchange values, ranges and objects") {
  // A ring, and everybody with rank 0; each edge once in both directions.
  const int n = world().size();
  std::vector<std::vector<int>> neighbours(static_cast<std::size_t>(n));
  const auto connect = [&](int a, int b) {
    auto& of_a = neighbours[static_cast<std::size_t>(a)];
    if (a == b || std::ranges::find(of_a, b) != of_a.end()) return;
    of_a.push_back(b);
    neighbours[static_cast<std::size_t>(b)].push_back(a);
  };
  for (int rank = 0; rank < n; ++rank) {
    connect(rank, (rank + 1) % n);
    connect(rank, 0);
  }
  const Graph graph(world(), neighbours);
  CHECK(topology_of(graph) == Topology::graph);
  CHECK(graph.neighbours() == neighbours[static_cast<std::size_t>(graph.rank())]);
  CHECK(graph.edges() == neighbours);
  CHECK(Graph::view(graph.native()).edges() == neighbours);
  const int mapped = Graph::map(world(), neighbours);
  CHECK((mapped == undefined || (mapped >= 0 && mapped < n)));
  Origins origins;
  for (const int rank : graph.neighbours()) {
    const auto& theirs = neighbours[static_cast<std::size_t>(rank)];
    origins.push_back(
        Origin{rank, static_cast<std::size_t>(std::ranges::find(theirs, graph.rank()) - theirs.begin())});
  }
  some_exchanges(graph, origins);
  exchanges<int>(graph.dup(), origins);
}

TEST_CASE("neighbours in a distributed graph exchange values, ranges and objects") {
  const int n = world().size();
  const int me = world().rank();
  // Each rank sends to the next two.
  const auto at = [&](int rank) { return (rank + 2 * n) % n; };
  const std::vector<int> sources = {at(me - 1), at(me - 2)};
  const std::vector<int> destinations = {at(me + 1), at(me + 2)};
  const Origins origins = {Origin{at(me - 1), 0}, Origin{at(me - 2), 1}};

  const DistGraph plain(world(), {.sources = sources, .destinations = destinations});
  CHECK(topology_of(plain) == Topology::dist_graph);
  CHECK(plain.sources() == sources);
  CHECK(plain.destinations() == destinations);
  CHECK_FALSE(plain.weighted());
  CHECK(plain.source_weights().empty());
  if (n > 1) some_exchanges(plain, origins);  // alone, both edges are from 0 to 0: which is which is not said

  const DistGraph weighted(world(), {.sources = sources,
                                     .destinations = destinations,
                                     .source_weights = {3, 4},
                                     .destination_weights = {3, 4}});
  CHECK(weighted.weighted());
  CHECK(weighted.source_weights() == std::vector{3, 4});
  CHECK(DistGraph::view(weighted.native()).destination_weights() == std::vector{3, 4});
  CHECK(weighted.dup().destinations() == destinations);
}

TEST_CASE("a distributed graph can be told by one rank, with weights") {
  const int n = world().size();
  const int me = world().rank();
  std::vector<Edges> edges;
  if (me == 0) {
    for (int rank = 0; rank < n; ++rank) edges.push_back({rank, {(rank + 1) % n}, {rank + 10}});
  }
  const DistGraph ring(world(), edges);
  CHECK(ring.sources() == std::vector{(me + n - 1) % n});
  CHECK(ring.destinations() == std::vector{(me + 1) % n});
  CHECK(ring.destination_weights() == std::vector{me + 10});
  CHECK(ring.source_weights() == std::vector{(me + n - 1) % n + 10});
  some_exchanges(ring, {Origin{(me + n - 1) % n, 0}});

  // Rank 0 alone has neighbours: the others have none, and take part.
  const DistGraph star(world(), me == 0 ? Adjacency{.sources = {0}, .destinations = {0}} : Adjacency{});
  some_exchanges(star, me == 0 ? Origins{Origin{0, 0}} : Origins{});
}

TEST_CASE("a ring of neighbours gets on while irecvs of unknown size wait") {
  const Cart grid(world(), {.dims = {0}, .periodic = {true}});
  const auto [last, next] = grid.shift(0);
  auto coming = grid.irecv<std::vector<double>>({.source = last});
  auto sending = grid.isend(std::vector<double>(300'000, grid.rank()), {.dest = next});
  CHECK(grid.neighbor_allgather(grid.rank()) == std::vector{last, next});
  CHECK(grid.neighbor_alltoall(std::vector{1, 2}) == std::vector{2, 1});
  CHECK(coming.get() == std::vector<double>(300'000, last));
  sending.wait();
}

TEST_CASE("a neighbourhood collective whose request is dropped ends all the same") {
  const Cart grid(world(), {.dims = {0}, .periodic = {true}});
  static_cast<void>(grid.ineighbor_allgather(std::string("dropped")));
  static_cast<void>(grid.ineighbor_allgather(7));
  const auto [last, next] = grid.shift(0);
  CHECK(grid.neighbor_allgather(std::to_string(grid.rank())) ==
        std::vector{std::to_string(last), std::to_string(next)});
}

TEST_CASE("a grid without dimensions has one place") {
  const Cart point(world(), {.dims = {}});
  CHECK(static_cast<bool>(point) == (world().rank() == 0));
  if (!point) return;
  CHECK(point.size() == 1);
  CHECK(point.dims().empty());
  CHECK(point.neighbours().empty());
  CHECK(point.coords().empty());
  CHECK(point.rank_of(std::span<const int>()) == 0);
  CHECK(point.dup().dims().empty());
  CHECK(point.neighbor_allgather(1).empty());
}

}  // namespace
}  // namespace manyhands::mpi
