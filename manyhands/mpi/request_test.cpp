#include "manyhands/mpi/request.hpp"

#include <doctest/doctest.h>

#include <map>
#include <numeric>
#include <string>
#include <thread>

#include "manyhands/mpi/comm.hpp"

namespace manyhands::mpi {
namespace {

int right_of(const Comm& comm) { return (comm.rank() + 1) % comm.size(); }
int left_of(const Comm& comm) { return (comm.rank() + comm.size() - 1) % comm.size(); }

TEST_CASE("a request gives its buffer back once, and says when it is empty") {
  const Comm& comm = world();
  std::vector<int> data{1, 2, 3};
  const int* const place = data.data();
  auto sent = comm.isend(std::move(data), {.dest = right_of(comm)});
  CHECK(comm.recv<std::vector<int>>({.source = left_of(comm)}) == std::vector<int>{1, 2, 3});
  const auto back = sent.get();
  CHECK(back.data() == place);  // moved, never copied
  CHECK_FALSE(sent.valid());
  CHECK_THROWS_AS(static_cast<void>(sent.get()), Error);
  CHECK_THROWS_AS(sent.wait(), Error);
  Request<int> none;
  CHECK_THROWS_AS(static_cast<void>(none.test()), Error);
}

TEST_CASE("lent memory is filled in place") {
  const Comm& comm = world();
  std::vector<double> out(1000, comm.rank());
  std::vector<double> in(1000);
  auto coming = comm.irecv_into(std::span(in), {.source = left_of(comm)});
  auto going = comm.isend(std::span(out), {.dest = right_of(comm)});
  coming.get();
  going.get();
  CHECK(in == std::vector<double>(1000, left_of(comm)));
  std::string text;
  auto unsized = comm.irecv_into(text, {.source = left_of(comm)});
  comm.send(std::string("of any size"), {.dest = right_of(comm)});
  unsized.wait();
  CHECK(text == "of any size");
  CHECK(unsized.status().source == left_of(comm));
  CHECK(unsized.status().count<char>() == 11);
}

TEST_CASE("an irecv with a capacity is posted at once and shrinks") {
  const Comm& comm = world();
  auto coming = comm.irecv<std::vector<int>>({.source = left_of(comm), .capacity = 100});
  comm.send(std::vector<int>{4, 5}, {.dest = right_of(comm)});
  CHECK(coming.get() == std::vector<int>{4, 5});
}

TEST_CASE("one, some or all of many requests") {
  const Comm& comm = world();
  constexpr int count = 20;
  std::vector<Request<int>> coming;
  for (int i = 0; i < count; ++i) coming.push_back(comm.irecv<int>({.source = left_of(comm), .tag = i}));
  CHECK_FALSE(test_all(coming));
  comm.barrier();  // nobody has sent yet
  for (int i = count - 1; i >= 0; --i) comm.send(i * i, {.dest = right_of(comm), .tag = i});
  int sum = 0;
  int taken = 0;
  while (const auto index = wait_any(coming)) {
    sum += coming[*index].get();
    ++taken;
    if (taken == 5) break;
  }
  for (const std::size_t index : wait_some(coming)) {
    sum += coming[index].get();
    ++taken;
  }
  for (const int value : wait_all(coming)) {
    sum += value;
    ++taken;
  }
  CHECK(taken == count);
  CHECK(sum == 2470);
  CHECK_FALSE(wait_any(coming));
  CHECK(wait_some(coming).empty());
  CHECK(test_all(coming));
}

TEST_CASE("a dropped receive leaves the message to the next one; a dropped send goes on") {
  const Comm& comm = world();
  {
    auto dropped = comm.irecv<int>({.source = left_of(comm), .tag = 5});
    auto late = comm.irecv<std::vector<int>>({.source = left_of(comm), .tag = 5});
  }
  comm.barrier();
  static_cast<void>(comm.isend(std::vector<int>(100'000, 7), {.dest = right_of(comm), .tag = 5}));
  CHECK(comm.recv<std::vector<int>>({.source = left_of(comm), .tag = 5}) == std::vector<int>(100'000, 7));
}

TEST_CASE("a receive can be cancelled") {
  const Comm& comm = world();
  auto plain = comm.irecv<int>({.source = comm.rank(), .tag = 77});
  auto late = comm.irecv<std::string>({.source = comm.rank(), .tag = 78});
  plain.cancel();
  plain.wait();
  CHECK(plain.status().cancelled);
  late.cancel();
  late.wait();
  CHECK(late.status().cancelled);
}

TEST_CASE("an object that is no T fails its request, each time it is asked") {
  const Comm& comm = world();
  auto coming = comm.irecv<std::map<int, int>>({.source = left_of(comm)});
  comm.send(std::string("no map"), {.dest = right_of(comm)});
  CHECK_THROWS_AS(coming.wait(), Error);
  CHECK_THROWS_AS(static_cast<void>(coming.get()), Error);
}

AsyncResult<int> sum_from_left(const Comm& comm) {
  const int first = co_await comm.irecv<int>({.source = left_of(comm), .tag = 1});
  const auto second = co_await comm.irecv<std::vector<int>>({.source = left_of(comm), .tag = 2});
  co_return first + std::accumulate(second.begin(), second.end(), 0);
}

TEST_CASE("coroutines wait for requests") {
  const Comm& comm = world();
  auto sum = sum_from_left(comm);
  if (comm.size() == 1) CHECK_FALSE(sum.ready());  // the left one may have sent already
  auto first = comm.isend(1, {.dest = right_of(comm), .tag = 1});
  auto second = comm.isend(std::vector<int>{2, 3}, {.dest = right_of(comm), .tag = 2});
  CHECK(wait(std::move(sum)) == 6);
  wait_all(first, second);
  CHECK(progress() == 0);
}

TEST_CASE("probes look at a message, and take it out of the way") {
  const Comm& comm = world();
  CHECK_FALSE(comm.iprobe({.source = left_of(comm), .tag = 8}));
  comm.barrier();
  auto sent = comm.isend(std::vector<double>{1, 2, 3}, {.dest = right_of(comm), .tag = 8});
  const Status status = comm.probe({.source = left_of(comm)});
  CHECK(status.tag == 8);
  CHECK(status.count<double>() == 3);
  CHECK_THROWS_AS(static_cast<void>(status.count<std::array<double, 2>>()), Error);
  Message message = comm.mprobe({.source = left_of(comm), .tag = 8});
  CHECK_FALSE(comm.iprobe({.source = left_of(comm), .tag = 8}));
  CHECK(message.recv<std::vector<double>>() == std::vector<double>{1, 2, 3});
  CHECK_THROWS_AS(static_cast<void>(message.recv<std::vector<double>>()), Error);
  sent.get();
}

TEST_CASE("a cancelled receive gives an empty value, of whatever type") {
  const Comm comm = self().dup();
  auto number = comm.irecv<int>({.source = 0, .tag = 1});
  auto texts = comm.irecv<std::vector<std::string>>({.source = 0, .tag = 2});
  auto map = comm.irecv<std::map<int, std::string>>({.source = 0, .tag = 3});
  number.cancel();
  texts.cancel();
  map.cancel();
  CHECK(number.get() == 0);
  CHECK(texts.get().empty());
  CHECK(map.get().empty());
}

TEST_CASE("of several requests of which one fails, the others are done when wait_all throws") {
  const Comm& comm = world();
  const auto run = [&](auto wait) {
    auto wrong = comm.irecv<std::vector<std::map<int, int>>>({.source = left_of(comm), .tag = 31});
    auto text = comm.isend(std::string("no number"), {.dest = right_of(comm), .tag = 31});
    auto right = comm.irecv<std::vector<std::map<int, int>>>({.source = left_of(comm), .tag = 32});
    auto sent = comm.isend(std::vector<std::map<int, int>>{{{1, 2}}}, {.dest = right_of(comm), .tag = 32});
    CHECK_THROWS_AS(wait(wrong, right), Error);
    CHECK(right.get().at(0).at(1) == 2);
    sent.get();
    text.get();
  };
  run([](auto& a, auto& b) { static_cast<void>(wait_all(a, b)); });
  run([](auto& a, auto& b) {
    std::vector<std::remove_cvref_t<decltype(a)>> both;
    both.push_back(std::move(a));
    both.push_back(std::move(b));
    try {
      static_cast<void>(wait_all(both));
    } catch (...) {
      b = std::move(both.back());
      throw;
    }
  });
}

TEST_CASE("messages to nobody and from nobody do nothing") {
  const Comm& comm = world();
  comm.send(1, {.dest = proc_null});
  CHECK(comm.recv<int>({.source = proc_null}) == 0);
  CHECK(comm.recv<std::vector<int>>({.source = proc_null}).empty());
  CHECK(comm.recv<std::map<int, int>>({.source = proc_null}).empty());
  struct Named {
    std::string name = "nobody";
    int number = 7;
  };
  CHECK(comm.recv<Named>({.source = proc_null}).name == "nobody");
  CHECK(comm.irecv<Named>({.source = proc_null}).get().number == 7);
  comm.isend(std::string("x"), {.dest = proc_null}).get();
  CHECK(comm.sendrecv<int>(5, {.dest = proc_null}, {.source = proc_null}) == 0);
}

TEST_CASE("send and receive at once, in every mode") {
  const Comm& comm = world();
  const int right = right_of(comm);
  const int left = left_of(comm);
  CHECK(comm.sendrecv<int>(comm.rank(), {.dest = right}, {.source = left}) == left);
  CHECK(comm.sendrecv<std::string>(std::to_string(comm.rank()), {.dest = right}, {.source = left}) ==
        std::to_string(left));
  using Map = std::map<int, std::string>;
  CHECK(comm.sendrecv<Map>(Map{{1, "a"}}, {.dest = right}, {.source = left}) == Map{{1, "a"}});
  std::vector<int> data(5, comm.rank());
  comm.sendrecv_replace(std::span(data), {.dest = right}, {.source = left});
  CHECK(data == std::vector<int>(5, left));

  auto a = comm.irecv<int>({.source = left, .tag = 1});
  auto b = comm.irecv<int>({.source = left, .tag = 2});
  auto c = comm.irecv<int>({.source = left, .tag = 3});
  auto synchronous = comm.issend(1, {.dest = right, .tag = 1});
  attach_buffer(1 << 16);
  CHECK_THROWS_AS(attach_buffer(1), Error);
  comm.bsend(2, {.dest = right, .tag = 2});
  comm.barrier();  // the receive is posted
  comm.rsend(3, {.dest = right, .tag = 3});
  CHECK(a.get() + b.get() + c.get() == 6);
  CHECK(synchronous.get() == 1);
  detach_buffer();
  CHECK_THROWS_AS(detach_buffer(), Error);
}

TEST_CASE("persistent messages are sent many times") {
  const Comm& comm = world();
  std::vector<int> out(10);
  std::vector<int> in(10);
  auto send = comm.send_init(out, {.dest = right_of(comm)});
  auto recv = comm.recv_init(in, {.source = left_of(comm)});
  for (int round = 0; round < 5; ++round) {
    out.assign(10, round + comm.rank());
    recv.start();
    send.start();
    CHECK_THROWS_AS(send.start(), Error);
    send.wait();
    CHECK(recv.wait().source == left_of(comm));
    CHECK(in == std::vector<int>(10, round + left_of(comm)));
  }
}

TEST_CASE("partitioned messages go part by part") {
  const Comm& comm = world();
  if (comm.size() == 1) return;  // MPICH 4.0 has no partitioned message to oneself
  std::vector<int> out(12);
  std::vector<int> in(12);
  auto send = comm.psend_init(out, 4, {.dest = right_of(comm), .tag = 6});
  auto recv = comm.precv_init(in, 4, {.source = left_of(comm), .tag = 6});
  for (int round = 0; round < 3; ++round) {
    recv.start();
    send.start();
    for (const int part : {2, 0, 3, 1}) {
      for (int i = 0; i < 3; ++i) out[static_cast<std::size_t>(3 * part + i)] = round + comm.rank();
      send.ready(part);
    }
    CHECK_THROWS_AS(send.ready(4), Error);
    send.wait();
    recv.wait();
    CHECK(recv.arrived(0));
    CHECK(in == std::vector<int>(12, round + left_of(comm)));
  }
  CHECK_THROWS_AS(comm.psend_init(out, 5, {.dest = 0}), Error);
}

}  // namespace
}  // namespace manyhands::mpi
