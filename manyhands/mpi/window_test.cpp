#include "manyhands/mpi/window.hpp"

#include <doctest/doctest.h>

#include <array>
#include <complex>
#include <cstdio>
#include <numeric>
#include <optional>
#include <stdexcept>

#include "manyhands/mpi/large.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::code_of;
using test::Particle;
using test::value_of;

template <class T>
std::vector<T> values(int n, std::size_t count) {
  std::vector<T> all(count);
  for (std::size_t i = 0; i < count; ++i) all[i] = value_of<T>((n * 7 + static_cast<int>(i)) % 100);
  return all;
}

int next_of(const Comm& comm) { return (comm.rank() + 1) % comm.size(); }
int last_of(const Comm& comm) { return (comm.rank() + comm.size() - 1) % comm.size(); }
void barrier(const Comm& comm) { MPI_Barrier(comm.native()); }

// Each rank writes into the next one's memory and reads it back, in every mode of synchronisation.
template <class T>
void goes_round(const Comm& comm, std::size_t count) {
  const int next = next_of(comm);
  const int last = last_of(comm);
  const Window<T> w(comm, count + 2);
  CHECK(w.local().size() == count + 2);
  CHECK(w.size_of(next) == count + 2);
  for (const T& element : w.local()) CHECK((element == T{}));
  const auto expect = [&](int n) {
    const auto wanted = values<T>(n, count);
    CHECK(std::ranges::equal(w.local().subspan(1, count), wanted));
    CHECK((w.local()[0] == T{}));
    CHECK((w.local()[count + 1] == T{}));
  };

  int round = 0;
  std::vector<T> data = values<T>(comm.rank() + round, count);
  w.fence({.no_precede = true});
  w.put(next, 1, data);
  w.fence();
  expect(last + round);
  std::vector<T> back(count);
  w.get_into(next, 1, back);
  w.fence({.no_store = true, .no_put = true, .no_succeed = true});
  CHECK((back == data));
  barrier(comm);

  data = values<T>(comm.rank() + ++round, count);
  {
    auto epoch = w.lock(next);
    w.put(next, 1, data);
    w.flush(next);
    CHECK((w.get(next, 1, count) == data));
    epoch.unlock();
  }
  barrier(comm);
  expect(last + round);
  barrier(comm);

  data = values<T>(comm.rank() + ++round, count);
  {
    const auto epoch = w.lock_all();
    w.put(next, 1, data);
    w.flush_local_all();
    w.flush_all();
    w.sync();
    CHECK((w.rget(next, 1, count).get() == data));
    w.rput(next, 1, data).get();
    w.rget_into(next, 1, back).get();
    w.flush_local(next);
  }
  CHECK((back == data));
  barrier(comm);
  expect(last + round);
  barrier(comm);

  data = values<T>(comm.rank() + ++round, count);
  const Group everybody = comm.group();
  {
    auto exposure = w.post(everybody.include({last}));
    auto access = w.start(everybody.include({next}));
    w.put(next, 1, data);
    access.complete();
    if (round % 2 == 0) {
      exposure.wait();
    } else {
      while (!exposure.test()) {
      }
    }
  }
  expect(last + round);
  barrier(comm);

  // Outside of an epoch: done on return.
  data = values<T>(comm.rank() + ++round, count);
  w.put(next, 1, data);
  CHECK((w.get(next, 1, count) == data));
  w.put(next, 0, value_of<T>(7));
  CHECK((w.get(next, 0) == value_of<T>(7)));
  barrier(comm);
  CHECK((w.local()[0] == value_of<T>(7)));
  barrier(comm);
}

TEST_CASE("values and ranges are put and got in every mode of synchronisation") {
  for (const std::size_t count : {0U, 1U, 7U, 1000U}) goes_round<int>(world(), count);
  goes_round<double>(world(), 7);
  goes_round<char>(world(), 7);
  goes_round<std::complex<double>>(world(), 7);
  goes_round<Particle>(world(), 7);
  goes_round<std::array<int, 3>>(world(), 7);
  goes_round<long>(world().split(0, {.key = -world().rank()}), 7);
  goes_round<double>(world().split(world().rank() % 2), 7);
}

TEST_CASE("counts above MPI's limit work in windows") {
  const MPI_Count limit = std::exchange(detail::large_limit, 5);
  goes_round<int>(world(), 13);
  detail::large_limit = limit;
}

