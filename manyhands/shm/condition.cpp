#include "manyhands/shm/condition.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/shm/company.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/slices.hpp"

namespace manyhands {

using namespace shm;

namespace {

// A waiter's way: entering, waiting, then notified (by who has the lock) or free again (it gave up).
enum Step : std::uint32_t { entering, waiting, notified };

// In `thread`: nobody's any more, but still notified; for another one to take over. No token has this bit.
constexpr ThreadToken orphan = ThreadToken{1} << 31;

}  // namespace

// An entry that a waiter owns from enter() until it goes on. What each step may do:
//   enter(), notify(): with the lock held; they are the only ones that enter and notify.
//   the owner gives up: waiting -> entering, by compare-and-swap; fails if it was notified just then.
//   another waiter takes over: changes `thread` of a notified entry whose owner is dead, by compare-and-swap.
// So at any moment a notification lies in exactly one entry, and whoever is killed leaves it there.
struct Condition::Waiter {
  std::atomic<ThreadToken> thread;    // 0: free
  FutexWord step;                     // a Step
  std::atomic<std::uint64_t> ticket;  // the order of coming, from 1
  std::atomic<std::uint64_t> until;   // once notified: tickets below it waited at that moment
};

struct Condition::Chunk {
  std::atomic<Offset> next;  // another chunk, or 0; written once
  std::array<Waiter, 16> waiters;
};

struct Condition::State {
  Offset lock;                         // the lock's block, on which this one has a reference; constant
  std::atomic<std::uint64_t> tickets;  // the next ticket; written with the lock held
  Chunk first;
};

namespace {

template <class L>
BlockPtr make_block(std::size_t size, const L& lock) {
  if (header_of(lock.block()->offset()).kind != BlockKind::lock)
    throw Error("a Condition needs a Lock or an RLock; the lock of a Value is part of the Value");
  BlockPtr block = Block::create(size, BlockKind::condition);
  add_ref(lock.block()->offset());
  at<Offset>(block->offset()) = lock.block()->offset();
  return block;
}

}  // namespace

void Condition::tidy(Offset payload) noexcept {
  State& state = at<State>(payload);
  for (Offset chunk = state.first.next.load(); chunk != 0;) {
    const Offset next = at<Chunk>(chunk).next.load();
    shm::release(chunk);
    chunk = next;
  }
  if (state.lock != 0) shm::release(state.lock);
}

const bool Condition::tidied = (on_last_release(BlockKind::condition, &Condition::tidy), true);

Condition::AnyLock Condition::lock_of(const BlockPtr& block) {
  BlockPtr lock = Block::attach(at<State>(block->offset()).lock, BlockKind::lock);
  if (at<LockState>(lock->offset()).recursive) return RLock(std::move(lock));
  return Lock(std::move(lock));
}

Condition::Condition(AnyLock lock, BlockPtr block) : block_(std::move(block)), lock_(std::move(lock)) {
  static_cast<void>(tidied);
  state().tickets.store(1, std::memory_order_relaxed);
}
Condition::Condition(const Lock& lock) : Condition(AnyLock(lock), make_block(sizeof(State), lock)) {}
Condition::Condition(const RLock& lock) : Condition(AnyLock(lock), make_block(sizeof(State), lock)) {}
Condition::Condition(BlockPtr block) : block_(std::move(block)), lock_(lock_of(block_)) {}

void Condition::require_lock(const char* what, const Where& where) const {
  if (any_lock().held_by_this_thread()) return;
  throw Error(fmt::format("{} {} at {}: {} does not have its lock, {}; take it first", what,
                          describe_target(block_->offset()), describe(intern(where)),
                          describe_holder(this_thread_token()), any_lock().name()));
}

// visit(Waiter&) -> whether to go on.
template <class Visit>
void Condition::for_each(Visit visit) const {
  for (Chunk* chunk = &state().first;;) {
    for (Waiter& waiter : chunk->waiters) {
      if (!visit(waiter)) return;
    }
    const Offset next = chunk->next.load(std::memory_order_acquire);
    if (next == 0) return;
    chunk = &at<Chunk>(next);
  }
}

// This thread's entry, waiting. Requires the lock.
Condition::Waiter& Condition::enter() const {
  const ThreadToken me = this_thread_token();
  Waiter* mine = nullptr;
  const auto claim = [&](Waiter& waiter, ThreadToken before) {
    if (waiter.thread.compare_exchange_strong(before, me)) mine = &waiter;
    return mine == nullptr;
  };
  for_each([&](Waiter& waiter) { return waiter.thread.load() != 0 || claim(waiter, 0); });
  if (mine == nullptr) {
    // Entries of dead waiters, unless one still has a notification for somebody who waits.
    std::uint64_t oldest = UINT64_MAX;
    for_each([&](const Waiter& waiter) {
      if (waiter.step.load() == waiting && is_alive(waiter.thread.load()))
        oldest = std::min(oldest, waiter.ticket.load());
      return true;
    });
    for_each([&](Waiter& waiter) {
      const ThreadToken thread = waiter.thread.load();
      if (thread != orphan && is_alive(thread)) return true;
      return (waiter.step.load() == notified && waiter.until.load() > oldest) || claim(waiter, thread);
    });
  }
  if (mine == nullptr) {
    const Offset made = allocate(sizeof(Chunk), BlockKind::raw);
    mine = &at<Chunk>(made).waiters.front();
    mine->thread.store(me);
    Chunk* last = &state().first;
    for (Offset none = 0; !last->next.compare_exchange_strong(none, made); none = 0) last = &at<Chunk>(none);
  }
  mine->ticket.store(state().tickets.fetch_add(1));
  mine->step.store(waiting);
  return *mine;
}

// Frees the entry. Returns false if it was notified just then, and stays this thread's.
bool Condition::give_up(Waiter& mine) const noexcept {
  std::uint32_t expected = waiting;
  if (!mine.step.compare_exchange_strong(expected, entering)) return false;
  mine.thread.store(0);
  return true;
}

// Takes over a notification of one that was killed before it could go on; `mine` is then that entry.
bool Condition::take_over(Waiter*& mine) const noexcept {
  const ThreadToken me = this_thread_token();
  const std::uint64_t ticket = mine->ticket.load();
  Waiter* found = nullptr;
  for_each([&](Waiter& waiter) {
    if (waiter.step.load() != notified || waiter.until.load() <= ticket) return true;
    ThreadToken thread = waiter.thread.load();
    if (thread == 0 || thread == me || (thread != orphan && is_alive(thread))) return true;
    if (!waiter.thread.compare_exchange_strong(thread, me)) return true;
    found = &waiter;
    return false;
  });
  if (found == nullptr) return false;
  if (give_up(*mine)) {
    mine = found;
  } else {
    found->thread.store(orphan);  // this thread was notified itself meanwhile: one is enough
  }
  return true;
}

enum class Condition::End : std::uint8_t { notified, timed_out, alone };

// Blocks until the entry is notified, the deadline passes, or nobody is left who could notify: then the entry
// is free again and `mine` is null.
Condition::End Condition::sleep(Waiter*& mine, const Deadline& deadline, Site site) const {
  const Offset object = block_->offset();
  const WaitScope scope(object, site, {.bounded = deadline.bounded()});
  if (Scheduler* const scheduler = current_scheduler()) {
    const Readiness ready{
        [](const void* step) { return static_cast<const FutexWord*>(step)->load() == notified; },
        &mine->step};
    if (!deadline.bounded()) {
      scheduler->step({OpKind::wait, object, site}, ready);
      return End::notified;
    }
    if (scheduler->step_or_time_out({OpKind::wait, object, site}, ready) || !give_up(*mine))
      return End::notified;
    mine = nullptr;
    return End::timed_out;
  }
  if (spin_until([&] { return mine->step.load() == notified; })) return End::notified;
  Deadline look(slice);
  Company company(*block_, deadline);
  while (mine->step.load() != notified) {
    if (deadline.passed()) {
      if (!give_up(*mine)) return End::notified;
      mine = nullptr;
      return End::timed_out;
    }
    sleep_slice(mine->step, waiting, deadline);
    if (!look.passed()) continue;
    const bool alone = company.is_gone();  // before the look at what others left
    if (take_over(mine)) return End::notified;
    if (alone && give_up(*mine)) {
      mine = nullptr;
      return End::alone;
    }
    look = Deadline(slice);
  }
  return End::notified;
}

// Takes the lock, whatever happens to others that had it; then throws what it heard of them.
void Condition::lock_again(std::uint32_t depth, const Where& where) const {
  std::exception_ptr abandoned;
  for (;;) {
    try {
      any_lock().take_again(depth, where);
      break;
    } catch (const LockAbandoned&) {
      if (!abandoned) abandoned = std::current_exception();
    }
  }
  if (abandoned) std::rethrow_exception(abandoned);
}

bool Condition::wait(TimeLimit timeout, const Where& where) const {
  require_lock("wait for", where);
  point(OpKind::wait, block_->offset(), where);
  const Deadline deadline = deadline_after(timeout);
  Waiter* mine = &enter();
  const std::uint32_t depth = any_lock().release_all(where);
  bool was_notified = false;
  try {
    const End end = sleep(mine, deadline, intern(where));
    was_notified = end == End::notified;
    lock_again(depth, where);
    if (end == End::alone) throw_alone("wait() for", block_->offset(), intern(where), "notify it");
  } catch (...) {
    // The notification, if there is one, is for somebody else.
    if (mine != nullptr && (was_notified || !give_up(*mine))) mine->thread.store(orphan);
    throw;
  }
  // Not before the lock is taken: until then it can be taken over if this thread is killed.
  if (was_notified) {
    mine->step.store(entering);
    mine->thread.store(0);
  }
  return was_notified;
}

void Condition::notify(std::size_t count, const Where& where) const {
  require_lock("notify", where);
  point(OpKind::set, block_->offset(), where);
  std::vector<Waiter*> sleepers;
  for_each([&](Waiter& waiter) {
    if (waiter.step.load() == waiting) sleepers.push_back(&waiter);
    return true;
  });
  const auto longer = [](const Waiter* a, const Waiter* b) { return a->ticket.load() < b->ticket.load(); };
  std::sort(sleepers.begin(), sleepers.end(), longer);
  const std::uint64_t until = state().tickets.load();
  for (Waiter* const sleeper : sleepers) {
    if (count == 0) return;
    sleeper->until.store(until);
    std::uint32_t expected = waiting;
    if (!sleeper->step.compare_exchange_strong(expected, notified)) continue;  // its time is over
    futex_wake_all(sleeper->step);
    --count;
  }
}

}  // namespace manyhands
