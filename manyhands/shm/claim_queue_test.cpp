#include "manyhands/shm/claim_queue.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <thread>
#include <vector>

namespace manyhands::shm {
namespace {

TEST_CASE("tickets come in order and a full queue refuses") {
  ClaimQueue<2> queue;
  CHECK(queue.try_push({1, 10}));
  CHECK(queue.try_push({2, 20}));
  CHECK_FALSE(queue.try_push({3, 30}));
  Ticket got{};
  CHECK(queue.claim([&](Ticket t) { return got = t, true; }));
  CHECK(got == Ticket{1, 10});
  CHECK(queue.try_push({3, 30}));
}

TEST_CASE("a stale ticket is dropped and the next one taken") {
  ClaimQueue<4> queue;
  CHECK(queue.try_push({1, 0}));
  CHECK(queue.try_push({2, 0}));
  Ticket got{};
  CHECK(queue.claim([&](Ticket t) { return got = t, t.cell == 2; }));
  CHECK(got.cell == 2);
  CHECK(queue.empty());
  CHECK_FALSE(queue.claim([](Ticket) { return true; }));
}

TEST_CASE("two consumers and a producer: every cell is taken once") {
  constexpr std::uint32_t count = 100'000;
  ClaimQueue<64> queue;
  auto owner = std::make_unique<std::atomic<std::uint32_t>[]>(count);
  std::atomic<std::uint32_t> taken{0};
  std::vector<std::uint32_t> payload(count);  // published by the queue, not atomic
  const auto consume = [&](std::uint32_t self) {
    while (taken.load(std::memory_order_relaxed) < count) {
      std::uint32_t cell = 0;
      const bool got = queue.claim([&](Ticket t) {
        std::uint32_t none = 0;
        cell = t.cell;
        return owner[t.cell].compare_exchange_strong(none, self, std::memory_order_acq_rel);
      });
      if (!got) {
        std::this_thread::yield();
        continue;
      }
      REQUIRE(payload[cell] == cell + 1);
      taken.fetch_add(1, std::memory_order_relaxed);
    }
  };
  std::jthread one(consume, 1U);
  std::jthread two(consume, 2U);
  for (std::uint32_t i = 0; i < count; ++i) {
    payload[i] = i + 1;
    while (!queue.try_push({i, 0})) std::this_thread::yield();
  }
  one.join();
  two.join();
  CHECK(taken == count);
}

}  // namespace
}  // namespace manyhands::shm
