#include "manyhands/shm/heap.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "manyhands/base/error.hpp"

namespace manyhands::shm {
namespace {

TEST_CASE("blocks of all sizes are zeroed, apart and aligned") {
  std::mt19937 random(1);
  std::vector<std::pair<Offset, std::size_t>> blocks;
  for (int round = 0; round < 300; ++round) {
    const std::size_t size = std::size_t{1} << (random() % 22);
    const Offset payload = allocate(size, BlockKind::raw);
    std::byte* data = address_of_block(payload);
    REQUIRE(reinterpret_cast<std::uintptr_t>(data) % 64 == 0);
    REQUIRE(data[0] == std::byte{0});
    REQUIRE(data[size - 1] == std::byte{0});
    std::memset(data, round % 255 + 1, size);
    blocks.emplace_back(payload, size);
    if (random() % 2 == 0) {
      const auto victim = random() % blocks.size();
      release(blocks[victim].first);
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(victim));
    }
  }
  for (const auto& [payload, size] : blocks) {
    const std::byte* data = address_of_block(payload);
    CHECK(std::memchr(data, 0, size) == nullptr);
    CHECK(data[0] == data[size - 1]);
    release(payload);
  }
}

TEST_CASE("freed pages are kept for the next block, within the budget, until trim") {
  const Offset first = allocate(8 << 20, BlockKind::raw);
  std::memset(address_of_block(first), 1, 8 << 20);
  const auto before = heap_statistics().cached;
  release(first);
  CHECK(heap_statistics().cached >= before + (8 << 20));
  const Offset second = allocate(8 << 20, BlockKind::raw, Zero::no);
  CHECK(second == first);
  CHECK(*address_of_block(second) == std::byte{1});
  release(second);
  trim();
  CHECK(heap_statistics().cached < 1 << 20);
  const Offset third = allocate(8 << 20, BlockKind::raw, Zero::no);
  CHECK(address_of_block(third)[100'000] == std::byte{0});
  release(third);
}

TEST_CASE("a block larger than the machine's memory is refused with the numbers") {
  CHECK_THROWS_WITH_AS(static_cast<void>(allocate(std::size_t{64} << 30, BlockKind::array)),
                       doctest::Contains("MiB are left"), ResourceExhausted);
  CHECK_THROWS_AS(static_cast<void>(allocate(SIZE_MAX / 2, BlockKind::array)), ResourceExhausted);
}

TEST_CASE("a block of no bytes is a block") {
  const Offset payload = allocate(0, BlockKind::array);
  CHECK(is_block(payload, BlockKind::array));
  CHECK(offset_of(address_of_block(payload)) == payload);
  release(payload);
  CHECK_FALSE(is_block(payload, BlockKind::array));
  CHECK_FALSE(is_block(0, BlockKind::array));
  int elsewhere = 0;
  CHECK(offset_of(&elsewhere) == 0);
}

TEST_CASE("the last of several holders frees a block, and tidies up before") {
  static std::atomic<int> tidied{0};
  on_last_release(BlockKind::message, [](Offset) { ++tidied; });
  const Offset payload = allocate(10, BlockKind::message);
  add_ref(payload);
  release(payload);
  CHECK(tidied == 0);
  CHECK(try_ref(payload));
  release(payload);
  release(payload);
  CHECK(tidied == 1);
  CHECK_FALSE(try_ref(payload));
  on_last_release(BlockKind::message, nullptr);
}

TEST_CASE("two threads that allocate and release never get the same block") {
  std::atomic<bool> wrong{false};
  const auto work = [&](int mark) {
    for (int i = 0; i < 20'000; ++i) {
      const Offset payload = allocate(200, BlockKind::raw, Zero::no);
      auto& word = at<std::uint64_t>(payload);
      word = static_cast<std::uint64_t>(mark);
      if (i % 16 == 0) std::this_thread::yield();
      if (word != static_cast<std::uint64_t>(mark)) wrong = true;
      release(payload);
    }
  };
  std::thread first(work, 1);
  std::thread second(work, 2);
  first.join();
  second.join();
  CHECK_FALSE(wrong);
}

TEST_CASE("two threads that share a block: who lets go last sees what the other wrote") {
  static std::atomic<int> complete{0};
  on_last_release(BlockKind::message, [](Offset payload) {
    const auto* words = &at<int>(payload);  // not atomic: ThreadSanitizer looks
    complete += words[0] == 1 && words[1] == 2 ? 1 : 0;
  });
  constexpr int rounds = 300;
  for (int i = 0; i < rounds; ++i) {
    const Offset payload = allocate(2 * sizeof(int), BlockKind::message);
    add_ref(payload);
    const auto write_and_leave = [payload](int place) {
      (&at<int>(payload))[place] = place + 1;
      release(payload);
    };
    std::thread first(write_and_leave, 0);
    std::thread second(write_and_leave, 1);
    first.join();
    second.join();
  }
  CHECK(complete == rounds);
  on_last_release(BlockKind::message, nullptr);
}

}  // namespace
}  // namespace manyhands::shm
