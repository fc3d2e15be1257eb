#include "manyhands/task/async_result.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace manyhands::task {

void throw_timeout(const Progress& progress, TimeLimit timeout) {
  const double seconds = std::chrono::duration<double>(Duration(timeout)).count();
  if (const auto total = progress.total.value_or(1); total > 1) {
    throw Timeout(fmt::format("no result within {} s: {} of {} items are done; they go on", seconds,
                              progress.done, total));
  }
  throw Timeout(fmt::format("no result within {} s; the task goes on", seconds));
}

void throw_not_ready() {
  throw Error("successful() was asked before the task ended; ask ready() or wait() first");
}
void throw_empty() {
  throw Error("this AsyncResult refers to no task: it was default-constructed or moved from");
}

Duration serial_time(const std::vector<TaskMetadata>& tasks) {
  Duration sum{};
  for (const auto& task : tasks) {
    if (task.completed != TimePoint{}) sum += task.completed - task.started;
  }
  return sum;
}

Duration wall_time(const std::vector<TaskMetadata>& tasks) {
  if (tasks.empty()) return {};
  auto first = tasks.front().submitted;
  auto last = first;
  for (const auto& task : tasks) {
    first = std::min(first, task.submitted);
    last = std::max(last, task.completed);
  }
  return last - first;
}

}  // namespace manyhands::task
