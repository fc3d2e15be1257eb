#include "manyhands/mpi/collectives.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <string>

#include "manyhands/mpi/comm.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

struct Point {
  double x, y;
  int id;
  friend bool operator==(const Point&, const Point&) = default;
  friend Point operator+(const Point& a, const Point& b) { return {a.x + b.x, a.y + b.y, a.id + b.id}; }
};
struct Object {
  std::string name;
  std::vector<int> numbers;
  friend bool operator==(const Object&, const Object&) = default;
};

// Value number i of type T: different for each i.
template <class T>
T value(int i) {
  if constexpr (std::is_same_v<T, bool>) {
    return i % 2 == 1;
  } else if constexpr (std::is_same_v<T, Point>) {
    return {i + 0.5, -1.0 * i, i};
  } else if constexpr (std::is_same_v<T, std::array<int, 3>>) {
    return {i, i + 1, i + 2};
  } else if constexpr (std::is_same_v<T, std::complex<double>>) {
    return {1.0 * i, 2.0 * i};
  } else if constexpr (std::is_same_v<T, std::string>) {
    return std::string(static_cast<std::size_t>(i % 50), 'x') + std::to_string(i);
  } else if constexpr (std::is_same_v<T, Object>) {
    return {std::to_string(i), std::vector<int>(static_cast<std::size_t>(i % 7), i)};
  } else {
    return static_cast<T>(i % 100);
  }
}
template <class T>
std::vector<T> values(int first, int count) {
  std::vector<T> all;
  for (int i = 0; i < count; ++i) all.push_back(value<T>(first + i));
  return all;
}

// Every kind of communicator: the world, its ranks in reverse, its halves.
template <class F>
void on_communicators(F f) {
  f(world());
  f(world().split(0, {.key = -world().rank()}));
  f(world().split(world().rank() % 2));
}
template <class F>
void on_roots(const Comm& comm, F f) {
  f(0);
  if (comm.size() > 1) f(comm.size() - 1);
}

#define MH_ELEMENTS \
  int, double, char, std::uint8_t, float, std::complex<double>, Point, std::array<int, 3>, std::int64_t
#define MH_RANGE_ELEMENTS int, double, char, Point, std::array<int, 3>  // each compiles for seconds

TEST_CASE_TEMPLATE("collectives of plain values", T, bool, MH_ELEMENTS) {
  on_communicators([](const Comm& comm) {
    const int n = comm.size();
    const int me = comm.rank();
    CHECK((comm.allgather(value<T>(me)) == values<T>(0, n)));
    CHECK((comm.iallgather(value<T>(me)).get() == values<T>(0, n)));
    on_roots(comm, [&](int root) {
      CHECK((comm.bcast(value<T>(me), {.root = root}) == value<T>(root)));
      CHECK((comm.ibcast(value<T>(me), {.root = root}).get() == value<T>(root)));
      CHECK((comm.scatter(me == root ? values<T>(3, n) : std::vector<T>(), {.root = root}) ==
             value<T>(3 + me)));
      CHECK((comm.iscatter(values<T>(3, n), {.root = root}).get() == value<T>(3 + me)));
      const auto all = comm.gather(value<T>(me), {.root = root});
      CHECK((all == (me == root ? values<T>(0, n) : std::vector<T>())));
      CHECK((comm.igather(value<T>(me), {.root = root}).get() == all));
    });
  });
}

