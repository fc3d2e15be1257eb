#include "manyhands/mpi/intercomm.hpp"

#include <doctest/doctest.h>

#include <array>
#include <complex>
#include <map>
#include <numeric>
#include <string>

#include "manyhands/mpi/large.hpp"

namespace manyhands::mpi {
namespace {

struct Particle {
  double x, y;
  int id;
  friend bool operator==(const Particle&, const Particle&) = default;
};
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

template <class T>
void broadcasts(const Sides& s) {
  for (const bool in_odd : {false, true}) {
    for (int rank = 0; rank < s.sizes(in_odd); ++rank) {
      const bool root = s.is_root(in_odd, rank);
      const T came = s.both.bcast(root ? value_of<T>(rank + 3) : T{}, s.root(in_odd, rank));
      if (root || s.odd != in_odd) {
        CHECK((came == value_of<T>(rank + 3)));
      } else {
        CHECK((came == T{}));
      }
    }
  }
}

template <class T>
void exchanges(const Sides& s) {
  std::vector<T> theirs;
  for (int r = 0; r < s.other_size; ++r) theirs.push_back(value_of<T>(s.other(r)));
  const T mine = value_of<T>(s.me());
  CHECK((s.both.allgather(mine) == theirs));
  for (const bool in_odd : {false, true}) {
    const int rank = s.sizes(in_odd) - 1;
    const bool root = s.is_root(in_odd, rank);
    CHECK((s.both.gather(mine, s.root(in_odd, rank)) == (root ? theirs : std::vector<T>{})));
    if constexpr (!std::is_same_v<T, bool>) {
      std::vector<T> out;
      if (root) {
        for (int r = 0; r < s.other_size; ++r) out.push_back(value_of<T>(100 + r));
      }
      const T came = s.both.scatter(out, s.root(in_odd, rank));
      CHECK((came == (s.odd != in_odd ? value_of<T>(100 + s.local.rank()) : T{})));
    }
  }
  if constexpr (!std::is_same_v<T, bool>) {
    std::vector<T> out;
    for (int r = 0; r < s.other_size; ++r) out.push_back(value_of<T>(s.me() * 8 + r));
    std::vector<T> in;
    for (int r = 0; r < s.other_size; ++r) in.push_back(value_of<T>(s.other(r) * 8 + s.local.rank()));
    CHECK((s.both.alltoall(out) == in));
  }
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
    s.both.reduce_into(mine, sums, std::plus<>(), root);
    int sum = 0;
    for (int r = 0; r < s.other_size; ++r) sum += s.other(r);
    if (is_root) CHECK(sums == part(sum));
    s.both.allreduce_into(mine, sums, std::plus<>());
    CHECK(sums == part(sum));
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
  exchanges<int>(s);
  exchanges<double>(s);
  exchanges<char>(s);
  exchanges<bool>(s);
  exchanges<std::complex<double>>(s);
  exchanges<Particle>(s);
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
  for (const bool in_odd : {false, true}) {
    const int got = s.both.reduce(s.me(), std::plus<>(), s.root(in_odd, 0));
    CHECK(got == (s.is_root(in_odd, 0) ? sum : 0));
  }
  // An operation of one's own, on a struct.
  const auto heavier = [](const Particle& a, const Particle& b) { return a.id > b.id ? a : b; };
  CHECK(s.both.allreduce(value_of<Particle>(s.me()), heavier) == value_of<Particle>(largest));
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
}

}  // namespace
}  // namespace manyhands::mpi
