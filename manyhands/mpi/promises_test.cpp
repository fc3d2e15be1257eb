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

TEST_CASE("messages, locks and epochs are assigned") {
  const auto& comm = world();
  const int rank = comm.rank();
  auto first = comm.isend(std::vector<int>{1}, {.dest = rank, .tag = 1});
  auto second = comm.isend(std::vector<int>{2}, {.dest = rank, .tag = 2});
  Message message = comm.mprobe({.source = rank, .tag = 1});
  CHECK(message.recv<int>() == 1);
  message = comm.mprobe({.source = rank, .tag = 2});
  CHECK(message.recv<int>() == 2);
  first.get();
  second.get();

  const Window<int> window(comm, 1);
  auto lock = window.lock(rank);
  window.put(rank, 0, 5);
  lock.unlock();
  lock = window.lock(rank);
  CHECK(window.get(rank, 0) == 5);
  lock.unlock();
}

TEST_CASE("no_op reads what is there, and accumulate alone refuses it") {
  const Window<int> window(world(), 1);
  const int rank = world().rank();
  window.store(rank, 0, 7);
  CHECK(window.fetch_op(rank, 0, 0, no_op) == 7);
  CHECK_THROWS_AS(window.accumulate(rank, 0, 1, no_op), Error);
}

TEST_CASE("data is put to and got from places of any form") {
  const auto& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const Window<double> matrix(comm, 12);  // 3 rows of 4
  {
    const auto column = Datatype::vector<double>(3, 1, 4);
    const std::vector<double> values{1.0 + comm.rank(), 2, 3};
    comm.barrier();
    matrix.put(next, 2, values, column);
    comm.barrier();
    const int before = (comm.rank() + comm.size() - 1) % comm.size();
    CHECK(matrix.local()[2] == 1.0 + before);
    CHECK(matrix.local()[6] == 2);
    CHECK(matrix.local()[10] == 3);
    CHECK(matrix.local()[3] == 0);
    std::vector<double> back(3);
    matrix.get_into(next, 2, back, column);
    CHECK(back == values);
    std::array<double, 9> spread{};
    matrix.get_into(next, 2, buffer(spread.data(), 1, Datatype::vector<double>(3, 1, 3)), column);
    CHECK(spread[3] == 2);
    CHECK_THROWS_AS(matrix.put(next, 4, values, column), Error);
    CHECK_THROWS_AS(matrix.put(next, -1, values, column), Error);
  }
  comm.barrier();
}

TEST_CASE("one step of a reduction is done here") {
  std::vector<int> sums{10, 20};
  reduce_local(std::vector<int>{1, 2}, sums, std::plus<>());
  CHECK(sums == std::vector<int>{11, 22});
  reduce_local(std::vector<int>{100, 1}, sums, NativeOp::view(MPI_MAX));
  CHECK(sums == std::vector<int>{100, 22});
  CHECK_THROWS_AS(reduce_local(std::vector<int>{1}, sums, std::plus<>()), Error);
  double x = 2;
  reduce_local(3.0, x, std::multiplies<>());
  CHECK(x == 6);
}

TEST_CASE("requests of several types wait in one container") {
  const auto& comm = world();
  const int rank = comm.rank();
  std::vector<AnyRequest> all;
  all.emplace_back(comm.irecv<std::string>({.source = rank, .tag = 1}));
  all.emplace_back(comm.isend(std::string("text"), {.dest = rank, .tag = 1}));
  all.emplace_back(comm.irecv<std::vector<int>>({.source = rank, .tag = 2}));
  all.emplace_back(comm.isend(std::vector<int>{1, 2}, {.dest = rank, .tag = 2}));
  all.emplace_back(comm.ibarrier());
  all.emplace_back();
  std::vector<Status> statuses;
  wait_all(all, statuses);
  REQUIRE(statuses.size() == 6);
  CHECK(statuses[2].source == rank);
  CHECK(statuses[2].tag == 2);
  CHECK(statuses[2].bytes == 2 * static_cast<MPI_Count>(sizeof(int)));
  CHECK(all[0].holds<std::string>());
  CHECK_THROWS_AS(all[0].get<int>(), Error);
  CHECK(all[0].get<std::string>() == "text");
  CHECK(all[2].get<std::vector<int>>() == std::vector<int>{1, 2});
  CHECK_FALSE(all[2].valid());
  CHECK(all[4].holds<void>());
  all[4].get<void>();
  CHECK_FALSE(all[5].holds<void>());
}

