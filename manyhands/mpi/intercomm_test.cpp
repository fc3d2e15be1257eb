#include "manyhands/mpi/intercomm.hpp"

#include <doctest/doctest.h>

#include <array>
#include <complex>
#include <map>
#include <numeric>
#include <string>

#include "manyhands/mpi/environment.hpp"
#include "manyhands/mpi/large.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::Particle;

using Dict = std::map<std::string, std::vector<double>>;

template <class T>
T value_of(int n) {
  if constexpr (std::is_same_v<T, Particle>) {
    return {n + 0.5, -n + 0.25, n};
  } else if constexpr (std::is_same_v<T, std::array<int, 3>>) {
    return {n, n + 1, n + 2};
  } else if constexpr (std::is_same_v<T, bool>) {
    return n % 3 == 0;
  } else if constexpr (std::is_same_v<T, std::vector<int>>) {
    return std::vector<int>(static_cast<std::size_t>(n * 100), n);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return std::string(static_cast<std::size_t>(n % 7), 'a') + std::to_string(n);
  } else if constexpr (std::is_same_v<T, Dict>) {
    return {{std::to_string(n), {1.0, 2.0 * n}}, {"x", {}}};
  } else {
    return static_cast<T>(n);
  }
}

// The even ranks of the world on one side, the odd ones on the other; empty for a world of one.
struct Sides {
  Comm local = world().split(world().rank() % 2);
  bool odd = world().rank() % 2 == 1;
  int other_size = odd ? (world().size() + 1) / 2 : world().size() / 2;
  Intercomm both = world().size() == 1 ? Intercomm() : Intercomm::create(local, 0, world(), odd ? 0 : 1, 11);
  // Number of rank r of the other side.
  int other(int r) const { return 2 * r + (odd ? 0 : 1); }
  int me() const { return world().rank(); }
  // The root in the even (or odd) side has rank `root` there.
  Root root(bool in_odd, int rank) const {
    if (odd != in_odd) return {rank};
    return {local.rank() == rank ? root_here : proc_null};
  }
  bool is_root(bool in_odd, int rank) const { return odd == in_odd && local.rank() == rank; }
  int sizes(bool of_odd) const { return of_odd ? world().size() / 2 : (world().size() + 1) / 2; }
};

// What gathering of these gives.
template <class T>
auto together(const std::vector<T>& values) {
  if constexpr (std::is_same_v<T, std::vector<int>>) {
    return Ragged<int>(values);
  } else {
    return values;
  }
}

// Calls test(in_odd, rank, root) for every root.
template <class Test>
void for_each_root(const Sides& s, Test test) {
  for (const bool in_odd : {false, true}) {
    for (int rank = 0; rank < s.sizes(in_odd); ++rank) test(in_odd, rank, s.root(in_odd, rank));
  }
}

template <class T>
void broadcasts(const Sides& s) {
  for_each_root(s, [&](bool in_odd, int rank, Root root) {
    const bool here = s.is_root(in_odd, rank);
    const T mine = here ? value_of<T>(rank + 3) : value_of<T>(40 + s.me());
    const T wanted = here || s.odd != in_odd ? value_of<T>(rank + 3) : mine;
    CHECK((s.both.bcast(mine, root) == wanted));
    CHECK((s.both.ibcast(mine, root).get() == wanted));
    // Nothing at all, from the root.
    if constexpr (Resizable<T>) {
      const T left = here ? T{} : mine;
      CHECK((s.both.ibcast(left, root).get() == (s.odd != in_odd ? T{} : left)));
      CHECK((s.both.bcast(left, root) == (s.odd != in_odd ? T{} : left)));
    }
  });
}