TEST_CASE("tickets are drawn once each, with nothing to lock") {
  const Comm& comm = world();
  const Window<long> counter(comm, comm.rank() == 0 ? 2 : 0);
  constexpr int each = 20;
  long sum = 0;
  for (int i = 0; i < each; ++i) sum += counter.fetch_add(0, 0, 1);
  counter.accumulate(0, 1, sum, std::plus<>());
  barrier(comm);
  const long n = each * comm.size();
  CHECK(counter.load(0, 0) == n);
  CHECK(counter.load(0, 1) == n * (n - 1) / 2);
  barrier(comm);
}

template <class T>
void combines(T start, T operand, auto op, T wanted) {
  const Comm& comm = world();
  const Window<T> w(comm, 3);
  const int next = next_of(comm);
  const auto reset = [&] {
    w.store(next, 1, start);
    barrier(comm);
  };
  reset();
  if constexpr (std::is_same_v<decltype(op), NoOp>) {
    CHECK(code_of([&] { w.accumulate(next, 1, operand, op); }) == Errc::op);  // it would do nothing
  } else {
    w.accumulate(next, 1, operand, op);
    CHECK((w.load(next, 1) == wanted));
  }
  reset();
  CHECK((w.fetch_op(next, 1, operand, op) == start));
  CHECK((w.load(next, 1) == wanted));
  reset();
  const T data[] = {operand};
  T old[] = {T{}};
  w.get_accumulate_into(next, 1, data, old, op);
  CHECK((old[0] == start));
  CHECK((w.load(next, 1) == wanted));
  reset();
  {
    const auto epoch = w.lock_all();
    if constexpr (!std::is_same_v<decltype(op), NoOp>) w.raccumulate(next, 1, data, op).get();
    w.flush(next);
    w.rget_accumulate_into(next, 1, data, old, no_op).get();
  }
  CHECK((old[0] == wanted));
  reset();
  w.fence();
  T before{};
  w.fetch_op_into(next, 1, data[0], before, op);
  w.fence({.no_succeed = true});
  CHECK((before == start));
  CHECK((w.load(next, 1) == wanted));
  barrier(comm);
}

TEST_CASE("MPI's operations combine with what is there") {
  combines<int>(5, 3, std::plus<>(), 8);
  combines<double>(5, 3, std::multiplies<>(), 15);
  combines<long>(5, 3, mpi::min, 3);
  combines<long>(5, 3, mpi::max, 5);
  combines<unsigned>(5, 3, std::bit_and<>(), 1);
  combines<unsigned>(5, 3, std::bit_or<>(), 7);
  combines<unsigned>(5, 3, std::bit_xor<>(), 6);
  combines<int>(5, 0, std::logical_and<>(), 0);
  combines<int>(0, 3, std::logical_or<>(), 1);
  combines<char>(5, 3, std::plus<>(), 8);
  combines<float>(5, 3, mpi::replace, 3);
  combines<int>(5, 3, mpi::no_op, 5);
}

TEST_CASE("accumulate adds ranges of all ranks up, element by element") {
  const Comm& comm = world();
  const Window<std::array<double, 2>> w(comm, 100);
  std::vector<std::array<double, 2>> ones(100, {1, 2});
  w.fence();
  for (int rank = 0; rank < comm.size(); ++rank) w.accumulate(rank, 0, ones, std::plus<>());
  w.accumulate(0, 3, std::array<double, 2>{10, 10}, std::plus<>());  // a temporary: it is copied
  w.fence();
  const double n = comm.size();
  for (std::size_t i = 0; i < 100; ++i) {
    const double more = comm.rank() == 0 && i == 3 ? 10 * n : 0;
    CHECK(w.local()[i] == std::array<double, 2>{n + more, 2 * n + more});
  }
  barrier(comm);
}

TEST_CASE("single values of one epoch arrive each as it was given, however many") {
  const Comm& comm = world();
  constexpr int count = 3000;
  const Window<long> w(comm, count + 1);
  const int next = next_of(comm);
  const auto fill = [&](long round) {
    long value = 0;
    for (int i = 0; i < count; ++i) {
      value = (round + i) % 5 == 0 ? value : 1000 * round + i;  // some of them twice running
      w.put(next, i, value);
    }
    for (long i = 0; i < 100; ++i) w.accumulate(next, count, i + round, std::plus<>());
    value = -1;
  };
  const auto expect = [&](long round) {
    long value = 0;
    bool right = true;
    for (int i = 0; i < count; ++i) {
      value = (round + i) % 5 == 0 ? value : 1000 * round + i;
      right = right && w.local()[static_cast<std::size_t>(i)] == value;
    }
    CHECK(right);
    CHECK(w.local()[count] == 4950 + 100 * round);
    w.local()[count] = 0;
  };
  w.fence();
  for (long round = 0; round < 3; ++round) {
    fill(round);
    w.fence();
    expect(round);
    w.fence();
  }
  w.fence({.no_succeed = true});
  for (long round = 3; round < 6; ++round) {
    {
      const auto epoch = w.lock_all();
      fill(round);
      if (round == 4) w.flush(next);
    }
    barrier(comm);
    {
      const auto mine = w.lock(comm.rank());
      expect(round);
    }
    barrier(comm);
  }
}