TEST_CASE("wait_all tells what came with each request") {
  const auto& comm = world();
  const int rank = comm.rank();
  std::array<int, 2> in{};
  std::vector<Request<void>> all;
  all.push_back(comm.irecv_into(std::span(in).first(1), {.tag = 5}));
  all.push_back(comm.irecv_into(std::span(in).last(1), {.source = rank, .tag = 6}));
  comm.send(1, {.dest = rank, .tag = 5});
  all[1].cancel();
  std::vector<Status> statuses;
  wait_all(all, statuses);
  REQUIRE(statuses.size() == 2);
  CHECK(statuses[0].tag == 5);
  CHECK(statuses[0].count<int>() == 1);
  CHECK(statuses[1].cancelled);
}

TEST_CASE("persistent requests are waited for together, found one by one, and cancelled") {
  const auto& comm = world();
  const int rank = comm.rank();
  std::array<int, 3> out{1, 2, 3};
  std::array<int, 3> in{};
  std::vector<Persistent> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(
        comm.recv_init(std::span(in).subspan(static_cast<std::size_t>(i), 1), {.source = rank, .tag = i}));
    all.push_back(
        comm.send_init(std::span(out).subspan(static_cast<std::size_t>(i), 1), {.dest = rank, .tag = i}));
  }
  CHECK(wait_any(all) == std::nullopt);  // none was started
  for (int round = 0; round < 3; ++round) {
    out[2] = round;
    start_all(all);
    std::vector<Status> statuses;
    wait_all(all, statuses);
    CHECK(in[2] == round);
    CHECK(statuses[4].tag == 2);
    CHECK_FALSE(all[4].started());
  }
  start_all(all);
  std::size_t found = 0;
  while (wait_any(all)) ++found;
  CHECK(found == all.size());
  start_all(all);
  found = 0;
  for (auto some = wait_some(all); !some.empty(); some = wait_some(all)) found += some.size();
  CHECK(found == all.size());

  all[0].start();
  all[0].cancel();
  CHECK(all[0].wait().cancelled);
}

TEST_CASE("ranks are split by the hardware that they share") {
  const auto node = world().split_hardware(Hardware::node);
  CHECK(node.size() == world().split_node().size());
  for (const Hardware level : {Hardware::package, Hardware::numa, Hardware::l3_cache, Hardware::core}) {
    try {
      const Comm part = world().split_hardware(level);
      if (part) CHECK(part.size() <= node.size());
    } catch (const Unsupported&) {
    }
  }
}

TEST_CASE("an intercommunicator is split by colors of both groups, and reduces ranges of text") {
  if (world().size() < 2) return;
  const int rank = world().rank();
  const bool low = rank % 2 == 0;
  const Comm mine = world().split(low ? 0 : 1);
  const auto both = Intercomm::create(mine, 0, world(), low ? 1 : 0);
  const int color = mine.rank() == 0 ? 0 : undefined;
  const auto leaders = both.split(color);
  CHECK(static_cast<bool>(leaders) == (mine.rank() == 0));
  if (leaders) {
    CHECK(leaders.size() == 1);
    CHECK(leaders.remote_size() == 1);
    const auto other = leaders.sendrecv<int>(rank, {.dest = 0}, {.source = 0});
    CHECK(other == (low ? 1 : 0));
  }
  const std::vector<std::string> words{std::to_string(rank)};
  std::string others;
  for (int r = low ? 1 : 0; r < world().size(); r += 2) others += std::to_string(r);
  CHECK(both.allreduce(words, std::plus<>()) == std::vector<std::string>{others});  // element by element
  const auto apart = both.split(low ? 1 : 2);                                       // no color in common
  CHECK_FALSE(static_cast<bool>(apart));
}

int initialised = 0;

TEST_CASE(
    "a pool's initializer runs once on each rank before its tasks, and its failure is an error on all") {
  initialised = 0;
  {
    Pool pool(world(), {.initializer = [] { ++initialised; }});
    if (pool) {
      const auto seen = pool.map([](int) { return initialised; }, std::vector<int>(50));
      CHECK(seen == std::vector<int>(50, 1));
    }
  }
  CHECK(initialised == 1);
  const int last = world().size() - 1;
  const auto fails = [last] {
    if (world().rank() == last) throw std::runtime_error("no such table");
  };
  bool told = false;
  try {
    const Pool pool(world(), {.initializer = fails});
  } catch (const manyhands::Error& error) {
    told = std::string(error.what()).find("no such table") != std::string::npos;
  }
  CHECK(told);
}

}  // namespace
}  // namespace manyhands::mpi
