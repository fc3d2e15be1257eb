#include "manyhands/shm/message_ring.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/shm/segment.hpp"

namespace manyhands::shm {
namespace {

struct alignas(64) Line {
  std::byte bytes[64];
};

struct Memory {
  explicit Memory(std::size_t capacity)
      : lines(MessageRing::footprint(capacity) / 64 + 1), ring(lines[0].bytes, capacity) {}
  std::vector<Line> lines;
  MessageRing ring;
};

bool push(MessageRing& ring, std::string_view text) {
  std::byte* space = ring.try_reserve(text.size());
  if (space == nullptr) return false;
  std::memcpy(space, text.data(), text.size());
  ring.publish();
  return true;
}

std::optional<std::string> pop(MessageRing& ring) {
  const auto message = ring.front();
  if (!message) return std::nullopt;
  std::string text(as_text(*message));
  ring.pop();
  return text;
}

TEST_CASE("messages come out as they went in, in order, the empty one too") {
  Memory memory(256);
  CHECK(push(memory.ring, "one"));
  CHECK(push(memory.ring, ""));
  CHECK(push(memory.ring, "three"));
  CHECK(pop(memory.ring) == "one");
  CHECK(pop(memory.ring) == "");
  CHECK(pop(memory.ring) == "three");
  CHECK(pop(memory.ring) == std::nullopt);
}

TEST_CASE("a full ring refuses and keeps what it holds") {
  Memory memory(64);
  CHECK(push(memory.ring, std::string(24, 'a')));
  CHECK(push(memory.ring, std::string(24, 'b')));
  CHECK_FALSE(push(memory.ring, "c"));
  CHECK(pop(memory.ring) == std::string(24, 'a'));
  CHECK(push(memory.ring, "c"));
}

TEST_CASE("a message that is reserved and not published is not seen") {
  Memory memory(256);
  REQUIRE(memory.ring.try_reserve(8) != nullptr);
  CHECK(memory.ring.empty());
  CHECK(memory.ring.front() == std::nullopt);
}

TEST_CASE("the ring behaves like a deque over random pushes and pops") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  Memory memory(512);
  std::deque<std::string> model;
  for (int step = 0; step < 100'000; ++step) {
    if (random() % 2 == 0) {
      const std::string text(random() % memory.ring.max_message(), static_cast<char>('a' + step % 26));
      if (push(memory.ring, text))
        model.push_back(text);
      else
        REQUIRE_FALSE(model.empty());
    } else if (model.empty()) {
      REQUIRE(pop(memory.ring) == std::nullopt);
    } else {
      REQUIRE(pop(memory.ring) == model.front());
      model.pop_front();
    }
  }
}

TEST_CASE("a consumer thread sees every message once, whole and in order") {
  constexpr std::uint32_t count = 50'000;
  Memory memory(1024);
  std::jthread producer([&memory] {
    MessageRing ring(memory.lines[0].bytes, 1024);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::string text(i % 100, static_cast<char>('a' + i % 26));
      while (!push(ring, text)) std::this_thread::yield();
    }
  });
  for (std::uint32_t i = 0; i < count; ++i) {
    std::optional<std::string> got;
    while (!(got = pop(memory.ring))) std::this_thread::yield();
    REQUIRE(*got == std::string(i % 100, static_cast<char>('a' + i % 26)));
  }
}

TEST_CASE("a producer process killed at any moment leaves only whole messages") {
  for (int round = 0; round < 20; ++round) {
    const Segment segment = Segment::create(1 << 16);
    const pid_t child = ::fork();
    if (child == 0) {
      MessageRing ring(segment.data(), 1 << 14);
      for (std::uint32_t i = 0;; ++i) {
        const std::string text(i % 200, static_cast<char>('a' + i % 26));
        while (!push(ring, text)) std::this_thread::yield();
      }
    }
    MessageRing ring(segment.data(), 1 << 14);
    std::uint32_t next = 0;
    const auto take_all = [&] {
      while (const auto text = pop(ring)) {
        REQUIRE(*text == std::string(next % 200, static_cast<char>('a' + next % 26)));
        ++next;
      }
    };
    while (next < 1000U * static_cast<unsigned>(round)) take_all();
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    take_all();
  }
}

}  // namespace
}  // namespace manyhands::shm
