#include "manyhands/threads/thread_states.hpp"

#include <fmt/core.h>

namespace manyhands::threads {

void check_deadline(Duration deadline, std::int64_t started_ns, std::int64_t index) {
  if (deadline == Deadline::never) return;
  const auto ran = now_ns() - started_ns;
  if (ran < deadline.count()) return;
  throw DeadlineExceeded(
      fmt::format("task {} ran {:g} s, longer than its deadline of {:g} s (a thread cannot be ended earlier: "
                  "let the task look at mh::this_task::stop_requested())",
                  index, static_cast<double>(ran) / 1e9, static_cast<double>(deadline.count()) / 1e9));
}

MapCounters::MapCounters(std::size_t items, int workers, const MapOptions& options)
    : items_(items),
      chunk_size_(std::max<std::size_t>(1, options.chunk != 0
                                               ? std::min(options.chunk, items)
                                               : items / (static_cast<std::size_t>(workers) * 256))),
      deadline_(options.deadline),
      seed_(options.seed.value_or(0)),
      chunks_((items + chunk_size_ - 1) / chunk_size_) {
  started_.released();
}

Progress MapCounters::progress() const noexcept {
  const std::lock_guard lock(error_mutex_);
  return {.done = done_items_.load(),
          .total = items_,
          .failed = error_ ? 1U : 0U,
          .elapsed = Duration(now_ns() - submitted_ns_)};
}

std::vector<TaskMetadata> MapCounters::metadata() const {
  std::vector<TaskMetadata> tasks;
  tasks.reserve(chunks_.size());
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const Chunk& chunk = chunks_[i];
    TaskMetadata task{.first = i * chunk_size_,
                      .count = std::min(chunk_size_, items_ - i * chunk_size_),
                      .submitted = TimePoint(std::chrono::nanoseconds(submitted_ns_))};
    if (chunk.done.load(std::memory_order_acquire)) {
      task.started = TimePoint(std::chrono::nanoseconds(chunk.started_ns));
      task.completed = TimePoint(std::chrono::nanoseconds(chunk.completed_ns));
      task.engine = chunk.worker;
    }
    tasks.push_back(std::move(task));
  }
  return tasks;
}

void MapCounters::fail(std::size_t item, std::exception_ptr error) {
  computed_.released();
  const std::lock_guard lock(error_mutex_);
  if (!error_ || item < error_item_) {
    error_ = std::move(error);
    error_item_ = item;
  }
  stop_.store(1);
}

std::exception_ptr MapCounters::error() const {
  computed_.acquired();
  const std::lock_guard lock(error_mutex_);
  return error_;
}

}  // namespace manyhands::threads