template <class T>
void exchanges(const Sides& s) {
  std::vector<T> theirs;
  for (int r = 0; r < s.other_size; ++r) theirs.push_back(value_of<T>(s.other(r)));
  const T mine = value_of<T>(s.me());
  CHECK((s.both.allgather(mine) == together(theirs)));
  CHECK((s.both.iallgather(mine).get() == together(theirs)));
  for_each_root(s, [&](bool in_odd, int rank, Root root) {
    const bool here = s.is_root(in_odd, rank);
    const auto wanted = together(here ? theirs : std::vector<T>{});
    CHECK((s.both.gather(mine, root) == wanted));
    CHECK((s.both.igather(mine, root).get() == wanted));
    std::vector<T> out;
    if (here) {
      for (int r = 0; r < s.other_size; ++r) out.push_back(value_of<T>(20 + r));
    }
    const T part = s.odd != in_odd ? value_of<T>(20 + s.local.rank()) : T{};
    CHECK((s.both.scatter(out, root) == part));
    CHECK((s.both.iscatter(out, root).get() == part));
  });
  std::vector<T> out;
  for (int r = 0; r < s.other_size; ++r) out.push_back(value_of<T>(s.me() * 8 + r));
  std::vector<T> in;
  for (int r = 0; r < s.other_size; ++r) in.push_back(value_of<T>(s.other(r) * 8 + s.local.rank()));
  CHECK((s.both.alltoall(out) == in));
  CHECK((s.both.ialltoall(out).get() == in));
  if constexpr (std::is_same_v<T, std::vector<int>>) {
    CHECK((s.both.alltoall(Ragged<int>(out)) == Ragged<int>(in)));
    for_each_root(s, [&](bool in_odd, int, Root root) {
      const auto got = s.both.scatter(Ragged<int>(out), root);
      if (s.odd != in_odd) CHECK(got.size() % 100 == 0);
    });
  }
}

// Parts of r + 1 elements for rank r, with a gap of one element between them.
template <class T>
void uneven_exchanges(const Sides& s) {
  const auto others = static_cast<std::size_t>(s.other_size);
  const auto part_of = [](int from, int length) {
    return std::vector<T>(static_cast<std::size_t>(length), value_of<T>(from));
  };
  std::vector<MPI_Count> mine_counts;  // what this rank gets of each: as many as the other's number says
  std::vector<MPI_Count> mine_offsets;
  std::vector<T> wanted;
  for (int r = 0; r < s.other_size; ++r) {
    mine_offsets.push_back(static_cast<MPI_Count>(wanted.size()));
    mine_counts.push_back(r + 1);
    const auto part = part_of(s.other(r), r + 1);
    wanted.insert(wanted.end(), part.begin(), part.end());
    wanted.push_back(value_of<T>(99));
  }
  const Counts parts{mine_counts, mine_offsets};
  const auto mine = part_of(s.me(), s.local.rank() + 1);
  const std::vector<T> untouched(wanted.size(), value_of<T>(99));
  auto in = untouched;
  s.both.allgatherv_into(mine, in, parts);
  CHECK((in == wanted));
  in = untouched;
  s.both.iallgatherv_into(mine, in, parts).get();
  CHECK((in == wanted));
  // To rank r of the others as many elements as it has fellows before it, plus one.
  std::vector<T> out;
  std::vector<MPI_Count> out_counts;
  for (int r = 0; r < s.other_size; ++r) {
    const auto part = part_of(s.me(), s.local.rank() + 1);
    out_counts.push_back(static_cast<MPI_Count>(part.size()));
    out.insert(out.end(), part.begin(), part.end());
  }
  in = untouched;
  s.both.alltoallv_into(out, {out_counts}, in, parts);
  CHECK((in == wanted));
  in = untouched;
  s.both.ialltoallv_into(out, {out_counts}, in, parts).get();
  CHECK((in == wanted));
  std::vector<ConstBuffer> from(others, as_buffer(mine));
  for (const bool nonblocking : {false, true}) {
    in = untouched;
    std::vector<Buffer> to;
    for (std::size_t r = 0; r < others; ++r) {
      std::span<T> place(in.data() + mine_offsets[r], r + 1);
      to.push_back(as_writable(place));
    }
    nonblocking ? s.both.ialltoallw(from, to).get() : s.both.alltoallw(from, to);
    CHECK((in == wanted));
  }
  for_each_root(s, [&](bool in_odd, int rank, Root root) {
    const bool here = s.is_root(in_odd, rank);
    const Counts counts = here ? parts : Counts{};
    for (const bool nonblocking : {false, true}) {
      in = untouched;
      nonblocking ? s.both.igatherv_into(mine, in, counts, root).get()
                  : s.both.gatherv_into(mine, in, counts, root);
      CHECK((in == (here ? wanted : untouched)));
      auto got = part_of(99, s.local.rank() + 1);
      nonblocking ? s.both.iscatterv_into(wanted, counts, got, root).get()
                  : s.both.scatterv_into(wanted, counts, got, root);
      CHECK((got == (s.odd != in_odd ? mine : part_of(99, s.local.rank() + 1))));
    }
  });
}