TEST_CASE("compare_and_swap lets exactly one rank win") {
  const Comm& comm = world();
  const Window<int> w(comm, 1);
  const Window<int> wins(comm, 1);
  barrier(comm);
  const int before = w.compare_and_swap(0, 0, 0, comm.rank() + 1);
  if (before == 0) wins.fetch_add(0, 0, 1);
  barrier(comm);
  CHECK(wins.load(0, 0) == 1);
  const int winner = w.load(0, 0);
  CHECK((before == 0 ? winner == comm.rank() + 1 : before == winner));
  barrier(comm);
}

TEST_CASE("errors in windows name what is wrong, before anything is written") {
  const Comm& comm = world();
  Window<int> w(comm, 4);
  std::vector<int> data(3);
  CHECK(code_of([&] { const Window<int> beyond_all_memory(comm, std::size_t{1} << 61); }) == Errc::size);
  CHECK(code_of([&] { w.put(1000, 0, 1); }) == Errc::rank);
  CHECK(code_of([&] { w.put(-5, 0, 1); }) == Errc::rank);
  CHECK(code_of([&] { w.put(0, 4, 1); }) == Errc::rma_range);
  CHECK_THROWS_WITH_AS(w.put(0, 4, 1), doctest::Contains("element 4 asked for, but rank 0 has 4 elements"),
                       Error);
  CHECK_THROWS_WITH_AS(w.put(0, 2, data), doctest::Contains("elements from element 2 on"), Error);
  CHECK(code_of([&] { w.put(0, -1, 1); }) == Errc::rma_range);
  CHECK(code_of([&] { w.put(0, 2, data); }) == Errc::rma_range);
  CHECK(code_of([&] { static_cast<void>(w.get(0, 1L << 60)); }) == Errc::rma_range);
  CHECK(code_of([&] { static_cast<void>(w.lock(1000)); }) == Errc::rank);
  CHECK(code_of([&] { w.flush(0); }) == Errc::rma_sync);
  CHECK(code_of([&] { w.flush_all(); }) == Errc::rma_sync);
  CHECK(code_of([&] { static_cast<void>(w.rput(0, 0, data)); }) == Errc::rma_sync);
  CHECK(code_of([&] { w.accumulate(0, 0, 1, [](int a, int b) { return a + b; }); }) == Errc::op);
  CHECK(code_of([&] { w.attach(data); }) == Errc::rma_flavor);
  CHECK(code_of([&] { static_cast<void>(Window<int>::adopt(MPI_WIN_NULL)); }) == Errc::win);
  CHECK(code_of([&] { Window<int>(Comm(), 1); }) == Errc::comm);
  {
    const auto epoch = w.lock(comm.rank(), {.type = LockType::shared});
    CHECK(code_of([&] { static_cast<void>(w.lock(comm.rank())); }) == Errc::rma_sync);
    CHECK(code_of([&] { w.fence(); }) == Errc::rma_sync);
    CHECK(code_of([&] { w.free(); }) == Errc::rma_sync);
  }
  w.fence();
  w.put(comm.rank(), 0, 1);
  CHECK(code_of([&] { static_cast<void>(w.get(0, 0)); }) == Errc::rma_sync);
  w.fence({.no_succeed = true});
  w.put(proc_null, 100, 1);  // to nobody: nothing
  CHECK(w.get(proc_null, 0) == 0);
  Window<int> moved = std::move(w);
  CHECK(code_of([&] { w.fence(); }) == Errc::win);
  barrier(comm);
  CHECK(moved.get(comm.rank(), 0) == 1);
  moved.free();
  CHECK_FALSE(moved);
}