TEST_CASE_TEMPLATE("collectives of ranges, empty, odd and large", T, MH_RANGE_ELEMENTS) {
  on_communicators([](const Comm& comm) {
    const int n = comm.size();
    const int me = comm.rank();
    for (const int count : {0, 1, 7, 3001}) {
      CAPTURE(count);
      // Every rank has count * (rank + 1) elements.
      std::vector<std::vector<T>> parts;
      for (int rank = 0; rank < n; ++rank) parts.push_back(values<T>(rank, count * (rank + 1)));
      const Ragged<T> ragged(parts);
      CHECK((comm.allgather(parts[static_cast<std::size_t>(me)]) == ragged));
      CHECK((comm.iallgather(parts[static_cast<std::size_t>(me)]).get() == ragged));
      on_roots(comm, [&](int root) {
        CAPTURE(root);
        const auto mine = values<T>(me, count);
        CHECK((comm.bcast(mine, {.root = root}) == values<T>(root, count)));
        CHECK((comm.bcast(me == root ? mine : std::vector<T>(), {.root = root}) == values<T>(root, count)));
        CHECK((comm.ibcast(me == root ? mine : std::vector<T>(), {.root = root}).get() ==
               values<T>(root, count)));
        CHECK((comm.scatter(me == root ? parts : decltype(parts)(), {.root = root}) ==
               parts[static_cast<std::size_t>(me)]));
        CHECK((comm.iscatter(ragged, {.root = root}).get() == parts[static_cast<std::size_t>(me)]));
        const auto gathered = comm.gather(parts[static_cast<std::size_t>(me)], {.root = root});
        CHECK((gathered == (me == root ? ragged : Ragged<T>())));
        CHECK((comm.igather(parts[static_cast<std::size_t>(me)], {.root = root}).get() == gathered));
        const auto part =
            comm.scatter_range(me == root ? values<T>(0, count) : std::vector<T>(), {.root = root});
        const auto lengths = detail::near_equal(count, n);
        int first = 0;
        for (int i = 0; i < me; ++i) first += static_cast<int>(lengths[static_cast<std::size_t>(i)]);
        CHECK((part == values<T>(first, static_cast<int>(lengths[static_cast<std::size_t>(me)]))));

        // Into memory, with equal counts.
        const auto everything = values<T>(0, count * n);
        std::vector<T> some(static_cast<std::size_t>(count));
        std::vector<T> all(everything.size());
        auto copy = mine;
        comm.bcast_into(std::span(copy), {.root = root});
        CHECK((copy == values<T>(root, count)));
        comm.scatter_into(everything, some, {.root = root});
        CHECK((some == values<T>(me * count, count)));
        comm.gather_into(some, all, {.root = root});
        if (me == root) CHECK((all == everything));
        all.assign(everything.size(), T{});
        comm.igather_into(some, all, {.root = root}).get();
        if (me == root) CHECK((all == everything));
        // In place on the root.
        if (me == root) {
          all.assign(everything.size(), T{});
          std::copy(some.begin(), some.end(), all.begin() + me * count);
          comm.gather_into(in_place, all, {.root = root});
          CHECK((all == everything));
          comm.scatter_into(all, in_place, {.root = root});
        } else {
          comm.gather_into(some, all, {.root = root});
          comm.scatter_into(all, some, {.root = root});
          CHECK((some == values<T>(me * count, count)));
        }
      });
      const auto everything = values<T>(0, count * n);
      std::vector<T> all(everything.size());
      const auto mine = values<T>(me * count, count);
      comm.allgather_into(mine, all);
      CHECK((all == everything));
      all.assign(everything.size(), T{});
      std::copy(mine.begin(), mine.end(), all.begin() + me * count);
      comm.allgather_into(in_place, all);
      CHECK((all == everything));
      comm.iallgather_into(mine, all).get();
      CHECK((all == everything));

      // Rank i sends value i * n + j to rank j.
      const auto out = values<T>(me * n, n);
      std::vector<T> in;
      for (int rank = 0; rank < n; ++rank) in.push_back(value<T>(rank * n + me));
      CHECK((comm.alltoall(out) == in));
      CHECK((comm.ialltoall(out).get() == in));
      std::vector<T> filled(in.size());
      comm.alltoall_into(out, filled);
      CHECK((filled == in));
      std::vector<std::vector<T>> outs;
      std::vector<std::vector<T>> ins;
      for (int rank = 0; rank < n; ++rank) {
        outs.push_back(values<T>(me + rank, count * ((me + rank) % 3)));
        ins.push_back(values<T>(me + rank, count * ((me + rank) % 3)));
      }
      CHECK((comm.alltoall(outs) == ins));
      CHECK((comm.alltoall(Ragged<T>(outs)) == Ragged<T>(ins)));
      CHECK((comm.ialltoall(outs).get() == ins));
    }
  });
}