// Equal parts of `count` elements.
void flat_exchanges(const Sides& s, std::size_t count) {
  const auto others = static_cast<std::size_t>(s.other_size);
  const auto part = [&](int n) { return std::vector<int>(count, n); };
  const auto parts = [&](auto number) {
    std::vector<int> all;
    for (int r = 0; r < s.other_size; ++r) {
      const auto one = part(number(r));
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  };
  const auto theirs = parts([&](int r) { return s.other(r); });
  const auto mine = part(s.me());
  std::vector<int> in(others * count);
  s.both.allgather_into(mine, in);
  CHECK(in == theirs);
  in.assign(in.size(), -1);
  s.both.iallgather_into(mine, in).get();
  CHECK(in == theirs);
  const auto out = parts([&](int r) { return s.me() * 8 + r; });
  const auto wanted = parts([&](int r) { return s.other(r) * 8 + s.local.rank(); });
  s.both.alltoall_into(out, in);
  CHECK(in == wanted);
  in.assign(in.size(), -1);
  s.both.ialltoall_into(out, in).get();
  CHECK(in == wanted);
  for (const bool in_odd : {false, true}) {
    const Root root = s.root(in_odd, 0);
    const bool is_root = s.is_root(in_odd, 0);
    for (const bool nonblocking : {false, true}) {
      in.assign(in.size(), -1);
      nonblocking ? s.both.igather_into(mine, in, root).get() : s.both.gather_into(mine, in, root);
      if (is_root) CHECK(in == theirs);
      std::vector<int> got(count, -1);
      nonblocking ? s.both.iscatter_into(theirs, got, root).get() : s.both.scatter_into(theirs, got, root);
      if (s.odd != in_odd) CHECK(got == mine);
      std::vector<int> told = is_root ? part(7) : part(-1);
      nonblocking ? s.both.ibcast_into(told, root).get() : s.both.bcast_into(told, root);
      if (s.odd != in_odd) CHECK(told == part(7));
    }
    std::vector<int> sums(count, 0);
    int sum = 0;
    for (int r = 0; r < s.other_size; ++r) sum += s.other(r);
    for (const bool nonblocking : {false, true}) {
      sums.assign(count, 0);
      // The root's own is not read.
      const std::vector<int>& given = is_root ? std::vector<int>() : mine;
      nonblocking ? s.both.ireduce_into(given, sums, std::plus<>(), root).get()
                  : s.both.reduce_into(given, sums, std::plus<>(), root);
      CHECK(sums == (is_root ? part(sum) : part(0)));
      nonblocking ? s.both.iallreduce_into(mine, sums, std::plus<>()).get()
                  : s.both.allreduce_into(mine, sums, std::plus<>());
      CHECK(sums == part(sum));
    }
  }
}

TEST_CASE("two groups make an intercommunicator, send to each other, and merge") {
  const Sides s;
  if (world().size() == 1) return;
  CHECK(s.both.is_inter());
  CHECK(s.both.rank() == s.local.rank());
  CHECK(s.both.size() == s.local.size());
  CHECK(s.both.remote_size() == s.other_size);
  CHECK(s.both.remote_group().size() == s.other_size);
  const int pair = s.local.rank();
  if (pair < s.other_size) {
    const auto got =
        s.both.sendrecv<std::string>("from " + std::to_string(s.me()), {.dest = pair}, {.source = pair});
    CHECK(got == "from " + std::to_string(s.other(pair)));
  }
  const Comm merged = s.both.merge(s.odd);
  CHECK(merged.size() == world().size());
  CHECK(merged.rank() == (s.odd ? s.other_size : 0) + s.local.rank());
  const Intercomm twin = s.both.dup();
  CHECK(twin.compare(s.both) == Comparison::congruent);
  CHECK(Intercomm::view(twin.native()).remote_size() == s.other_size);
  Intercomm adopted = Intercomm::adopt(s.both.dup().release());
  adopted.barrier();
  adopted.ibarrier().get();
  adopted.disconnect();
  CHECK_FALSE(adopted);
}

TEST_CASE("collectives cross from one group to the other, with every type and root") {
  const Sides s;
  if (world().size() == 1) return;
  broadcasts<int>(s);
  broadcasts<bool>(s);
  broadcasts<Particle>(s);
  broadcasts<std::vector<int>>(s);
  broadcasts<std::string>(s);
  broadcasts<Dict>(s);
  broadcasts<Particle>(s);
  exchanges<int>(s);
  exchanges<double>(s);
  exchanges<char>(s);
  exchanges<bool>(s);
  exchanges<std::complex<double>>(s);
  exchanges<Particle>(s);
  exchanges<std::array<int, 3>>(s);
  exchanges<std::vector<int>>(s);
  exchanges<std::string>(s);
  exchanges<Dict>(s);
  uneven_exchanges<int>(s);
  uneven_exchanges<Particle>(s);
  for (const std::size_t count : {1U, 7U, 1000U}) flat_exchanges(s, count);
  const MPI_Count limit = std::exchange(detail::large_limit, 5);
  flat_exchanges(s, 13);
  detail::large_limit = limit;
}

TEST_CASE("reductions combine the values of the other group") {
  const Sides s;
  if (world().size() == 1) return;
  int sum = 0;
  int largest = 0;
  for (int r = 0; r < s.other_size; ++r) {
    sum += s.other(r);
    largest = std::max(largest, s.other(r));
  }
  CHECK(s.both.allreduce(s.me(), std::plus<>()) == sum);
  CHECK(s.both.allreduce(1.0 * s.me(), mpi::max) == largest);
  // Ranges element by element, text and objects as a whole in the order of the ranks.
  const std::vector<int> range{s.me(), 1, -s.me()};
  const std::vector<int> sums{sum, s.other_size, -sum};
  CHECK(s.both.allreduce(range, std::plus<>()) == sums);
  CHECK(s.both.iallreduce(range, std::plus<>()).get() == sums);
  CHECK(s.both.allreduce(std::array<int, 2>{s.me(), 1}, std::plus<>()) ==
        std::array<int, 2>{sum, s.other_size});
  std::string joined;
  Dict merged;
  const auto dict_of = [](int n) { return Dict{{std::to_string(n), {1.0 * n}}}; };
  for (int r = 0; r < s.other_size; ++r) {
    joined += value_of<std::string>(s.other(r));
    merged.merge(dict_of(s.other(r)));
  }
  const auto join = [](const Dict& a, const Dict& b) {
    Dict both = a;
    both.insert(b.begin(), b.end());
    return both;
  };
  CHECK(s.both.allreduce(value_of<std::string>(s.me()), std::plus<>()) == joined);
  CHECK(s.both.iallreduce(dict_of(s.me()), join).get() == merged);
  for_each_root(s, [&](bool in_odd, int rank, Root root) {
    const bool here = s.is_root(in_odd, rank);
    CHECK(s.both.reduce(s.me(), std::plus<>(), root) == (here ? sum : 0));
    CHECK(s.both.ireduce(s.me(), std::plus<>(), root).get() == (here ? sum : 0));
    CHECK(s.both.reduce(range, std::plus<>(), root) == (here ? sums : std::vector<int>{}));
    CHECK(s.both.reduce(value_of<std::string>(s.me()), std::plus<>(), root) == (here ? joined : ""));
    CHECK(s.both.ireduce(dict_of(s.me()), join, root).get() == (here ? merged : Dict{}));
  });
  // An operation of one's own, on a struct.
  const auto heavier = [](const Particle& a, const Particle& b) { return a.id > b.id ? a : b; };
  CHECK(s.both.allreduce(value_of<Particle>(s.me()), heavier) == value_of<Particle>(largest));
}

TEST_CASE("the other group's sum is scattered in parts, near-equal or of given lengths") {
  const Sides s;
  if (world().size() == 1) return;
  // Element i of the sum of the others; 24 can be cut evenly into up to four parts.
  constexpr int length = 24;
  const auto sum_at = [&](int i) {
    int sum = 0;
    for (int r = 0; r < s.other_size; ++r) sum += s.other(r) * 100 + i;
    return sum;
  };
  std::vector<int> range(length);
  for (int i = 0; i < length; ++i) range[static_cast<std::size_t>(i)] = s.me() * 100 + i;
  const auto sums = [&](int from, int count) {
    std::vector<int> all;
    for (int i = from; i < from + count; ++i) all.push_back(sum_at(i));
    return all;
  };
  const int ranks = s.local.size();
  const int me = s.local.rank();
  const int each = length / ranks;
  CHECK(s.both.reduce_scatter(range, std::plus<>()) == sums(me * each, each));
  std::vector<int> mine(static_cast<std::size_t>(each));
  s.both.reduce_scatter_into(range, mine, std::plus<>());
  CHECK(mine == sums(me * each, each));
  mine.assign(mine.size(), 0);
  s.both.ireduce_scatter_into(range, mine, std::plus<>()).get();
  CHECK(mine == sums(me * each, each));
  // All but one element per rank go to rank 0.
  std::vector<MPI_Count> counts(static_cast<std::size_t>(ranks), 1);
  counts[0] = length - ranks + 1;
  const auto wanted = me == 0 ? sums(0, length - ranks + 1) : sums(length - ranks + me, 1);
  CHECK(s.both.reduce_scatter(range, counts, std::plus<>()) == wanted);
  mine.assign(wanted.size(), 0);
  s.both.ireduce_scatter_into(range, mine, counts, std::plus<>()).get();
  CHECK(mine == wanted);
}

TEST_CASE("a range is cut into near-equal parts for the other group") {
  const Sides s;
  if (world().size() == 1) return;
  std::vector<int> all(11);
  std::iota(all.begin(), all.end(), 0);
  for_each_root(s, [&](bool in_odd, int rank, Root root) {
    const auto part = s.both.scatter_range(s.is_root(in_odd, rank) ? all : std::vector<int>{}, root);
    const auto lengths = s.odd != in_odd ? s.local.gather(static_cast<int>(part.size())) : std::vector<int>{};
    if (s.odd == in_odd) CHECK(part.empty());
    if (!lengths.empty()) {
      CHECK(std::accumulate(lengths.begin(), lengths.end(), 0) == 11);
      CHECK(lengths.front() - lengths.back() <= 1);
      CHECK(part.front() == 0);
    }
    if (s.odd != in_odd && s.local.rank() == s.local.size() - 1) CHECK(part.back() == 10);
  });
}

TEST_CASE("nonblocking collectives between groups are under way together") {
  const Sides s;
  if (world().size() == 1) return;
  const auto others = static_cast<std::size_t>(s.other_size);
  const int me = s.me();
  std::vector<Request<void>> requests;
  std::vector<std::vector<int>> got;
  std::vector<std::vector<int>> told;
  got.reserve(8);
  told.reserve(8);
  std::vector<std::vector<int>> wanted;
  for_each_root(s, [&](bool in_odd, int rank, Root root) {
    const bool here = s.is_root(in_odd, rank);
    got.emplace_back(others, -1);
    wanted.emplace_back(others, -1);
    for (std::size_t r = 0; here && r < others; ++r) wanted.back()[r] = s.other(static_cast<int>(r));
    told.emplace_back(3000, here ? rank + 5 : -1);
    requests.push_back(s.both.igather_into(me, got.back(), root));
    requests.push_back(s.both.ibcast_into(told.back(), root));
  });
  while (!requests.empty()) {  // in the other order than they were started
    requests.back().get();
    requests.pop_back();
  }
  CHECK(got == wanted);
  std::size_t i = 0;
  for_each_root(s, [&](bool in_odd, int rank, Root) {
    const bool knows = s.odd != in_odd || s.is_root(in_odd, rank);
    CHECK(told[i++] == std::vector<int>(3000, knows ? rank + 5 : -1));
  });
}

TEST_CASE("groups make an intercommunicator where the MPI can") {
  if (world().size() == 1) return;
  const bool odd = world().rank() % 2 == 1;
  std::vector<int> ranks[2];
  for (int r = 0; r < world().size(); ++r) ranks[r % 2].push_back(r);
  const Group local = world().group().include(ranks[odd ? 1 : 0]);
  const Group remote = world().group().include(ranks[odd ? 0 : 1]);
  if (!features().sessions) {
    CHECK_THROWS_AS(static_cast<void>(Intercomm::create_from_groups(local, 0, remote, 0, "manyhands.test/i")),
                    Unsupported);
    return;
  }
  const Intercomm both = Intercomm::create_from_groups(local, 0, remote, 0, "manyhands.test/i");
  CHECK(both.size() == local.size());
  CHECK(both.remote_size() == remote.size());
  CHECK(both.allgather(world().rank()) == ranks[odd ? 0 : 1]);
  CHECK_THROWS_AS(static_cast<void>(Intercomm::create_from_groups(local, 99, remote, 0, "x")), Error);
}

TEST_CASE("errors between groups name what is wrong") {
  const auto code_of = [](auto call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return Errc::other;
  };
  CHECK(code_of([] { static_cast<void>(Intercomm::view(MPI_COMM_WORLD)); }) == Errc::comm);
  CHECK(code_of([] { static_cast<void>(Intercomm::adopt(MPI_COMM_NULL)); }) == Errc::comm);
  CHECK(code_of([] { Intercomm().barrier(); }) == Errc::comm);
  CHECK(code_of([] { static_cast<void>(Intercomm::create(world(), 1000, world(), 0)); }) == Errc::rank);
  const Sides s;
  if (world().size() == 1) return;
  CHECK(code_of([&] { static_cast<void>(s.both.bcast(1, {1000})); }) == Errc::root);
  CHECK(code_of([&] { s.both.send(1, {.dest = 1000}); }) == Errc::rank);
  std::vector<int> odd_size(static_cast<std::size_t>(s.other_size) * 2 + 1);
  if (s.other_size > 1)
    CHECK(code_of([&] { s.both.allgather_into(std::vector<int>(2), odd_size); }) == Errc::count);
  CHECK(code_of([&] { static_cast<void>(Comm::view(s.both.native())); }) == Errc::comm);
  const std::vector<std::string> too_many(static_cast<std::size_t>(s.other_size) + 1);
  CHECK(code_of([&] { static_cast<void>(s.both.alltoall(too_many)); }) == Errc::count);
  CHECK(code_of([&] { static_cast<void>(s.both.alltoall(std::vector<int>(too_many.size()))); }) ==
        Errc::count);
  CHECK(code_of([&] { static_cast<void>(s.both.scatter(too_many, {root_here})); }) == Errc::count);
  CHECK(code_of([&] { static_cast<void>(s.both.iscatter(too_many, {-77})); }) == Errc::root);
  CHECK(code_of([&] { static_cast<void>(s.both.igather(1, {1000})); }) == Errc::root);
  CHECK(code_of([&] { static_cast<void>(s.both.reduce(1, std::plus<>(), {1000})); }) == Errc::root);
  std::vector<int> in(1);
  const std::vector<MPI_Count> counts(too_many.size(), 0);
  CHECK(code_of([&] { s.both.allgatherv_into(in, in, {counts}); }) == Errc::count);
  CHECK(code_of([&] { s.both.gatherv_into(in, in, {counts}, {root_here}); }) == Errc::count);
  CHECK(code_of([&] { s.both.alltoallv_into(in, {counts}, in, {counts}); }) == Errc::count);
  const std::vector<MPI_Count> wrong_sum(static_cast<std::size_t>(s.both.size()), 5);
  CHECK(code_of([&] { static_cast<void>(s.both.reduce_scatter(in, wrong_sum, std::plus<>())); }) ==
        Errc::count);
  CHECK(code_of([&] { s.both.iallreduce_into(in, odd_size, std::plus<>()).get(); }) == Errc::count);
}

}  // namespace
}  // namespace manyhands::mpi
