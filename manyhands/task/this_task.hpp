#pragma once
// What a task can know about itself while it runs.

#include <atomic>
#include <cstdint>

namespace manyhands::this_task {

// Whether the task should end early: it was cancelled, its map failed or was given up, or its deadline has
// passed. A few nanoseconds; false outside of tasks.
bool stop_requested() noexcept;

// The item's index in its map; the number of the call for apply; -1 outside of tasks.
std::int64_t index() noexcept;

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
  const std::atomic<std::uint64_t>* item =
      nullptr;  // the current index, if it changes while the context stands
  std::int64_t index = -1;
  std::int64_t deadline_at_ns = INT64_MAX;  // CLOCK_MONOTONIC
  std::uint32_t attempt = 1;
  std::int32_t worker = -1;
};

// Makes `context` that of this thread for a scope; restores the one before.
class ContextScope {
 public:
  explicit ContextScope(const Context& context) noexcept;
  ~ContextScope();
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  const Context* before_;
};

}  // namespace manyhands::task
