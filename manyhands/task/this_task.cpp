#include "manyhands/task/this_task.hpp"

#include "manyhands/base/clock.hpp"

namespace manyhands {
namespace {

thread_local constinit const task::Context* current = nullptr;

}  // namespace

namespace this_task {

bool stop_requested() noexcept {
  if (current == nullptr) return false;
  if (current->stop != nullptr && current->stop->load(std::memory_order_relaxed) != 0)
    return true;  // a hint, orders nothing
  return current->deadline_at_ns != INT64_MAX && now_ns() >= current->deadline_at_ns;
}

std::int64_t index() noexcept {
  if (current == nullptr) return -1;
  if (current->item != nullptr)
    return static_cast<std::int64_t>(current->item->load(std::memory_order_relaxed));  // our own store
  return current->index;
}

std::uint32_t attempt() noexcept { return current == nullptr ? 0 : current->attempt; }

std::int32_t worker() noexcept { return current == nullptr ? -1 : current->worker; }

}  // namespace this_task

namespace task {

ContextScope::ContextScope(const Context& context) noexcept : before_(current) { current = &context; }
ContextScope::~ContextScope() { current = before_; }

}  // namespace task
}  // namespace manyhands
