#include "manyhands/shm/semaphore.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <climits>

#include "manyhands/base/error.hpp"
#include "manyhands/shm/company.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/shm/slices.hpp"

namespace manyhands {

using namespace shm;

Semaphore::Semaphore(std::int64_t permits, std::int64_t most)
    : block_(Block::create(sizeof(SemaphoreState), BlockKind::semaphore)),
      state_(&at<SemaphoreState>(block_->offset())) {
  if (permits < 0 || permits > max())
    throw Error(fmt::format("a semaphore with {} permits: it must have between 0 and {}", permits, max()));
  state_->most = static_cast<std::uint32_t>(most);
  state_->word.store(static_cast<std::uint32_t>(permits), std::memory_order_release);
}

bool Semaphore::acquire_slowly(TimeLimit timeout, const Where& where) const {
  const Site site = intern(where);
  const Offset object = block_->offset();
  bool taken = false;
  if (Scheduler* const scheduler = current_scheduler()) {
    const Operation operation{OpKind::acquire, object, site};
    const Readiness ready{
        [](const void* state) {
          return (static_cast<const SemaphoreState*>(state)->word.load() & SemaphoreState::permits) != 0;
        },
        state_};
    if (timeout <= Duration(0)) {
      scheduler->step(operation, {});
    } else {
      const WaitScope wait(object, site, {.bounded = timeout != Deadline::never});
      if (timeout == Deadline::never) {
        scheduler->step(operation, ready);
      } else {
        scheduler->step_or_time_out(operation, ready);
      }
    }
    taken = take(0);
  } else {
    point(OpKind::acquire, object, where);
    taken = take(0);
    if (!taken && timeout > Duration(0))
      taken = spin_until([&] { return take(0); }) || acquire_asleep(deadline_after(timeout), site);
  }
  if (taken && watching_races()) race::acquired(object);
  return taken;
}

bool Semaphore::acquire_asleep(const Deadline& deadline, Site site) const {
  const WaitScope wait(block_->offset(), site, {.bounded = deadline.bounded()});
  Company company(*block_, deadline);
  for (;;) {
    // With the mark, as others may sleep still: whoever gives the next permit finds out.
    if (take(SemaphoreState::waiters)) return true;
    std::uint32_t none = 0;
    if (!state_->word.compare_exchange_strong(none, SemaphoreState::waiters, std::memory_order_relaxed) &&
        none != SemaphoreState::waiters)
      continue;
    if (deadline.passed()) return false;
    sleep_slice(state_->word, SemaphoreState::waiters, deadline);
    if (company.is_gone() && value() == 0) throw_alone("acquire() of", block_->offset(), site, "release it");
  }
}

void Semaphore::release(std::int64_t permits, const Where& where) const {
  if (permits < 0)
    throw Error(fmt::format("release {} permits of a semaphore: give a positive number", permits));
  point(OpKind::release, block_->offset(), where);
  if (watching_races()) [[unlikely]]
    race::released(block_->offset());
  std::uint32_t before = state_->word.load(std::memory_order_relaxed);
  std::uint32_t after = 0;
  do {
    const std::uint32_t there = before & SemaphoreState::permits;
    if (permits > std::int64_t{state_->most} - there) {
      throw Error(fmt::format(
          "release {} at {}: it has {} permits of at most {}, and {} more do not fit: it was "
          "released more often than acquired",
          describe_target(block_->offset()), describe(intern(where)), there, state_->most, permits));
    }
    after = before + static_cast<std::uint32_t>(permits);
    // release: pairs with take()
  } while (!state_->word.compare_exchange_weak(before, after, std::memory_order_release,
                                               std::memory_order_relaxed));
  if ((before & SemaphoreState::waiters) == 0) return;
  const int wanted = static_cast<int>(std::min<std::int64_t>(permits, INT_MAX));
  // Nobody slept any more: take the mark away. Who sets it now sees the permits. If others changed the word
  // meanwhile, they see to the mark.
  if (futex_wake(state_->word, wanted) < wanted)
    state_->word.compare_exchange_strong(after, after & SemaphoreState::permits, std::memory_order_relaxed);
}

}  // namespace manyhands
