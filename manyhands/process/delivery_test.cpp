// Values of a Queue that are received with acknowledgement.

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/process/process.hpp"
#include "manyhands/process/queue.hpp"
#include "manyhands/shm/array.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/value.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;

TEST_CASE("a value that was received leaves the queue when it is acknowledged, and counts as done") {
  Queue<std::string> queue(4);
  queue.put("small");
  queue.put(std::string(100'000, 'x'));
  auto small = queue.receive();
  auto large = queue.try_receive();
  REQUIRE(large.has_value());
  CHECK(*small == "small");
  CHECK((*large)->size() == 100'000);
  CHECK(small.attempt() == 1);
  CHECK(queue.empty());
  CHECK(!queue.try_receive().has_value());
  CHECK(!queue.join(0ms));
  small.acknowledge();
  small.acknowledge();  // once is enough
  large->acknowledge();
  CHECK(queue.join(0ms));
  CHECK_THROWS_AS(queue.task_done(), Error);
}

TEST_CASE("what is not acknowledged goes back and comes first, in the order of the queue") {
  Queue<int> queue(8);
  for (int i = 0; i < 4; ++i) queue.put(i);
  {
    auto first = queue.receive();
    auto second = queue.receive();
    auto third = queue.receive();
    third.give_back();
    third.give_back();
    CHECK(queue.size() == 2);
    second.acknowledge();
  }
  CHECK(queue.size() == 3);
  auto again = queue.receive();
  CHECK(*again == 0);
  CHECK(again.attempt() == 2);
  again = queue.receive();  // what it held goes back
  CHECK(*again == 2);
  CHECK(queue.get() == 0);  // without acknowledgement: it is taken
  CHECK(queue.get() == 3);
  again.acknowledge();
  CHECK(queue.empty());
}

TEST_CASE("a delivery moves with its value, and an exception gives it back") {
  Queue<std::vector<int>> queue(2);
  queue.put({1, 2, 3});
  try {
    const auto held = std::make_unique<Delivery<std::vector<int>>>(queue.receive());
    throw std::runtime_error("expected");
  } catch (const std::runtime_error&) {
  }
  auto delivery = queue.receive();
  auto moved = std::move(delivery);
  CHECK(moved->size() == 3);
  CHECK(moved.attempt() == 2);
  moved.acknowledge();
  CHECK(queue.empty());
}

TEST_CASE("a value held by a consumer that is killed goes to another one, also if the queue is closed") {
  for (const bool close : {false, true}) {
    for (const std::size_t size : {std::size_t{3}, std::size_t{50'000}}) {
      Queue<std::string> queue(4);
      const Event received;
      Process consumer{[](Queue<std::string> in, const Event& has) {
                         const auto delivery = in.receive();
                         has.set();
                         Event().wait(60s);  // until it is killed
                       },
                       queue, received};
      queue.put(std::string(size, 'v'));
      if (close) queue.close();
      received.wait();
      CHECK(queue.empty());
      ::kill(consumer.pid(), SIGKILL);
      auto again = queue.receive();  // blocks until the death is noticed
      CHECK(again->size() == size);
      CHECK(again.attempt() == 2);
      again.acknowledge();
      CHECK(queue.join(0ms));
    }
  }
}

TEST_CASE("get() of a closed queue waits for what another process may give back") {
  Queue<int> queue(4);
  const Event received;
  const Event go_on;
  Process consumer{[](Queue<int> in, const Event& has, const Event& wanted) {
                     auto delivery = in.receive();
                     has.set();
                     wanted.wait();
                     delivery.acknowledge();
                   },
                   queue, received, go_on};
  queue.put(1);
  queue.close();
  received.wait();
  CHECK_THROWS_AS(queue.get(10ms), Timeout);
  go_on.set();
  CHECK_THROWS_AS(queue.get(), QueueClosed);
}

TEST_CASE("who holds deliveries of its own is told the end of a closed queue at once") {
  Queue<int> queue(4);
  queue.put(1);
  queue.close();
  auto mine = queue.receive();
  CHECK_THROWS_AS(queue.receive(), QueueClosed);
  mine.give_back();
  CHECK(queue.get() == 1);
}

TEST_CASE("a fork has no part in the deliveries of its parent") {
  Queue<int> queue(4);
  queue.put(7);
  auto delivery = std::make_unique<Delivery<int>>(queue.receive());
  const pid_t child = ::fork();
  if (child == 0) {
    bool refused = false;
    try {
      delivery->acknowledge();
    } catch (const Error&) {
      refused = true;
    }
    delivery.reset();  // gives nothing back
    ::_exit(refused && queue.empty() ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(queue.empty());
  delivery->acknowledge();
  CHECK(queue.join(0ms));
}

TEST_CASE("more deliveries than are kept track of are refused, and the value stays in the queue") {
  Queue<int> queue(2000);
  for (int i = 0; i < 1100; ++i) queue.put(i);
  std::vector<Delivery<int>> held;
  for (std::uint32_t i = 0; i < process::DeliveryTable::most; ++i) held.push_back(queue.receive());
  CHECK_THROWS_WITH_AS(queue.receive(), doctest::Contains("1024 values"), ResourceExhausted);
  CHECK(queue.size() == 1100 - 1024);
  held.pop_back();
  CHECK(*queue.receive() == 1023);
}

TEST_CASE("a loop over deliveries gets each value until it is acknowledged, and ends with the queue") {
  Queue<int> queue(8);
  for (int i = 0; i < 4; ++i) queue.put(i);
  queue.close();
  std::vector<int> seen;
  for (auto& delivery : queue.deliveries()) {
    seen.push_back(*delivery);
    if (*delivery != 2 || delivery.attempt() == 3) delivery.acknowledge();
  }
  CHECK(seen == std::vector<int>{0, 1, 2, 2, 2, 3});
}

TEST_CASE("threads that receive, acknowledge and give back at once lose nothing") {
  constexpr int values = 2000;
  Queue<int> queue(64);
  std::vector<std::atomic<int>> done(values);
  std::vector<std::thread> consumers;
  for (unsigned seed = 1; seed <= 2; ++seed) {
    consumers.emplace_back([&, seed] {
      Queue<int> mine = queue;
      std::mt19937 rng(seed);
      for (auto& delivery : mine.deliveries()) {
        if (rng() % 4 == 0) continue;
        done[static_cast<std::size_t>(*delivery)].fetch_add(1);
        delivery.acknowledge();
      }
    });
  }
  for (int i = 0; i < values; ++i) queue.put(i);
  CHECK(queue.join());
  queue.close();
  for (auto& consumer : consumers) consumer.join();
  CHECK(std::all_of(done.begin(), done.end(), [](const auto& n) { return n.load() == 1; }));
}

TEST_CASE("whatever consumers are killed, every value is acknowledged once, and none is lost") {
  constexpr int values = 600;
  Queue<int> queue(values);
  const Array<std::int64_t> acknowledged(values);
  const Array<std::int64_t> received(values);
  const auto consume = [](Queue<int> in, const Array<std::int64_t>& got, const Array<std::int64_t>& done) {
    for (auto& delivery : in.deliveries()) {
      const auto i = static_cast<std::size_t>(*delivery);
      std::atomic_ref(got[i]).fetch_add(1);
      delivery.acknowledge();
      std::atomic_ref(done[i]).fetch_add(1);
    }
  };
  for (int i = 0; i < values; ++i) queue.put(i);
  std::mt19937 rng(7);
  int kills = 0;
  std::vector<std::unique_ptr<Process>> consumers(2);
  while (!queue.join(0ms)) {
    for (auto& consumer : consumers)
      consumer = std::make_unique<Process>(consume, queue, received, acknowledged);
    const auto until = queue.size() - std::min<std::size_t>(queue.size(), 1 + rng() % 40);
    while (queue.size() > until) std::this_thread::yield();
    for (auto& consumer : consumers) {
      ::kill(consumer->pid(), SIGKILL);
      consumer->join();
      ++kills;
    }
    static_cast<void>(queue.try_receive());  // what the dead held comes back sooner or later
  }
  CHECK(kills >= 2);
  CHECK(queue.empty());
  for (std::size_t i = 0; i < values; ++i) {
    CHECK(received[i] >= 1);
    CHECK(acknowledged[i] <= 1);  // 0: killed in between
  }
}

// ---- The table by itself: what was begun by one that is killed is finished, or taken back.

TEST_CASE("a receive that was cut off counts if the queue's head has moved, and else did not happen") {
  for (const bool moved : {false, true}) {
    const auto table = std::make_unique<process::DeliveryTable>();
    const process::QueueCell cell{};
    const auto receipt = table->begin_receive(cell, 10);
    REQUIRE(receipt.has_value());
    table->mend(moved ? 11 : 10);
    CHECK(table->holds(*receipt) == moved);
    CHECK(table->held() ==
          (moved ? process::DeliveryTable::Held::by_this_process : process::DeliveryTable::Held::by_none));
    table->mend(20);
    CHECK(table->holds(*receipt) == moved);
  }
}

TEST_CASE("an acknowledgement counts once, however often its table is mended") {
  const auto table = std::make_unique<process::DeliveryTable>();
  const process::QueueCell cell{};
  const auto receipt = table->begin_receive(cell, 0);
  table->end_receive();
  table->acknowledge(*receipt);
  table->mend(1);
  table->mend(1);
  CHECK(table->acknowledged() == 1);
  CHECK(!table->holds(*receipt));
}

}  // namespace
}  // namespace manyhands
