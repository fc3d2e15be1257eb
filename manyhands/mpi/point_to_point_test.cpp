#include "manyhands/mpi/point_to_point.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <complex>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/environment.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::Particle;

struct Job {
  std::string name;
  std::vector<Particle> particles;
  std::map<std::string, double> options;
  friend bool operator==(const Job&, const Job&) = default;
};

// Sends `value` round the ring of ranks by send and recv.
template <class T>
void goes_round(const T& value) {
  const Comm& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int last = (comm.rank() + comm.size() - 1) % comm.size();
  auto sent = comm.isend(T(value), {.dest = next, .tag = 3});
  CHECK((comm.recv<T>({.source = last, .tag = 3}) == value));
  CHECK((sent.get() == value));
}

TEST_CASE("values, ranges and objects of any type go round") {
  goes_round(7);
  goes_round('c');
  goes_round(true);
  goes_round(3.14);
  goes_round(std::complex<float>(1, -2));
  goes_round(Particle{1, 2, 3});
  goes_round(std::array<int, 3>{1, 2, 3});
  goes_round(std::pair<int, double>{1, 2.5});
  goes_round(std::string("text"));
  goes_round(std::string());
  goes_round(std::vector<double>{});
  goes_round(std::vector<double>{1, 2, 3});
  goes_round(std::vector<Particle>(1000, Particle{1, 2, 3}));
  goes_round(std::vector<std::string>{"a", "", "ccc"});
  goes_round(std::map<std::string, double>{{"a", 7}, {"b", 3.14}});
  goes_round(
      std::map<std::string, std::variant<int, double, std::string>>{{"a", 7}, {"b", 3.14}, {"c", "text"}});
  goes_round(Job{"name", std::vector<Particle>(10), {{"x", 1}}});
  goes_round(Job{"large", std::vector<Particle>(100'000, Particle{1, 2, 3}), {}});  // out of band
  goes_round(
      std::vector<std::vector<double>>{std::vector<double>(5000, 1.0), {}, std::vector<double>(3, 2.0)});
}

struct Field {
  std::string name;
  int step = 0;
  std::vector<std::vector<double>> rows;
  std::map<int, std::vector<double>> more;
  friend bool operator==(const Field&, const Field&) = default;
};

Field made_field(int rank, int step, const std::vector<std::size_t>& sizes) {
  Field made{"field", step, {}, {}};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    made.rows.emplace_back(sizes[i]);
    std::iota(made.rows.back().begin(), made.rows.back().end(),
              rank * 1e6 + step * 1e5 + static_cast<double>(i));
  }
  made.more[step].assign(4000, rank + 0.5);
  return made;
}

TEST_CASE("an object is received into the large arrays of one like it, and is right for any other") {
  const Comm& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int last = (comm.rank() + comm.size() - 1) % comm.size();
  using Sizes = std::vector<std::size_t>;
  Field here = made_field(-1, 0, {5000, 3, 7000});
  int step = 0;
  const auto exchange = [&](const Sizes& sizes, bool matched) {
    CAPTURE(step);
    auto sending = comm.isend(made_field(comm.rank(), ++step, sizes), {.dest = next, .tag = 3});
    if (matched) {
      comm.mprobe({.source = last, .tag = 3}).recv_into(here);
    } else {
      comm.recv_into(here, {.source = last, .tag = 3});
    }
    CHECK((here == made_field(last, step, sizes)));
    sending.get();
  };
  for (const bool matched : {false, true}) {
    exchange({5000, 3, 7000}, matched);
    const double* const first = here.rows[0].data();
    const double* const third = here.rows[2].data();
    exchange({5000, 3, 7000}, matched);
    CHECK(here.rows[0].data() == first);
    CHECK(here.rows[2].data() == third);
  }
  // The same sizes elsewhere, in another order, others of the same sum, more, none; each after a match.
  for (const Sizes& other :
       {Sizes{5000, 7000, 3}, Sizes{3, 5000, 7000}, Sizes{7000, 3, 5000}, Sizes{6000, 3, 6000},
        Sizes{5000, 3, 7000, 9000}, Sizes{5000, 3, 7001}, Sizes{12000, 3, 1}, Sizes{}}) {
    CAPTURE(other.size());
    for (int i = 0; i < 70; ++i) exchange({5000, 3, 7000}, i % 2 == 0);
    exchange(other, false);
    exchange({5000, 3, 7000}, false);
  }
}

TEST_CASE("an irecv of unknown size takes messages in the order of posting") {
  const Comm& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int last = (comm.rank() + comm.size() - 1) % comm.size();
  auto first = comm.irecv<std::vector<int>>({.source = last, .tag = 0});
  auto second = comm.irecv<int>({.source = last, .tag = 0});
  auto third = comm.irecv<std::string>({.source = last, .tag = 0});
  auto other = comm.irecv<double>({.source = last, .tag = 9});
  comm.send(1.5, {.dest = next, .tag = 9});
  comm.send(std::vector<int>{1, 2}, {.dest = next});
  comm.send(42, {.dest = next});
  comm.send(std::string("end"), {.dest = next});
  auto [a, b, c, d] = wait_all(first, second, third, other);
  CHECK(a == std::vector<int>{1, 2});
  CHECK(b == 42);
  CHECK(c == "end");
  CHECK(d == 1.5);
}

TEST_CASE("blocking sends of large messages get on while irecvs of unknown size wait") {
  const Comm& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int last = (comm.rank() + comm.size() - 1) % comm.size();
  const std::vector<double> large(300'000, comm.rank());  // too large for any eager protocol
  auto coming = comm.irecv<std::vector<double>>({.source = last});
  comm.send(large, {.dest = next});
  CHECK(coming.get() == std::vector<double>(300'000, last));
}

TEST_CASE("errors name operation, rank, tag and what came") {
  const Comm& comm = world();
  const auto code_of = [](auto call) {
    try {
      call();
    } catch (const Error& error) {
      const std::string said = error.what();
      CHECK(said.find("MPI_COMM_WORLD") != std::string::npos);
      const auto says = [&](const std::string& words) { return said.find(words) != std::string::npos; };
      if (says("1000")) CHECK(says(fmt::format("(the ranks are 0 to {})", world().size() - 1)));
      if (error.code() == Errc::tag) CHECK(says("(tags are 0 to "));
      if (error.code() == Errc::truncate)
        CHECK((says("more came than there is room for") || says("2 bytes came")));
      return error.code();
    }
    return Errc::other;
  };
  CHECK(code_of([&] { comm.send(1, {.dest = 1000}); }) == Errc::rank);
  CHECK(code_of([&] { comm.send(1, {.dest = -7}); }) == Errc::rank);
  CHECK(code_of([&] { comm.send(1, {}); }) == Errc::rank);
  CHECK(code_of([&] { comm.send(1, {.dest = 0, .tag = -5}); }) == Errc::tag);
  CHECK(code_of([&] { static_cast<void>(comm.recv<int>({.source = 1000})); }) == Errc::rank);
  const int me = comm.rank();
  auto sent = comm.isend(std::vector<int>{1, 2, 3}, {.dest = me});
  int room[2];
  CHECK(code_of([&] { comm.recv_into(std::span(room), {.source = me}); }) == Errc::truncate);
  sent.wait();
  auto no_map = comm.isend(std::string("no map"), {.dest = me});
  CHECK(code_of([&] { static_cast<void>(comm.recv<std::map<std::string, int>>({.source = me})); }) ==
        Errc::type);
  no_map.wait();
  if (comm.size() == 1) return;  // MPICH 4.0 ends the job when a message to oneself has another type
  auto short_one = comm.isend(std::int16_t{1}, {.dest = me});
  CHECK(code_of([&] { static_cast<void>(comm.recv<int>({.source = me})); }) == Errc::truncate);
  short_one.wait();
  // The message is taken all the same: one that is sent synchronously ends.
  auto odd_one = comm.issend(std::string(23, 'x'), {.dest = me});
  CHECK_THROWS_WITH_AS(static_cast<void>(comm.recv<std::vector<double>>({.source = me})),
                       doctest::Contains("23 bytes came, which is no whole number of elements of 8 bytes"),
                       Error);
  odd_one.wait();
}

TEST_CASE("counts above MPI's limit travel as derived datatypes") {
  const MPI_Count limit = std::exchange(detail::large_limit, 5);
  goes_round(std::vector<double>{1, 2, 3, 4, 5, 6, 7});
  goes_round(std::string("longer than five"));
  goes_round(Job{"name", std::vector<Particle>(10), {{"x", 1}}});
  detail::large_limit = limit;
}

TEST_CASE("one request sends and receives") {
  const Comm& comm = world();
  const int me = comm.rank();
  const int next = (me + 1) % comm.size();
  const int last = (me + comm.size() - 1) % comm.size();
  const To to{.dest = next, .tag = 21};
  const From from{.source = last, .tag = 21};
  auto text = comm.isendrecv<std::string>("from " + std::to_string(me), to, from);
  text.wait();
  CHECK(text.status().source == last);
  CHECK(text.get() == "from " + std::to_string(last));
  auto numbers = comm.isendrecv<std::vector<int>>(std::vector<int>(50000, me), to, from);
  auto number = comm.isendrecv<int>(me, to, from);  // in the order of their starts
  CHECK(number.get() == last);
  CHECK(numbers.get() == std::vector<int>(50000, last));
  const std::vector<double> out(1000, me);
  std::vector<double> in(1000);
  comm.isendrecv_into(std::span(out), to, std::span(in), from).get();
  CHECK(in == std::vector<double>(1000, last));
  auto open = comm.isendrecv_into(std::span(out), to, std::span(in), {.source = last, .tag = 22});
  CHECK_FALSE(open.test());  // what it waits for is not sent yet
  comm.barrier();
  auto awaited = comm.isend(std::vector<double>(1000, 1.5), {.dest = next, .tag = 22});
  std::vector<double> sent(1000);
  comm.recv_into(std::span(sent), from);
  CHECK(sent == std::vector<double>(1000, last));
  open.get();
  CHECK(in.front() == 1.5);
  awaited.get();
}

TEST_CASE("one request replaces what it sends") {
  const Comm& comm = world();
  const int me = comm.rank();
  const int next = (me + 1) % comm.size();
  const int last = (me + comm.size() - 1) % comm.size();
  int number = me;
  comm.isendrecv_replace(number, {.dest = next}, {.source = last}).get();
  CHECK(number == last);
  for (const std::size_t n : {0, 3, 100000}) {
    std::vector<int> data(n, me);
    auto request = comm.isendrecv_replace(std::span(data), {.dest = next}, {.source = last});
    request.wait();
    CHECK(request.status().count<int>() == static_cast<MPI_Count>(n));
    CHECK(data == std::vector<int>(n, last));
  }
  // A column of a matrix.
  std::vector<int> matrix(12, -1);
  for (std::size_t row = 0; row < 3; ++row) matrix[4 * row] = 10 * me + static_cast<int>(row);
  const Datatype column = Datatype::vector<int>(3, 1, 4);
  comm.isendrecv_replace(buffer(matrix.data(), 1, column), {.dest = next}, {.source = last}).get();
  for (std::size_t row = 0; row < 3; ++row) {
    CHECK(matrix[4 * row] == 10 * last + static_cast<int>(row));
    CHECK(matrix[4 * row + 1] == -1);
  }
}

TEST_CASE("nobody is received from and sent to in every way") {
  const Comm& comm = world();
  CHECK(comm.irecv<int>({.source = proc_null}).get() == 0);
  CHECK(comm.irecv<std::vector<int>>({.source = proc_null}).get().empty());
  CHECK(comm.irecv<std::string>({.source = proc_null, .capacity = 5}).get().empty());
  CHECK((comm.irecv<Job>({.source = proc_null}).get() == Job{}));
  std::vector<int> kept{1, 2};
  comm.irecv_into(kept, {.source = proc_null}).get();
  comm.irecv_into(std::span(kept), {.source = proc_null}).get();
  comm.recv_into(kept, {.source = proc_null});
  Job job{"kept", {}, {}};
  comm.irecv_into(job, {.source = proc_null}).get();
  comm.recv_into(job, {.source = proc_null});
  CHECK(job.name == "kept");
  CHECK(kept == std::vector{1, 2});
  // At the edges of a line of ranks.
  const int next = comm.rank() + 1 == comm.size() ? proc_null : comm.rank() + 1;
  const int last = comm.rank() == 0 ? proc_null : comm.rank() - 1;
  const std::vector<int> wanted = last == proc_null ? std::vector<int>() : std::vector<int>(3, last);
  const auto mine = [&] { return std::vector<int>(3, comm.rank()); };
  CHECK(comm.isendrecv<std::vector<int>>(mine(), {.dest = next}, {.source = last}).get() == wanted);
  CHECK(comm.sendrecv<std::vector<int>>(mine(), {.dest = next}, {.source = last}) == wanted);
  CHECK(comm.isendrecv<std::string>(std::string("x"), {.dest = next}, {.source = last}).get() ==
        (last == proc_null ? "" : "x"));
  std::vector<int> in;
  auto both = comm.isendrecv_into(mine(), {.dest = next}, in, {.source = last});
  both.wait();
  CHECK(in == wanted);
  CHECK(both.status().source == last);
  auto replaced = mine();
  comm.isendrecv_replace(std::span(replaced), {.dest = next}, {.source = last}).get();
  CHECK(replaced == (last == proc_null ? mine() : wanted));
  auto message = comm.mprobe({.source = proc_null});
  CHECK(message.status().source == proc_null);
  CHECK(message.recv<std::vector<int>>().empty());
  auto another = comm.improbe({.source = proc_null});
  REQUIRE(another.has_value());
  another->recv_into(kept);
  CHECK(kept == std::vector{1, 2});
  auto persistent = comm.recv_init(std::span(kept), {.source = proc_null});
  persistent.start();
  CHECK(persistent.wait().source == proc_null);
  // Behind a receive from anybody: it is not for that one's message.
  auto any = comm.irecv<std::string>();
  CHECK(comm.irecv<std::string>({.source = proc_null}).get().empty());
  CHECK(comm.recv<int>({.source = proc_null}) == 0);
  auto sent = comm.isend(std::string("to myself"), {.dest = comm.rank()});
  CHECK(any.get() == "to myself");
  sent.get();
}

TEST_CASE("receives outlive their communicator") {
  std::optional<Comm> comm(world().dup());
  const int me = comm->rank();
  auto waiting = comm->irecv<std::string>({.source = me, .tag = 3});
  auto number = comm->irecv<int>({.source = me, .tag = 2});
  auto sent = comm->isend(5, {.dest = me, .tag = 1});
  auto announced = comm->mprobe({.source = me, .tag = 1});
  number.cancel();
  number.wait();
  auto gathering = comm->iallgather(std::string("x"));
  comm.reset();
  CHECK(gathering.get() == std::vector<std::string>(static_cast<std::size_t>(world().size()), "x"));
  CHECK_THROWS_WITH_AS(static_cast<void>(waiting.get()), doctest::Contains("the communicator was freed"),
                       Error);
  CHECK_THROWS_AS(waiting.wait(), Error);
  CHECK(announced.recv<int>() == 5);
  sent.get();
}

TEST_CASE("a receive that cannot be is its own error, not that of who looks after it") {
  const Comm& comm = world();
  const int me = comm.rank();
  auto bad = comm.irecv<std::string>({.source = 1000});
  auto good = comm.irecv<std::string>({.source = me});
  comm.send(std::string("fine"), {.dest = me});
  CHECK(good.get() == "fine");
  CHECK_THROWS_AS(static_cast<void>(bad.get()), Error);
}

TEST_CASE("several threads receive messages of unknown size on one communicator") {
  const Comm& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int last = (comm.rank() + comm.size() - 1) % comm.size();
  constexpr int threads = 3;
  constexpr int rounds = 200;
  std::atomic<int> wrong{0};
  const auto talk = [&](int tag) {
    for (int i = 0; i < rounds; ++i) {
      auto data = comm.irecv<std::vector<int>>({.source = last, .tag = tag});
      auto text = comm.irecv<std::string>({.source = last, .tag = tag + 100});
      {
        const auto dropped = comm.irecv<std::string>({.source = last, .tag = tag + 200});
      }
      auto sent = comm.isend(std::vector<int>(static_cast<std::size_t>(i), tag), {.dest = next, .tag = tag});
      auto told =
          comm.isend(std::string(static_cast<std::size_t>(i % 7), 'x'), {.dest = next, .tag = tag + 100});
      if (data.get() != std::vector<int>(static_cast<std::size_t>(i), tag)) ++wrong;
      if (text.get() != std::string(static_cast<std::size_t>(i % 7), 'x')) ++wrong;
      sent.get();
      told.get();
    }
  };
  {
    std::vector<std::jthread> all;
    for (int tag = 0; tag < threads; ++tag) all.emplace_back([&talk, tag] { talk(tag); });
  }
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace manyhands::mpi
