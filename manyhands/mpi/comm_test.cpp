#include "manyhands/mpi/comm.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "manyhands/mpi/environment.hpp"

namespace manyhands::mpi {
namespace {

TEST_CASE("communicators are split, included, compared and named") {
  const Comm& comm = world();
  const int n = comm.size();
  const int me = comm.rank();
  const Comm copy = comm.dup();
  CHECK(copy.compare(comm) == Comparison::congruent);
  CHECK(comm.compare(world()) == Comparison::identical);
  const Comm reversed = comm.split(0, {.key = -me});
  CHECK(reversed.rank() == n - 1 - me);
  CHECK(reversed.compare(comm) == (n == 1 ? Comparison::congruent : Comparison::similar));
  const Comm half = comm.split(me % 2);
  CHECK(half.size() == (n + 1 - me % 2) / 2);
  const Comm some = comm.split(me == 0 ? 0 : undefined);
  CHECK(static_cast<bool>(some) == (me == 0));
  if (me != 0) CHECK_THROWS_AS(some.barrier(), Error);
  CHECK_THROWS_AS(static_cast<void>(comm.split(-3)), Error);
  const Comm node = comm.split_node();
  CHECK(node.size() == n);  // all on one machine
  const Comm first = comm.include({0});
  CHECK(static_cast<bool>(first) == (me == 0));
  if (me == 0) CHECK(comm.create_group(comm.group().include({0})).size() == 1);
  Comm named = comm.dup();
  named.set_name("the copy");
  CHECK(named.name() == "the copy");
  CHECK(comm.name() == "MPI_COMM_WORLD");
  CHECK(self().size() == 1);
  named.free();
  CHECK_FALSE(static_cast<bool>(named));
}

TEST_CASE("raw handles come in and go out") {
  MPI_Comm raw = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &raw);
  {
    const Comm viewed = Comm::view(raw);
    CHECK(viewed.native() == raw);
    CHECK(viewed.allreduce(1, std::plus<>()) == viewed.size());
  }
  Comm adopted = Comm::adopt(raw);
  CHECK(adopted.size() == world().size());
  raw = adopted.release();
  CHECK_FALSE(static_cast<bool>(adopted));
  const Comm dup = Comm::dup(raw);
  CHECK(dup.native() != raw);
  MPI_Comm_free(&raw);
  CHECK_THROWS_AS(static_cast<void>(Comm::adopt(MPI_COMM_NULL)), Error);
  Comm moved = dup.dup();
  const Comm target = std::move(moved);
  CHECK_THROWS_AS(moved.barrier(), Error);
  target.barrier();
}

TEST_CASE("attributes travel with dup and are deleted with the communicator") {
  static int alive = 0;
  struct Counted {
    explicit Counted(int v) : value(v) { ++alive; }
    Counted(const Counted& other) : value(other.value) { ++alive; }
    ~Counted() { --alive; }
    int value;
  };
  const AttributeKey<Counted> key;
  {
    const Comm comm = world().dup();
    CHECK(key.get(comm) == nullptr);
    key.set(comm, Counted(7));
    CHECK(key.get(comm)->value == 7);
    {
      const Comm copy = comm.dup();
      CHECK(key.get(copy)->value == 7);
      CHECK(alive == 2);
    }
    CHECK(alive == 1);
    key.set(comm, Counted(8));
    CHECK(alive == 1);
    key.erase(comm);
    CHECK(alive == 0);
  }
}

TEST_CASE("groups are sets with an order") {
  const Group all = world().group();
  const int n = all.size();
  CHECK(all.rank() == world().rank());
  const Group first = all.include({0});
  const Group rest = all.exclude({0});
  CHECK(first.size() == 1);
  CHECK(rest.size() == n - 1);
  CHECK(first.union_with(rest) == all);
  CHECK(first.intersection(rest).empty());
  CHECK(all.difference(rest) == first);
  const RankRange down{.first = n - 1, .last = 0, .stride = -1};
  const Group reversed = all.include_ranges(std::span(&down, 1));
  CHECK(reversed.compare(all) == (n == 1 ? Comparison::identical : Comparison::similar));
  const std::vector<int> zero{0};
  CHECK(reversed.translate(zero, all) == std::vector<int>{n - 1});
  if (n > 1) CHECK(rest.translate(zero, first) == std::vector<int>{undefined});
  CHECK_THROWS_AS(static_cast<void>(all.include({1000})), Error);
  CHECK(Group().empty());
}

TEST_CASE("hints are texts under keys") {
  Info info{{"a", "1"}, {"b", "two"}};
  CHECK(info.get("a") == "1");
  CHECK_FALSE(info.get("c"));
  CHECK(info.all().size() == 2);
  const Info copy = info.dup();
  info.erase("a");
  CHECK_FALSE(info.get("a"));
  CHECK(copy.get("a") == "1");
  CHECK_THROWS_AS(info.erase("a"), Error);
  CHECK(Info().all().empty());
  static_cast<void>(Info::of_job());
  Comm comm = world().dup();
  comm.set_info(copy);
  static_cast<void>(comm.info());
}

TEST_CASE("the environment tells what this MPI is and can do") {
  const Features& found = features();
  CHECK(found.version >= 3);
  CHECK_FALSE(found.library.empty());
  CHECK(found.max_tag >= 32767);
  CHECK_FALSE(node_name().empty());
  CHECK(wtick() > 0);
  const double before = wtime();  // since any time, perhaps the start
  CHECK(wtime() >= before);
  const Environment second;  // MPI runs already: it is used, and not finalized
  CHECK(second.thread_level() == ThreadLevel::multiple);
}

TEST_CASE("threads use a communicator of their own each") {
  const Comm one = world().dup();
  const Comm two = world().dup();
  const auto work = [](const Comm& comm, long& sum) {
    for (int i = 0; i < 50; ++i) sum += comm.allreduce(i, std::plus<>());
  };
  long first = 0;
  long second = 0;
  {
    std::jthread thread([&] { work(one, first); });
    work(two, second);
  }
  CHECK(first == 1225L * world().size());
  CHECK(second == first);
}

TEST_CASE("an empty communicator is an error by name, in every question") {
  const Comm none;
  const auto throws = [](auto ask) {
    CHECK_THROWS_WITH_AS(ask(), doctest::Contains("communicator is empty"), Error);
  };
  throws([&] { static_cast<void>(none.rank()); });
  throws([&] { static_cast<void>(none.size()); });
  throws([&] { static_cast<void>(none.is_inter()); });
  throws([&] { static_cast<void>(none.name()); });
  throws([&] { static_cast<void>(none.group()); });
  throws([&] { static_cast<void>(none.irecv<std::string>()); });
  throws([&] { static_cast<void>(none.probe()); });
  throws([&] { static_cast<void>(none.bcast(1)); });
  throws([&] { static_cast<void>(none.split(0)); });
  const AttributeKey<int> key;
  throws([&] { static_cast<void>(key.get(none)); });
  throws([&] { key.set(none, 1); });
  throws([&] { key.erase(none); });
}

TEST_CASE("a rank that a group does not have is an error of class rank") {
  const Group all = world().group();
  const int n = all.size();
  const auto code_of = [](auto call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return Errc::other;
  };
  CHECK(all.translate(std::array{0, n - 1, proc_null}, all) == std::vector{0, n - 1, proc_null});
  for (const int bad : {-7, n, 1 << 30}) {
    CHECK(code_of([&] { static_cast<void>(all.translate(std::array{0, bad}, all)); }) == Errc::rank);
    CHECK(code_of([&] { static_cast<void>(all.include({bad})); }) == Errc::rank);
    CHECK(code_of([&] { static_cast<void>(all.exclude({bad})); }) == Errc::rank);
    const RankRange range{0, bad, bad < 0 ? -1 : 1};
    CHECK(code_of([&] { static_cast<void>(all.include_ranges(std::span(&range, 1))); }) == Errc::rank);
  }
  const RankRange still{0, 0, 0};
  CHECK(code_of([&] { static_cast<void>(all.exclude_ranges(std::span(&still, 1))); }) == Errc::arg);
  const Group null = Group::view(MPI_GROUP_NULL);
  CHECK(code_of([&] { static_cast<void>(null.size()); }) == Errc::group);
  CHECK(code_of([&] { static_cast<void>(all.union_with(null)); }) == Errc::group);
}

TEST_CASE("a hint without a name is no hint, one without a value has none") {
  Info info;
  CHECK_THROWS_AS(info.set("", "value"), Error);
  CHECK_FALSE(info.get("").has_value());
  CHECK_THROWS_AS(info.erase(""), Error);
  CHECK_THROWS_AS(info.erase("nothing"), Error);
  info.set("empty", "");
  info.set("full", "value");
  CHECK(info.get("empty") == "");
  CHECK(info.get("full") == "value");
  CHECK(info.all().size() == 2);
  CHECK(info.dup().get("empty") == "");
  info.erase("empty");
  CHECK_FALSE(info.get("empty").has_value());
}

TEST_CASE("what a call returns can be looped over at once") {
  const Comm& comm = world();
  const std::vector<int> mine(static_cast<std::size_t>(comm.rank()) + 1, comm.rank());
  int sum = 0;
  for (const int x : comm.allgather(mine).values()) sum += x;
  int wanted = 0;
  for (int rank = 0; rank < comm.size(); ++rank) wanted += rank * (rank + 1);
  CHECK(sum == wanted);
  sum = 0;
  for (const int x : comm.allgather(mine)[static_cast<std::size_t>(comm.rank())]) sum += x;
  CHECK(sum == comm.rank() * (comm.rank() + 1));
  static_assert(std::is_same_v<decltype(comm.allgather(mine).values()), std::vector<int>>);
}

}  // namespace
}  // namespace manyhands::mpi