TEST_CASE_TEMPLATE("collectives of objects", T, std::string, Object) {
  on_communicators([](const Comm& comm) {
    const int n = comm.size();
    const int me = comm.rank();
    CHECK((comm.allgather(value<T>(me)) == values<T>(0, n)));
    CHECK((comm.iallgather(value<T>(me)).get() == values<T>(0, n)));
    CHECK((comm.alltoall(values<T>(me, n)) == values<T>(me, n)));
    CHECK((comm.ialltoall(values<T>(me, n)).get() == values<T>(me, n)));
    on_roots(comm, [&](int root) {
      CHECK((comm.bcast(me == root ? value<T>(40) : T(), {.root = root}) == value<T>(40)));
      CHECK((comm.ibcast(me == root ? value<T>(40) : T(), {.root = root}).get() == value<T>(40)));
      CHECK((comm.scatter(me == root ? values<T>(3, n) : std::vector<T>(), {.root = root}) ==
             value<T>(3 + me)));
      const auto all = comm.gather(value<T>(me), {.root = root});
      CHECK((all == (me == root ? values<T>(0, n) : std::vector<T>())));
      CHECK((comm.igather(value<T>(me), {.root = root}).get() == all));
    });
  });
  const Object large{"large", std::vector<int>(100'000, 7)};
  CHECK((world().bcast(world().rank() == 0 ? large : Object()) == large));
}

TEST_CASE("reductions of values, ranges and structs by standard and own operations") {
  on_communicators([](const Comm& comm) {
    const int n = comm.size();
    const int me = comm.rank();
    CHECK(comm.allreduce(me + 1, std::plus<>()) == n * (n + 1) / 2);
    CHECK(comm.allreduce(me + 1.0, std::plus<double>()) == n * (n + 1) / 2);
    CHECK(comm.allreduce(static_cast<char>(me), std::plus<>()) == n * (n - 1) / 2);
    CHECK(comm.allreduce(me, max) == n - 1);
    CHECK(comm.allreduce(me, min) == 0);
    CHECK(comm.allreduce(me == 0, std::logical_or<>()));
    CHECK(comm.allreduce(me == 0, std::logical_and<>()) == (n == 1));
    CHECK(comm.allreduce(1U << me, std::bit_or<>()) == (1U << n) - 1);
    CHECK(comm.allreduce(std::complex<double>(1, me), std::plus<>()) ==
          std::complex<double>(n, n * (n - 1) / 2));
    CHECK(comm.allreduce(located(-me, me), maxloc) == located(0, 0));
    CHECK(comm.allreduce(located(7.5, me), minloc) == located(7.5, 0));
    CHECK(comm.allreduce(located(me, me), maxloc) == located(n - 1, n - 1));
    CHECK((comm.allreduce(value<Point>(me), std::plus<>()).id == n * (n - 1) / 2));
    // A lambda without and one with state; not commutative: the last rank's wins.
    CHECK(comm.allreduce(me, [](int, int b) { return b; }) == n - 1);
    int offset = 10;  // not const: as a constant it would be no state of the lambdas
    CHECK(comm.allreduce(me, [offset](int a, int b) { return a + b + offset; }) ==
          n * (n - 1) / 2 + (n - 1) * offset);
    CHECK(comm.allreduce(me, commutative([](int a, int b) { return std::max(a, b); })) == n - 1);
    CHECK(comm.iallreduce(me, [offset](int a, int b) { return a + b + offset; }).get() ==
          n * (n - 1) / 2 + (n - 1) * offset);
    for (const int count : {0, 1, 7, 3001}) {
      const std::vector<int> ones(static_cast<std::size_t>(count), 1);
      const std::vector<int> sums(static_cast<std::size_t>(count), n);
      CHECK(comm.allreduce(ones, std::plus<>()) == sums);
      CHECK(comm.iallreduce(ones, std::plus<>()).get() == sums);
      CHECK((comm.allreduce(values<Point>(me, count), [](const Point& a, const Point& b) {
        return a.id > b.id ? a : b;
      }) == values<Point>(n - 1, count)));
      auto in_and_out = ones;
      comm.allreduce_into(in_place, in_and_out, std::plus<>());
      CHECK(in_and_out == sums);
      std::vector<int> got(ones.size());
      comm.iallreduce_into(ones, got, std::plus<>()).get();
      CHECK(got == sums);
      on_roots(comm, [&](int root) {
        CHECK(comm.reduce(ones, std::plus<>(), {.root = root}) == (me == root ? sums : std::vector<int>()));
        CHECK(comm.ireduce(ones, std::plus<>(), {.root = root}).get() ==
              (me == root ? sums : std::vector<int>()));
        got.assign(ones.size(), 0);
        comm.reduce_into(ones, got, std::plus<>(), {.root = root});
        if (me == root) CHECK(got == sums);
      });
      CHECK(comm.scan(ones, std::plus<>()) == std::vector<int>(ones.size(), me + 1));
      if (me > 0) {
        CHECK(comm.exscan(ones, std::plus<>()) == std::vector<int>(ones.size(), me));
      } else {
        static_cast<void>(comm.exscan(ones, std::plus<>()));
      }
      const auto lengths = detail::near_equal(count, n);
      CHECK(comm.reduce_scatter(ones, std::plus<>()) ==
            std::vector<int>(static_cast<std::size_t>(lengths[static_cast<std::size_t>(me)]), n));
      CHECK(comm.ireduce_scatter(ones, std::plus<>()).get() == comm.reduce_scatter(ones, std::plus<>()));
      std::vector<MPI_Count> all_to_last(static_cast<std::size_t>(n));
      all_to_last.back() = count;
      const std::vector<int> of_last = me == n - 1 ? sums : std::vector<int>();
      CHECK(comm.ireduce_scatter(ones, all_to_last, std::plus<>()).get() == of_last);
      std::vector<int> mine(of_last.size());
      auto again = comm.reduce_scatter_init(ones, mine, all_to_last, std::plus<>());
      all_to_last.clear();  // it has its own
      for (int round = 0; round < 3; ++round) {
        mine.assign(mine.size(), 0);
        again.start();
        again.wait();
        CHECK(mine == of_last);
      }
      const std::vector<int> blocks(static_cast<std::size_t>(count * n), 1);
      comm.reduce_scatter_into(blocks, got, std::plus<>());
      CHECK(got == sums);
      got.assign(ones.size(), 0);
      comm.ireduce_scatter_into(blocks, got, std::plus<>()).get();
      CHECK(got == sums);
      in_and_out = blocks;
      comm.reduce_scatter_into(in_place, in_and_out, std::plus<>());
      CHECK(std::equal(sums.begin(), sums.end(), in_and_out.begin()));
    }
  });
}

TEST_CASE("objects are reduced in the order of the ranks") {
  on_communicators([](const Comm& comm) {
    const auto join = [](const std::string& a, const std::string& b) { return a + b; };
    std::string all;
    std::string before;
    for (int i = 0; i < comm.size(); ++i) {
      if (i == comm.rank()) before = all;
      all += std::to_string(i);
    }
    const std::string mine = std::to_string(comm.rank());
    using Text = std::map<int, std::string>;  // packed
    const auto merge = [&](const Text& a, const Text& b) { return Text{{0, join(a.at(0), b.at(0))}}; };
    CHECK((comm.allreduce(Text{{0, mine}}, merge) == Text{{0, all}}));
    CHECK((comm.iallreduce(Text{{0, mine}}, merge).get() == Text{{0, all}}));
    CHECK((comm.reduce(Text{{0, mine}}, merge) == (comm.rank() == 0 ? Text{{0, all}} : Text())));
    const Root last{comm.size() - 1};
    CHECK(
        (comm.reduce(Text{{0, mine}}, merge, last) == (comm.rank() == last.root ? Text{{0, all}} : Text())));
    CHECK((comm.scan(Text{{0, mine}}, merge) == Text{{0, before + mine}}));
    CHECK((comm.exscan(Text{{0, mine}}, merge) == (comm.rank() == 0 ? Text() : Text{{0, before}})));
  });
}

TEST_CASE("an operation on objects that throws is an error of all who wait for its result") {
  on_communicators([](const Comm& comm) {
    if (comm.size() == 1) return;
    // Throws where what begins with the value of rank 1 comes in from the right: in a tree on rank 0 only.
    const auto fragile = [](const std::string& a, const std::string& b) {
      if (b.starts_with('1')) throw std::domain_error("not that one");
      return a + b;
    };
    const std::string mine = std::to_string(comm.rank());
    const auto outcome = [&](auto call) -> std::string {
      try {
        call();
        return "none";
      } catch (const std::domain_error&) {
        return "own";
      } catch (const Error& error) {
        CHECK(error.code() == Errc::op);
        CHECK(std::string_view(error.what()).find("not that one") != std::string_view::npos);
        return "other";
      }
    };
    const int me = comm.rank();
    CHECK(outcome([&] { comm.allreduce(mine, fragile); }) == (me == 0 ? "own" : "other"));
    CHECK(outcome([&] { comm.reduce(mine, fragile, {.root = 1}); }) == (me == 0   ? "own"
                                                                        : me == 1 ? "other"
                                                                                  : "none"));
    CHECK((outcome([&] { comm.scan(mine, fragile); }) == "none") == (me == 0));
    CHECK(comm.allreduce(1, std::plus<>()) == comm.size());
  });
}

TEST_CASE("texts are joined in the order of the ranks") {
  std::string all;
  for (int i = 0; i < world().size(); ++i) all += std::to_string(i);
  CHECK(world().allreduce(std::to_string(world().rank()), std::plus<>()) == all);
}

TEST_CASE("a rank with an irecv of unknown size takes part in collectives") {
  const Comm& comm = world();
  auto coming = comm.irecv<std::vector<int>>({.source = comm.rank()});
  if (comm.rank() != 0) coming = {};
  for (int i = 0; i < 20; ++i) {
    comm.barrier();
    CHECK(comm.allreduce(1, std::plus<>()) == comm.size());
  }
}

// Each rank comes to the later steps of an operation at a time of its own: they must not be mistaken for
// others.
TEST_CASE("collectives of several steps may be under way together, and be waited for in any order") {
  on_communicators([](const Comm& comm) {
    const int me = comm.rank();
    const int n = comm.size();
    std::mt19937 random(static_cast<unsigned>(me));
    for (int round = 0; round < 100; ++round) {
      const auto text = [&](int rank) {
        return std::string(static_cast<std::size_t>((rank * 7 + round) % 40), 'x');
      };
      auto texts = comm.iallgather(text(me));
      auto first = comm.ibcast(text(0) + "first");
      if (round % 3 == 0) comm.barrier();
      auto parts = comm.igather(values<int>(me, (me + round) % 5), {.root = n - 1});
      auto sum = comm.iallreduce(1, std::plus<>());
      auto joined = comm.iallreduce(std::to_string(me % 10), std::plus<>());
      if (round % 5 == 0) CHECK(comm.allgather(me).back() == n - 1);
      std::vector<std::function<void()>> waits{
          [&] {
            const auto got = texts.get();
            for (int rank = 0; rank < n; ++rank) CHECK(got[static_cast<std::size_t>(rank)] == text(rank));
          },
          [&] { CHECK(first.get() == text(0) + "first"); },
          [&] {
            const auto got = parts.get();
            if (me != n - 1) return;
            for (int rank = 0; rank < n; ++rank)
              CHECK(std::ranges::equal(got[static_cast<std::size_t>(rank)],
                                       values<int>(rank, (rank + round) % 5)));
          },
          [&] { CHECK(sum.get() == n); },
          [&] { CHECK(joined.get().size() == static_cast<std::size_t>(n)); },
      };
      std::shuffle(waits.begin(), waits.end(), random);
      if (round % 4 == 1) static_cast<void>(texts.test());
      for (const auto& wait : waits) wait();
    }
  });
}

TEST_CASE(
    "a collective of several steps goes on while its rank waits for a message, and when it is dropped") {
  const Comm& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int last = (comm.rank() + comm.size() - 1) % comm.size();
  if (comm.size() == 1) return;
  for (int round = 0; round < 20; ++round) {
    auto texts = comm.iallgather(std::string("text"));
    if (comm.rank() == 0) {
      CHECK(texts.get().size() == static_cast<std::size_t>(comm.size()));
      comm.send(round, {.dest = next, .tag = 5});
      CHECK(comm.recv<int>({.source = last, .tag = 5}) == round);
    } else {  // rank 0 sends when it has all texts, for which this rank has to take its steps meanwhile
      CHECK(comm.recv<int>({.source = last, .tag = 5}) == round);
      comm.send(round, {.dest = next, .tag = 5});
    }
  }
}

TEST_CASE("persistent collectives run many times") {
  const Comm& comm = world();
  const int n = comm.size();
  std::vector<int> mine(5);
  std::vector<int> sums(5);
  std::vector<int> all(static_cast<std::size_t>(5 * n));
  auto sum = comm.allreduce_init(mine, sums, std::plus<>());
  auto gather = comm.allgather_init(mine, all);
  auto bcast = comm.bcast_init(std::span(all));
  auto meet = comm.barrier_init();
  for (int round = 0; round < 4; ++round) {
    mine.assign(5, round + comm.rank());
    sum.start();
    sum.wait();
    CHECK(sums == std::vector<int>(5, n * round + n * (n - 1) / 2));
    gather.start();
    gather.wait();
    for (int rank = 0; rank < n; ++rank) CHECK(all[static_cast<std::size_t>(5 * rank)] == round + rank);
    if (comm.rank() == 0) all[0] = 77;
    bcast.start();
    bcast.wait();
    CHECK(all[0] == 77);
    meet.start();
    CHECK_THROWS_AS(meet.start(), Error);
    meet.wait();
  }
}

TEST_CASE("counts and offsets of parts count elements, also of structs") {
  const Comm& comm = world();
  const int n = comm.size();
  const int me = comm.rank();
  // Rank r has r + 1 points, and in memory there is one free place before each part.
  std::vector<MPI_Count> counts;
  std::vector<MPI_Count> offsets;
  std::vector<Point> laid_out;
  for (int rank = 0; rank < n; ++rank) {
    laid_out.push_back(Point{});
    counts.push_back(rank + 1);
    offsets.push_back(static_cast<MPI_Count>(laid_out.size()));
    const auto part = values<Point>(10 * rank, rank + 1);
    laid_out.insert(laid_out.end(), part.begin(), part.end());
  }
  const Counts parts{counts, offsets};
  const auto mine = values<Point>(10 * me, me + 1);
  std::vector<Point> all(laid_out.size());
  comm.allgatherv_into(mine, all, parts);
  CHECK(all == laid_out);
  all.assign(all.size(), Point{});
  comm.gatherv_into(mine, all, parts, {.root = n - 1});
  if (me == n - 1) CHECK(all == laid_out);
  std::vector<Point> part(mine.size());
  comm.scatterv_into(laid_out, parts, part);
  CHECK(part == mine);
  std::vector<Point> sent;
  for (int rank = 0; rank < n; ++rank) sent.insert(sent.end(), mine.begin(), mine.end());
  const std::vector<MPI_Count> same(static_cast<std::size_t>(n), me + 1);
  all.assign(all.size(), Point{});
  comm.alltoallv_into(sent, {same}, all, parts);
  CHECK(all == laid_out);
}

TEST_CASE("alltoallw moves data of different datatypes") {
  const Comm& comm = world();
  const auto n = static_cast<std::size_t>(comm.size());
  std::vector<double> matrix(n * n);  // row-major; column j goes to rank j
  for (std::size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<double>(i) + 1000 * comm.rank();
  const auto column = Datatype::vector<double>(comm.size(), 1, comm.size());
  std::vector<std::vector<double>> got(n, std::vector<double>(n));
  std::vector<ConstBuffer> send;
  std::vector<Buffer> recv;
  for (std::size_t rank = 0; rank < n; ++rank) {
    send.push_back(buffer(&matrix[rank], 1, column));
    recv.push_back(as_writable(got[rank]));
  }
  comm.alltoallw(send, recv);
  for (std::size_t rank = 0; rank < n; ++rank) {
    for (std::size_t row = 0; row < n; ++row)
      CHECK(got[rank][row] ==
            static_cast<double>(row * n + static_cast<std::size_t>(comm.rank()) + 1000 * rank));
  }
}

TEST_CASE("counts above MPI's limit take the wide forms") {
  const MPI_Count limit = std::exchange(detail::large_limit, 5);
  const Comm& comm = world();
  const int n = comm.size();
  const int me = comm.rank();
  std::vector<std::vector<double>> parts;
  for (int rank = 0; rank < n; ++rank) parts.push_back(values<double>(rank, 11 * (rank + 1)));
  const Ragged<double> ragged(parts);
  CHECK((comm.allgather(parts[static_cast<std::size_t>(me)]) == ragged));
  CHECK((comm.iallgather(parts[static_cast<std::size_t>(me)]).get() == ragged));
  CHECK((comm.gather(parts[static_cast<std::size_t>(me)]) == (me == 0 ? ragged : Ragged<double>())));
  CHECK((comm.scatter(ragged) == parts[static_cast<std::size_t>(me)]));
  CHECK((comm.alltoall(Ragged<double>(
             std::vector(static_cast<std::size_t>(n), parts[static_cast<std::size_t>(me)]))) == ragged));
  CHECK((comm.bcast(parts[0]) == parts[0]));
  const std::vector<int> ones(23, 1);
  CHECK(comm.allreduce(ones, std::plus<>()) == std::vector<int>(23, n));
  CHECK(comm.iallreduce(ones, std::plus<>()).get() == std::vector<int>(23, n));
  CHECK(comm.scan(ones, std::plus<>()) == std::vector<int>(23, me + 1));
  std::vector<double> all(static_cast<std::size_t>(11 * n));
  comm.allgather_into(values<double>(me * 11, 11), all);
  CHECK(all == values<double>(0, 11 * n));
  // Into memory, by counts: `large` says so.
  const std::vector<double>& mine = parts[static_cast<std::size_t>(me)];
  const std::vector<MPI_Count> lengths = ragged.counts();
  const Counts counts{.counts = lengths, .large = true};
  std::vector<double> gathered(ragged.values().size());
  comm.gatherv_into(mine, gathered, counts);
  if (me == 0) CHECK(gathered == ragged.values());
  std::vector<double> part(mine.size());
  comm.scatterv_into(ragged.values(), counts, part);
  CHECK(part == mine);
  part.assign(part.size(), 0);
  comm.iscatterv_into(ragged.values(), counts, part).get();
  CHECK(part == mine);
  std::vector<double> sent;
  for (int rank = 0; rank < n; ++rank) sent.insert(sent.end(), mine.begin(), mine.end());
  const std::vector<MPI_Count> sent_lengths(static_cast<std::size_t>(n), static_cast<MPI_Count>(mine.size()));
  gathered.assign(gathered.size(), 0);
  comm.alltoallv_into(sent, Counts{.counts = sent_lengths, .large = true}, gathered, counts);
  CHECK(gathered == ragged.values());
  std::string said;
  try {
    comm.gatherv_into(mine, gathered, Counts{.counts = lengths});
  } catch (const Error& error) {
    said = error.what();
  }
  CHECK(said.find(".large = true") != std::string::npos);
  // Parts of 23 each, blocking, nonblocking, by counts.
  const std::vector<int> blocks(static_cast<std::size_t>(23 * n), 1);
  std::vector<int> got(23);
  comm.reduce_scatter_into(blocks, got, std::plus<>());
  CHECK(got == std::vector<int>(23, n));
  got.assign(23, 0);
  comm.ireduce_scatter_into(blocks, got, std::plus<>()).get();
  CHECK(got == std::vector<int>(23, n));
  CHECK(comm.reduce_scatter(blocks, std::plus<>()) == got);
  std::vector<int> in_and_out = values<int>(0, 23 * n);
  comm.reduce_scatter_into(in_place, in_and_out, std::plus<>());
  std::vector<int> wanted = values<int>(23 * me, 23);
  for (int& value : wanted) value *= n;
  CHECK(std::vector<int>(in_and_out.begin(), in_and_out.begin() + 23) == wanted);
  detail::large_limit = limit;
}

TEST_CASE("values are cut into the parts of a Ragged without a copy, if the lengths fit") {
  std::vector<double> all{1, 2, 3, 4, 5};
  const double* const where = all.data();
  const std::array<MPI_Count, 3> counts{2, 0, 3};
  const Ragged<double> cut(std::move(all), counts);
  CHECK(cut.values().data() == where);
  CHECK((cut == Ragged<double>(std::vector<std::vector<double>>{{1, 2}, {}, {3, 4, 5}})));
  const std::array<MPI_Count, 2> too_many{2, 4};
  CHECK(test::code_of([&] { Ragged<double>({1, 2, 3, 4, 5}, too_many); }) == Errc::count);
  const std::array<MPI_Count, 2> negative{6, -1};
  CHECK(test::code_of([&] { Ragged<double>({1, 2, 3, 4, 5}, negative); }) == Errc::count);
}

TEST_CASE("a wrong root, number of items or size is an error that says so") {
  const Comm& comm = world();
  const auto code_of = [](auto call) {
    try {
      call();
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("MPI_COMM_WORLD") != std::string::npos);
      return error.code();
    }
    return Errc::other;
  };
  CHECK(code_of([&] { static_cast<void>(comm.bcast(1, {.root = 1000})); }) == Errc::root);
  CHECK(code_of([&] { static_cast<void>(comm.gather(1, {.root = -1})); }) == Errc::root);
  CHECK(code_of([&] { static_cast<void>(comm.scatter(std::vector<int>(1000), {.root = comm.rank()})); }) ==
        Errc::count);
  CHECK(code_of([&] { static_cast<void>(comm.alltoall(std::vector<int>(1000))); }) == Errc::count);
  std::vector<int> uneven(static_cast<std::size_t>(comm.size()) + 1);
  int one = 0;
  if (comm.size() > 1) CHECK(code_of([&] { comm.allgather_into(one, uneven); }) == Errc::count);
}

TEST_CASE("memory that is too small for what was asked for is refused before MPI sees it") {
  const Comm& comm = world();
  const auto n = static_cast<std::size_t>(comm.size());
  const std::vector<int> send(6, 1);
  std::vector<int> small(3);
  std::vector<int> large(20);
  const std::vector<MPI_Count> six(n, 6);
  const std::vector<MPI_Count> negative(n, -1);
  const std::vector<MPI_Count> far(n, 60);
  const Comm& alone = self();  // the root is the only rank: no other one waits for it
  const std::vector<MPI_Count> one_six{6};
  const std::vector<MPI_Count> one_far{60};
  const auto refused = [](auto call) { CHECK(test::code_of(call) == Errc::count); };
  refused([&] { alone.gatherv_into(send, small, {one_six}); });
  refused([&] { comm.allgatherv_into(send, small, {six}); });
  refused([&] { comm.allgatherv_into(send, small, {negative}); });
  refused([&] { alone.scatterv_into(send, {one_far}, large); });
  refused([&] { comm.alltoallv_into(send, {far}, large, {far}); });
  refused([&] { comm.iallgatherv_into(send, small, {six}).get(); });
  for (std::vector<int>* recv : {&small, &large}) {
    refused([&] { alone.reduce_into(send, *recv, std::plus<>()); });
    refused([&] { comm.allreduce_into(send, *recv, std::plus<>()); });
    refused([&] { comm.scan_into(send, *recv, std::plus<>()); });
    refused([&] { comm.exscan_into(send, *recv, std::plus<>()); });
    refused([&] { comm.iallreduce_into(send, *recv, std::plus<>()).get(); });
  }
  refused([&] { comm.reduce_scatter_into(send, large, std::plus<>()); });
  // In memory with room to spare, and with parts in any order.
  std::vector<int> room(7 * n);
  std::vector<MPI_Count> offsets(n);
  for (std::size_t i = 0; i < n; ++i) offsets[i] = static_cast<MPI_Count>(6 * (n - 1 - i));
  comm.allgatherv_into(send, room, {six, offsets});
  CHECK(std::accumulate(room.begin(), room.end(), 0) == static_cast<int>(6 * n));
}

}  // namespace
}  // namespace manyhands::mpi
