#include "manyhands/shm/event.hpp"

#include "manyhands/shm/company.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/shm/slices.hpp"

namespace manyhands {

using namespace shm;

void Event::set(const Where& where) const {
  point(OpKind::set, block_->offset(), where);
  if (watching_races()) [[unlikely]]
    race::released(block_->offset());
  std::uint32_t word = word_->load(std::memory_order_relaxed);
  std::uint32_t next = 0;
  do {
    next = (word & is_on) != 0 ? word : (word & ~waiters) + round + is_on;
    // release: pairs with is_over(); also if it was set already, for those that come later
  } while (!word_->compare_exchange_weak(word, next, std::memory_order_acq_rel, std::memory_order_relaxed));
  if ((word & waiters) != 0 && word != next) futex_wake_all(*word_);
}

void Event::clear(const Where& where) const {
  point(OpKind::set, block_->offset(), where);
  // acq_rel: a set() before stays seen through a set() that follows
  word_->fetch_and(~is_on, std::memory_order_acq_rel);
}

bool Event::is_set(const Where& where) const {
  point(OpKind::wait, block_->offset(), where);
  const bool set = (word_->load(std::memory_order_acquire) & is_on) != 0;
  if (set && watching_races()) [[unlikely]]
    race::acquired(block_->offset());
  return set;
}

// Whether it is set, or was since.
bool Event::is_over(const Wait& wait) noexcept {
  const std::uint32_t now = wait.word->load(std::memory_order_acquire);
  return (now & is_on) != 0 || now / round != wait.begun / round;
}

bool Event::wait(TimeLimit timeout, const Where& where) const {
  point(OpKind::wait, block_->offset(), where);
  // acquire: pairs with set()
  const Wait wait{word_, word_->load(std::memory_order_acquire)};
  const bool set =
      (wait.begun & is_on) != 0 || (timeout > Duration(0) && wait_slowly(wait, timeout, intern(where)));
  if (set && watching_races()) [[unlikely]]
    race::acquired(block_->offset());
  return set;
}

bool Event::wait_slowly(const Wait& wait, TimeLimit timeout, Site site) const {
  const bool bounded = timeout != Deadline::never;
  if (Scheduler* const scheduler = current_scheduler()) {
    const WaitScope scope(block_->offset(), site, {.bounded = bounded});
    const Operation operation{OpKind::wait, block_->offset(), site};
    const Readiness ready{[](const void* context) { return is_over(*static_cast<const Wait*>(context)); },
                          &wait};
    if (bounded) return scheduler->step_or_time_out(operation, ready);
    scheduler->step(operation, ready);
    return true;
  }
  if (spin_until([&] { return is_over(wait); })) return true;
  const Deadline deadline = deadline_after(timeout);
  const WaitScope scope(block_->offset(), site, {.bounded = bounded});
  Company company(*block_, deadline);
  for (;;) {
    if (is_over(wait)) return true;
    if (deadline.passed()) return false;
    // The word as it is while nobody set it; anything else is looked at again.
    std::uint32_t seen = wait.begun & ~(waiters | is_on);
    if (!word_->compare_exchange_strong(seen, seen | waiters, std::memory_order_relaxed) &&
        (seen & waiters) == 0)
      continue;
    sleep_slice(*word_, (wait.begun & ~is_on) | waiters, deadline);
    if (company.is_gone() && !is_over(wait)) throw_alone("wait() for", block_->offset(), site, "set it");
  }
}

}  // namespace manyhands
