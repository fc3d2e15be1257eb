#pragma once
// What a task can know about itself while it runs.

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>

namespace manyhands::this_task {

// Whether the task should end early: it was cancelled, its map failed or was given up, or its deadline has
// passed. A few nanoseconds; false outside of tasks.
bool stop_requested() noexcept;

// The item's index in its map or stream, whatever the verb and the chunk; the number of the call for apply;
// -1 outside of tasks.
std::int64_t index() noexcept;

// The task's own random numbers: the stream of an item depends on the map's seed (MapOptions::seed) and the
// item's index, that of a call on the call's seed, and on nothing else: not on the worker, their number, the
// chunk, or the attempt. So a run can be repeated on any machine. A std::mt19937_64 whose state SplitMix64
// fills from both, made at the first use in an item (a few microseconds); valid until the item, or call,
// ends. Its period is 2^19937 - 1; the streams of one seed all start in different states, so that they do not
// overlap in practice. Not for cryptography. Outside of tasks: a generator of the
// thread, seeded by std::random_device.
std::mt19937_64& rng();
// A number that is the task's own in the same sense, to seed another generator with.
std::uint64_t seed();

// 1 the first time, 2 when it runs again because its worker died; 0 outside of tasks.
std::uint32_t attempt() noexcept;

// The number of the worker, from 0 to size() - 1; -1 outside of tasks. No two tasks that run at once have the
// same, but for a ThreadPool's after a wait: meanwhile its number was another one's.
std::int32_t worker() noexcept;

}  // namespace manyhands::this_task

namespace manyhands::task {

// What an executor tells about the task that it runs on this thread. Pointers may be null.
struct Context {
  const std::atomic<std::uint32_t>* stop = nullptr;  // not zero: cancelled
  // The current index, if it changes while the context stands.
  const std::atomic<std::uint64_t>* item = nullptr;
  std::int64_t index = -1;
  std::int64_t deadline_at_ns = INT64_MAX;  // CLOCK_MONOTONIC
  std::uint32_t attempt = 1;
  std::int32_t worker = -1;
  std::uint64_t seed = 0;  // of the call, or of the map
  bool is_item = false;    // `index` is that of an item, which has a stream of its own; true if `item` is set
};

// Makes `context` that of this thread for a scope; restores the one before. Refers to it.
class ContextScope {
 public:
  explicit ContextScope(const Context& context) noexcept;
  ~ContextScope();
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

  const Context& context() const noexcept { return *context_; }
  std::int64_t index() const noexcept;
  std::uint64_t seed() const noexcept;
  std::mt19937_64& rng();
  std::uint64_t next_executor() noexcept { return executors_++; }

 private:
  struct Generator {
    std::int64_t index;
    std::mt19937_64 engine;
  };
  std::int64_t stream() const noexcept;  // of `context`'s seed
  const Context* context_;
  ContextScope* before_;
  std::unique_ptr<Generator> generator_;  // made at the first use
  std::uint64_t executors_ = 0;           // that the task has made
};

// Item `index` of a task that has several, or one: the task's context with that index.
class ItemScope {
 public:
  explicit ItemScope(std::int64_t index) noexcept;

 private:
  Context context_;
  ContextScope scope_;
};

// 64 bits that look random, of both; a different one for each `number` of the same `seed`.
std::uint64_t mix(std::uint64_t seed, std::uint64_t number) noexcept;

// The seeds that an executor gives to what is submitted to it without one: different for each submission and
// each executor, the same in each run of a program that makes and uses its executors in the same order. Any
// thread.
class Seeds {
 public:
  Seeds() noexcept;
  std::uint64_t of_map() noexcept {
    return mix(base_ + 1, next_map_.fetch_add(1, std::memory_order_relaxed));
  }
  // Also of calls with one seed: they are many.
  std::uint64_t of_call(const std::uint64_t* given) noexcept {
    return mix(given != nullptr ? *given : base_ + 2, next_call_.fetch_add(1, std::memory_order_relaxed));
  }

 private:
  std::uint64_t base_;
  std::atomic<std::uint64_t> next_map_{0};
  std::atomic<std::uint64_t> next_call_{0};
};

}  // namespace manyhands::task
