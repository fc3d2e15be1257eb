#pragma once
// Scheduling points: every operation of a primitive on shared memory announces itself here before it happens.
//
// Normally that costs one predictable branch. With mh::explore, a Scheduler decides who goes on and knows
// what each waits for, so that no operation ever blocks for real; with MANYHANDS_SCHED=chaos:SEED, real
// processes are delayed at random; with MANYHANDS_RACE=1, accesses to values are checked for an order
// (race.hpp).
//
// Any thread.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <source_location>
#include <span>
#include <string_view>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/sites.hpp"

namespace manyhands::shm {

enum class OpKind : std::uint8_t {
  load,     // of a Value; looks at a Lock, Semaphore, Barrier, Queue
  store,    // of a Value
  update,   // of a Value, as one step
  acquire,  // Lock, RLock, Semaphore
  release,
  set,   // Event, Condition: notify; Barrier: arrive; Queue: close
  wait,  // Event, Condition, Barrier
  put,   // Queue, Pipe
  get,
  start,  // Process
  join,
  sleep,  // mh::sleep_for
};
const char* name_of(OpKind kind) noexcept;  // "acquire"

struct Operation {
  OpKind kind;
  Offset object;  // the block that it is about; 0: none, it commutes with all others
  Site site;
  std::span<const Offset> more = {};  // further blocks that it is about, for as long as it is announced
};

// Says whether an operation can be done now, without doing it.
struct Readiness {
  bool (*holds)(const void* context) = nullptr;  // null: always
  const void* context = nullptr;
};

// mh::explore's side. All calls come from the fiber that runs.
class Scheduler {
 public:
  // Blocks the fiber until it is chosen to do `operation`, which is not before `ready` holds.
  virtual void step(const Operation& operation, Readiness ready) = 0;
  // As step(), for a wait with a time limit: the fiber may be chosen at any time. Returns whether `ready`
  // held.
  virtual bool step_or_time_out(const Operation& operation, Readiness ready) = 0;
  // A new fiber that runs body(); returns its number. It is ready at once.
  virtual std::uint32_t start(std::string_view name, void (*body)(void*), void* context) = 0;
  // Whether fiber `number` has ended.
  virtual bool ended(std::uint32_t number) const = 0;

 protected:
  ~Scheduler() = default;
};

namespace detail {
// What is switched on in this process: bits of Watch. Written by mh::explore and at the start.
enum Watch : std::uint32_t { watch_explore = 1, watch_chaos = 2, watch_race = 4 };
inline constinit std::atomic<std::uint32_t> watch{0};
inline constinit thread_local Scheduler* scheduler = nullptr;
void slow_point(const Operation& operation) noexcept;
}  // namespace detail

// The scheduler that the calling thread is run by; nullptr normally. Primitives that would block ask it
// instead.
inline Scheduler* current_scheduler() noexcept {
  if (detail::watch.load(std::memory_order_relaxed) == 0) [[likely]]
    return nullptr;
  return detail::scheduler;
}
inline bool watching_races() noexcept {
  return (detail::watch.load(std::memory_order_relaxed) & detail::watch_race) != 0;
}

// A point before an operation that cannot block: lets others go first if someone wants that.
inline void point(OpKind kind, Offset object, const std::source_location& where) {
  if (detail::watch.load(std::memory_order_relaxed) == 0) [[likely]]
    return;
  const Operation operation{kind, object, intern(where)};
  if (detail::scheduler != nullptr) {
    detail::scheduler->step(operation, {});
  } else {
    detail::slow_point(operation);
  }
}

// The same where the place is known as a Site already. Requires that something is switched on.
inline void point(OpKind kind, Offset object, Site site) {
  const Operation operation{kind, object, site};
  if (detail::scheduler != nullptr) {
    detail::scheduler->step(operation, {});
  } else {
    detail::slow_point(operation);
  }
}

// Reads MANYHANDS_SCHED (chaos:SEED, or chaos for a seed of its own) and MANYHANDS_RACE; the first call
// counts. The program calls it before main(), and ends with a message if a variable makes no sense; forked
// processes inherit what was read. Says on stderr, once per program, that chaos is on and its seed. Throws
// Error.
void read_schedule_variables();

// For sleep_for().
void sleep_until_ns(std::int64_t until_ns) noexcept;

}  // namespace manyhands::shm

namespace manyhands {

// Sleeps, also if signals come. In an explored program it does not sleep, but is a step like others: any
// process may go on.
template <class Rep, class Period>
void sleep_for(const std::chrono::duration<Rep, Period>& time,
               const std::source_location& where = std::source_location::current()) {
  shm::point(shm::OpKind::sleep, 0, where);
  if (shm::current_scheduler() != nullptr || time <= time.zero()) return;
  using Wide = std::chrono::duration<double, std::nano>;
  const std::int64_t now = now_ns();
  shm::sleep_until_ns(Wide(time).count() < 9e18 - static_cast<double>(now)
                          ? now + std::chrono::ceil<Duration>(time).count()
                          : INT64_MAX);
}

}  // namespace manyhands
