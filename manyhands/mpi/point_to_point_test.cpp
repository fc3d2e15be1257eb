#include "manyhands/mpi/point_to_point.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <complex>
#include <map>
#include <numeric>
#include <string>

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

}  // namespace
}  // namespace manyhands::mpi