TEST_CASE("windows have names, groups and hints, and take raw handles") {
  const Comm& comm = world();
  Window<int> w(comm, 16, Info{{"no_locks", "false"}});
  w.set_name("field");
  CHECK(w.name() == "field");
  CHECK(w.flavor() == WindowFlavor::allocated);
  CHECK(w.memory_model() == MemoryModel::unified);
  CHECK(w.group() == comm.group());
  CHECK(w.size() == comm.size());
  w.set_info(Info{{"no_locks", "false"}});
  static_cast<void>(w.info().all());
  const auto seen = Window<int>::view(w.native());
  CHECK(seen.local().data() == w.local().data());
  CHECK(seen.local().size() == 16);
  CHECK(code_of([&] { static_cast<void>(Window<double>::view(w.native())); }) == Errc::disp);
  CHECK(code_of([&] { static_cast<void>(seen.size_of(0)); }) == Errc::unsupported);
  seen.put(next_of(comm), 1, 42);
  barrier(comm);
  CHECK(w.local()[1] == 42);
  barrier(comm);
  Window<int> other(comm, 1);
  other = Window<int>(comm, 2);
  CHECK(other.local().size() == 2);
}

TEST_CASE("windows over memory of one's own, where this MPI has them") {
  const Comm& comm = world();
  const int next = next_of(comm);
  std::vector<int> memory(10, comm.rank());
  try {
    const auto w = Window<int>::over(comm, memory);
    CHECK(w.flavor() == WindowFlavor::created);
    CHECK(w.get(next, 3) == next);
    w.put(next, 3, 77);
    CHECK(w.fetch_add(next, 4, 1) == next);
    barrier(comm);
    CHECK(memory[3] == 77);
    CHECK(memory[4] == comm.rank() + 1);
    barrier(comm);

    auto dynamic = Window<int>::dynamic(comm);
    dynamic.attach(std::span(memory));
    const MPI_Aint mine = Window<int>::address_of(memory[0]);
    const MPI_Aint theirs = comm.sendrecv<MPI_Aint>(mine, {.dest = last_of(comm)}, {.source = next});
    CHECK(dynamic.get(next, theirs, 4) == std::vector{next, next, next, 77});
    CHECK(dynamic.fetch_add(next, theirs, 5) == next);
    barrier(comm);
    CHECK(memory[0] == comm.rank() + 5);
    barrier(comm);
    dynamic.detach(std::span(memory));
  } catch (const Unsupported& why) {
    if (comm.rank() == 0) std::printf("skipped: %s\n", why.what());
  }
}

TEST_CASE("structs with padding are whole in a window") {
  struct Padded {
    char kind;
    double x;
    short n;
    bool operator==(const Padded&) const = default;
  };
  const Comm& comm = world();
  const Window<Padded> w(comm, 3);
  const auto mine = static_cast<short>(comm.rank());
  w.put(next_of(comm), 1, Padded{'a', 0.5, mine});
  barrier(comm);
  CHECK((w.local()[1] == Padded{'a', 0.5, static_cast<short>(last_of(comm))}));
  CHECK((w.get(next_of(comm), 1) == Padded{'a', 0.5, mine}));
  barrier(comm);
}

TEST_CASE("what is under way on a window ends with it, and its guards do nothing then") {
  const Comm& comm = world();
  std::optional<Window<int>> w(std::in_place, comm, 4);
  auto lock = w->lock(next_of(comm));
  w->put(next_of(comm), 1, comm.rank());
  w.reset();
  CHECK(code_of([&] { lock.unlock(); }) == Errc::win);
  {
    w.emplace(comm, 1);
    const auto all = w->lock_all();
    w.reset();
  }
  w.emplace(comm, 1);
  const Group everybody = comm.group();
  {
    auto exposure = w->post(everybody);
    auto access = w->start(everybody);
    w->put(next_of(comm), 0, 7);
    w.reset();
    CHECK(code_of([&] { access.complete(); }) == Errc::win);
    CHECK(code_of([&] { exposure.wait(); }) == Errc::win);
  }
}

TEST_CASE("a window that one rank has no room for is an error on all") {
  const Comm& comm = world();
  const std::size_t too_much = std::size_t{1} << 50;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const std::size_t count = comm.rank() == rank ? too_much : 10;
    CHECK(code_of([&] { const Window<char> w(comm, count); }) == Errc::no_mem);
    const Errc code =
        code_of([&] { const Window<double> w(comm, comm.rank() == rank ? too_much << 10 : 1); });
    CHECK(code == (comm.rank() == rank ? Errc::size : Errc::no_mem));
  }
  const Window<int> w(comm, 10);  // all goes on
  CHECK(w.get(next_of(comm), 0) == 0);
  barrier(comm);
}

TEST_CASE("windows and files that outlive their scope are closed when MPI ends") {
  const Comm& comm = world();
  try {
    const Window<int> w(comm, 10);
    throw std::runtime_error("on every rank");
  } catch (const std::runtime_error&) {
  }
  static const Window<double> lasting(comm, 10);
  static const auto held = lasting.lock_all();
  CHECK(lasting.local().size() == 10);
}

}  // namespace
}  // namespace manyhands::mpi
