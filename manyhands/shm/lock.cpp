#include "manyhands/shm/lock.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/race.hpp"

namespace manyhands::shm {
namespace {

using namespace std::chrono_literals;

constexpr int spins = 100;             // before a waiter sleeps: about what a sleep and a wake cost
constexpr Duration first_slice = 1ms;  // short, as a holder that is gone is often gone already
constexpr Duration longest_slice = 50ms;
constexpr std::int64_t try_patience_ns = 1'000'000;  // see try_lock()

// The last lock that this thread tried in vain, to look at its holder if it tries on.
struct FailedTry {
  const LockState* state;
  std::uint32_t owner;
  std::int64_t looked_ns;
};
constinit thread_local FailedTry failed_try{};

struct Candidate {
  const LockState* state;
  ThreadToken me;
  bool bounded;  // the wait has a time limit
};

// Whether a fiber could take the lock now, or be told that it waits for itself. All who could have it are
// fibers of this process or told the table that they left.
bool can_take(const void* context) {
  const auto& candidate = *static_cast<const Candidate*>(context);
  const ThreadToken owner = candidate.state->owner();
  if (owner == 0) return true;
  if (owner == candidate.me) return candidate.state->recursive || !candidate.bounded;
  return candidate.state->policy() != WhenAbandoned::wait && has_left(owner);
}

std::string since(Site site, std::int64_t since_ns) {
  if (site == 0) return "it is not known where it took it";
  return fmt::format("it took it {} ago at {}",
                     describe_duration(std::max<std::int64_t>(now_ns() - since_ns, 0)), describe(site));
}

}  // namespace

AnyLock::AnyLock(const LockOptions& options, bool recursive)
    : block_(Block::create(sizeof(LockState), BlockKind::lock)), state_(&at<LockState>(block_->offset())) {
  read_schedule_variables();
  state_->recursive = recursive;
  state_->when_abandoned = options.when_abandoned;
  std::copy_n(options.name.data(), std::min(options.name.size(), state_->name.size() - 1),
              state_->name.data());
}

AnyLock::AnyLock(BlockPtr block, bool recursive)
    : block_(std::move(block)), state_(&at<LockState>(block_->offset())) {
  if (state_->recursive != recursive) {
    throw Error(fmt::format("{} was taken for {}: they are different types",
                            describe_target(block_->offset()), recursive ? "an RLock" : "a Lock"));
  }
}

std::string AnyLock::name() const {
  const std::string given = state_->name.data();
  return given.empty() ? describe_target(block_->offset()) : given;
}

// ---- Taking.

bool AnyLock::take_slowly(const Deadline& deadline, const Where& where) const {
  const Site site = intern(where);
  bool taken = false;
  if (Scheduler* scheduler = current_scheduler()) {
    taken = take_scheduled(*scheduler, deadline, site);
  } else {
    point(OpKind::acquire, block_->offset(), where);
    taken = take_contended(deadline, site);
  }
  if (taken && watching_races()) race::acquired(block_->offset());
  return taken;
}

bool AnyLock::take_scheduled(Scheduler& scheduler, const Deadline& deadline, Site site) const {
  const Operation operation{OpKind::acquire, block_->offset(), site};
  const Candidate candidate{state_, this_thread_token(), deadline.bounded()};
  const Readiness ready{can_take, &candidate};
  const bool once = deadline.passed();
  do {
    if (once) {
      scheduler.step(operation, {});
    } else {
      const WaitScope wait(operation.object, site, {.bounded = deadline.bounded()});
      if (!deadline.bounded()) {
        scheduler.step(operation, ready);
      } else if (!scheduler.step_or_time_out(operation, ready)) {
        return false;
      }
    }
    if (take_if_free_or_ended(deadline, site)) return true;
  } while (!once);
  return false;
}

bool AnyLock::take_if_free_or_ended(const Deadline& deadline, Site site) const {
  if (try_take(0, site) || take_again_if_mine(deadline, site)) return true;
  const std::uint32_t seen = state_->word.load(std::memory_order_relaxed);
  const ThreadToken owner = seen & LockState::owner_mask;
  return owner != 0 && has_left(owner) && take_from_ended(seen, site);
}

void AnyLock::take_all_scheduled(std::span<const AnyLock* const> locks, Site site) {
  Scheduler& scheduler = *current_scheduler();
  std::vector<Candidate> candidates;
  std::vector<Offset> blocks;
  for (const AnyLock* lock : locks) {
    candidates.push_back({lock->state_, this_thread_token(), false});
    blocks.push_back(lock->block_->offset());
  }
  const Operation operation{OpKind::acquire, blocks.front(), site, std::span(blocks).subspan(1)};
  const auto is_own = [](const Candidate& one) {
    return !one.state->recursive && one.state->owner() == one.me;
  };
  const auto can_go_on = [&] {
    return std::any_of(candidates.begin(), candidates.end(), is_own) ||
           std::all_of(candidates.begin(), candidates.end(), [](const auto& one) { return can_take(&one); });
  };
  const Readiness ready{
      [](const void* context) { return (*static_cast<const decltype(can_go_on)*>(context))(); }, &can_go_on};
  std::size_t taken = 0;
  const auto release = [&] {
    while (taken > 0) locks[--taken]->give_back();
  };
  const WaitScope wait(operation.object, site);
  do {
    release();
    scheduler.step(operation, ready);
    for (std::size_t i = 0; i < locks.size(); ++i)
      if (is_own(candidates[i])) locks[i]->take_again_if_mine({}, site);  // throws
    try {
      while (taken < locks.size() && locks[taken]->take_if_free_or_ended({}, site)) ++taken;
    } catch (...) {
      release();
      throw;
    }
  } while (taken < locks.size());
  if (watching_races()) {
    for (const AnyLock* lock : locks) race::acquired(lock->block_->offset());
  }
}

bool AnyLock::take_contended(const Deadline& deadline, Site site) const {
  if (try_take(0, site) || take_again_if_mine(deadline, site)) return true;
  if (deadline.passed()) return take_if_abandoned_for_long(site);
  for (int i = 0; i < spins; ++i) {
    cpu_relax();
    if (state_->word.load(std::memory_order_relaxed) == 0 && try_take(0, site)) return true;
  }
  return take_asleep(deadline, site);
}

bool AnyLock::take_asleep(const Deadline& deadline, Site site) const {
  FutexWord& word = state_->word;
  WaitScope wait(block_->offset(), site, {.bounded = deadline.bounded()});
  Duration slice = first_slice;
  std::int64_t look_at_ns = 0;
  bool slept = false;
  for (;;) {
    std::uint32_t seen = word.load(std::memory_order_relaxed);
    const ThreadToken owner = seen & LockState::owner_mask;
    if (owner == 0) {
      // Others may sleep on the word still; whoever slept himself wakes one more when he is done.
      if (try_take(slept ? LockState::waiters : 0, site)) return true;
      continue;
    }
    if ((seen & LockState::waiters) == 0 &&
        !word.compare_exchange_strong(seen, seen | LockState::waiters, std::memory_order_relaxed))
      continue;
    seen |= LockState::waiters;
    if (deadline.passed()) return take_if_abandoned_for_long(site);
    if (const std::int64_t now = now_ns(); now >= look_at_ns) {
      // A holder that was killed shows in /proc alone; asking takes longer than most locks are held, so not
      // before the first slice is over.
      if (has_left(owner) || (look_at_ns != 0 && !is_alive(owner))) {
        if (take_from_ended(seen, site)) return true;
        if (state_->policy() != WhenAbandoned::wait) continue;  // somebody was faster
      }
      wait.look();
      if (look_at_ns != 0) slice = std::min(slice * 4, longest_slice);
      look_at_ns = now + slice.count();
    }
    futex_wait(word, seen, Deadline(std::min(slice, deadline.left())));
    slept = true;
  }
}

// If this thread has the lock: takes an RLock once more; throws DeadlockError for a Lock without time limit.
bool AnyLock::take_again_if_mine(const Deadline& deadline, Site site) const {
  if (!held_by_this_thread()) return false;
  if (state_->recursive) {
    state_->depth.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  if (deadline.bounded()) return false;
  throw DeadlockError(
      fmt::format("deadlock: {} would wait for itself at {}: it has {} already, since {}. Use mh::RLock for "
                  "a lock that its "
                  "holder may take again.",
                  describe_holder(this_thread_token()), describe(site), describe_target(block_->offset()),
                  describe(state_->site.load(std::memory_order_relaxed))));
}

// After a try in vain: looks at the holder, at most once a millisecond.
bool AnyLock::take_if_abandoned_for_long(Site site) const {
  const std::uint32_t seen = state_->word.load(std::memory_order_relaxed);
  const ThreadToken owner = seen & LockState::owner_mask;
  if (owner == 0) return try_take(0, site);
  const std::int64_t now = now_ns();
  if (failed_try.state != state_ || failed_try.owner != owner) {
    failed_try = {state_, owner, now};
    return has_left(owner) && take_from_ended(seen, site);
  }
  if (now - failed_try.looked_ns < try_patience_ns) return false;
  failed_try.looked_ns = now;
  return !is_alive(owner) && take_from_ended(seen, site);
}

// Takes the lock over from a holder that has ended: keeps it (adopt), or frees it and throws (report). False
// if somebody else was faster, or with `wait`.
bool AnyLock::take_from_ended(std::uint32_t seen, Site site) const {
  const WhenAbandoned policy = state_->policy();
  if (policy == WhenAbandoned::wait) return false;
  // These are the holder's, or 0, if the exchange finds it still there: only a holder writes them.
  const Site held_site = state_->site.load(std::memory_order_relaxed);
  const std::int64_t held_since_ns = state_->since_ns.load(std::memory_order_relaxed);
  // acquire: what the holder wrote is seen, as far as it came. Everyone who meets this holder tries the same
  // exchange, and one succeeds.
  if (!state_->word.compare_exchange_strong(seen, this_thread_token() | LockState::waiters,
                                            std::memory_order_acquire, std::memory_order_relaxed))
    return false;
  state_->depth.store(0, std::memory_order_relaxed);
  if (watching_races()) race::joined(seen & LockState::owner_mask);
  if (policy == WhenAbandoned::adopt) {
    state_->since_ns.store(coarse_ns(), std::memory_order_relaxed);
    state_->site.store(site, std::memory_order_relaxed);
    return true;
  }
  forget_user();
  state_->site.store(0, std::memory_order_relaxed);
  after_release(state_->word.exchange(0, std::memory_order_release));
  const std::string lock = describe_target(block_->offset());
  throw LockAbandoned(fmt::format(
      "{}, wanted at {}, was abandoned: {} did not release it; {}. What the lock guards may be half written. "
      "The lock is free now: look at the data, then take it again. With {{.when_abandoned = "
      "mh::WhenAbandoned::adopt}} the next taker just gets it, with wait all wait for a release().",
      lock, describe(site), describe_holder(seen & LockState::owner_mask), since(held_site, held_since_ns)));
}

// A Value's lock reports those that end only while a user holds it (shm/value.hpp). Called by its holder.
void AnyLock::forget_user() const noexcept {
  if (header_of(block_->offset()).kind != BlockKind::value) return;
  std::atomic_ref(state_->when_abandoned).store(WhenAbandoned::adopt, std::memory_order_relaxed);
}

bool AnyLock::try_take(std::uint32_t flag, Site site) const noexcept {
  std::uint32_t expected = 0;
  // acquire: pairs with the release in Lock::unlock()
  if (!state_->word.compare_exchange_strong(expected, this_thread_token() | flag, std::memory_order_acquire,
                                            std::memory_order_relaxed))
    return false;
  state_->since_ns.store(coarse_ns(), std::memory_order_relaxed);
  state_->site.store(site, std::memory_order_relaxed);
  return true;
}

// ---- Releasing.

// As a part of the step that took it.
void AnyLock::give_back() const noexcept {
  if (state_->depth.load(std::memory_order_relaxed) != 0) {
    state_->depth.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  state_->site.store(0, std::memory_order_relaxed);
  if ((state_->word.exchange(0, std::memory_order_release) & LockState::waiters) != 0)
    futex_wake(state_->word);
}

void AnyLock::release_slowly(const Where& where) const {
  point(OpKind::release, block_->offset(), where);
  if (state_->recursive) {
    const ThreadToken me = this_thread_token();
    for (;;) {
      std::uint32_t seen = state_->word.load(std::memory_order_relaxed);
      const ThreadToken owner = seen & LockState::owner_mask;
      if (owner == me || owner == 0) break;
      if (is_alive(owner)) {
        throw Error(
            fmt::format("release {} at {}: {} has it since {}, and only the thread that has an RLock can "
                        "release it. Use mh::Lock for a lock that others may release.",
                        describe_target(block_->offset()), describe(intern(where)), describe_holder(owner),
                        describe(state_->site.load(std::memory_order_relaxed))));
      }
      // Taken over first, as somebody else may take it over just now. acquire: what its holder wrote
      if (!state_->word.compare_exchange_strong(seen, me | LockState::waiters, std::memory_order_acquire))
        continue;
      state_->depth.store(0, std::memory_order_relaxed);
      forget_user();
    }
    if (state_->owner() == me && state_->depth.load(std::memory_order_relaxed) != 0) {
      state_->depth.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
  }
  if (watching_races()) race::released(block_->offset());
  state_->site.store(0, std::memory_order_relaxed);
  // release: what was written under the lock is seen by the next holder
  const std::uint32_t before = state_->word.exchange(0, std::memory_order_release);
  if (before == 0 || (before & LockState::waiters) != 0) after_release(before);
}

void AnyLock::after_release(std::uint32_t before) const {
  if (before == 0) {
    throw Error(
        fmt::format("release {}: nobody has it. It was released twice, or by somebody else meanwhile.",
                    describe_target(block_->offset())));
  }
  if ((before & LockState::waiters) != 0) futex_wake(state_->word);
}

void AnyLock::release_if_held_slowly(const Where& where) const noexcept {
  try {
    if (held_by_this_thread()) {
      release_slowly(where);
      return;
    }
    const auto text = fmt::format(
        "manyhands: a guard of {} ends in {}, which does not have it any more: it was released meanwhile\n",
        describe_target(block_->offset()), describe_holder(this_thread_token()));
    std::fputs(text.c_str(), stderr);
  } catch (...) {
    std::fputs("manyhands: a guard ends that does not have its lock any more\n", stderr);
  }
}

std::uint32_t AnyLock::release_all(const Where& where) const {
  if (!held_by_this_thread()) {
    throw Error(fmt::format("{} at {}: {} does not have the lock; take it first",
                            describe_target(block_->offset()), describe(intern(where)),
                            describe_holder(this_thread_token())));
  }
  const std::uint32_t depth = state_->depth.exchange(0, std::memory_order_relaxed);
  release_slowly(where);
  return depth;
}

void AnyLock::take_again(std::uint32_t depth, const Where& where) const {
  lock(where);
  state_->depth.store(depth, std::memory_order_relaxed);
}

}  // namespace manyhands::shm
