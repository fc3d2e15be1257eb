#include "manyhands/threads/arena.hpp"

#include <doctest/doctest.h>

#include <set>
#include <thread>
#include <vector>

namespace manyhands::threads {
namespace {

struct Count final : Job {
  explicit Count(std::atomic<int>& c) : count(c) {}
  void run(int) override { ++count; }
  void fail(std::exception_ptr) override {}
  std::atomic<int>& count;
};

TEST_CASE("every posted job runs once, from however many threads they are posted") {
  std::atomic<int> count{0};
  ThreadArena arena(2);
  {
    std::vector<std::jthread> posters;
    for (int t = 0; t < 3; ++t) {
      posters.emplace_back([&] {
        for (int i = 0; i < 5000; ++i) arena.post(std::make_shared<Count>(count));
      });
    }
  }
  arena.drain();
  CHECK(count == 15'000);
}

TEST_CASE("jobs that come one by one after pauses are found each time") {
  std::atomic<int> count{0};
  ThreadArena arena(2);
  for (int i = 1; i <= 300; ++i) {
    arena.post(std::make_shared<Count>(count));
    const auto target = i;
    while (count < target) std::this_thread::yield();
  }
  CHECK(count == 300);
}

TEST_CASE("a loop visits every chunk once, with workers numbered below the size") {
  ThreadArena arena(3);
  std::vector<std::atomic<int>> visits(1000);
  std::atomic<bool> in_range{true};
  arena.for_each_chunk(1000, [&](std::size_t chunk, int worker) {
    ++visits[chunk];
    if (worker < 0 || worker >= 3) in_range = false;
  });
  for (const auto& v : visits) REQUIRE(v == 1);
  CHECK(in_range);
}

TEST_CASE("a wait ends with its condition or its deadline") {
  ThreadArena arena(1);
  CHECK_FALSE(arena.wait([] { return false; }, Deadline(std::chrono::milliseconds(2))));
  std::atomic<bool> flag{false};
  std::jthread setter([&] {
    flag = true;
    arena.notify();
  });
  CHECK(arena.wait([&] { return flag.load(); }, {}));
}

}  // namespace
}  // namespace manyhands::threads
