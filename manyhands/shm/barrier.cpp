#include "manyhands/shm/barrier.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include "manyhands/shm/company.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/shm/schedule.hpp"
#include "manyhands/shm/slices.hpp"

namespace manyhands {

using namespace shm;

namespace {

// The word: [ how the last 8 rounds ended, 1: broken, the last one lowest : 8 ][ rounds that broke : 16 ]
//           [ round : 24 ][ who have come : 13 ][ 0 : 1 ][ the action runs : 1 ][ broken : 1 ].
// All that decides is one compare-and-swap on it.
using Word = std::uint64_t;
constexpr Word is_broken = 1;
constexpr Word in_action = 2;
constexpr Word one_more = 8;

constexpr Word come(Word word) noexcept { return (word >> 3) & 0x1fff; }
constexpr Word round_of(Word word) noexcept { return (word >> 16) & 0xff'ffff; }
constexpr Word breaks_of(Word word) noexcept { return (word >> 40) & 0xffff; }
constexpr Word history_of(Word word) noexcept { return word >> 56; }
// The next round, empty.
constexpr Word next_round(Word word, bool broken) noexcept {
  const Word bit = broken ? 1 : 0;
  return ((history_of(word) << 1 | bit) & 0xff) << 56 | ((breaks_of(word) + bit) & 0xffff) << 40 |
         ((round_of(word) + 1) & 0xff'ffff) << 16;
}

enum class Outcome { open, complete, broken };
// How the round of `begun` went, seen from `word`. One that was overtaken by more than eight rounds, of which
// one broke, is told that its own did.
constexpr Outcome outcome_of(Word begun, Word word) noexcept {
  const Word since = (round_of(word) - round_of(begun)) & 0xff'ffff;
  if (since == 0) return (word & is_broken) != 0 ? Outcome::broken : Outcome::open;
  if (since <= 8) return (history_of(word) >> (since - 1) & 1) != 0 ? Outcome::broken : Outcome::complete;
  return breaks_of(word) == breaks_of(begun) ? Outcome::complete : Outcome::broken;
}
constexpr Word example = next_round(next_round(Word{0x85} << 56, true), false);
static_assert(history_of(example) == 0x16 && breaks_of(example) == 1 && round_of(example) == 2);
static_assert(outcome_of(0, example) == Outcome::broken);
static_assert(outcome_of(next_round(0, true), example) == Outcome::complete);
static_assert(outcome_of(0, Word{1} << 16 << 4) == Outcome::complete);

constexpr std::uint32_t sleepers = 1;  // in State::changes: somebody may sleep on it

// What is kept of why a round broke: [ Why : 3 ][ thread : 31 ][ site : 12 ][ come : 13 ].
static_assert(max_sites <= 1U << 12);

race::Part part_of(Word begun) noexcept {
  return round_of(begun) % 2 == 0 ? race::Part::first : race::Part::second;
}

}  // namespace

enum class Barrier::Why : std::uint8_t {
  unknown,
  timed_out,
  aborted,
  action_threw,
  died,
  was_reset,
  deserted
};

struct Barrier::State {
  std::atomic<std::uint64_t> word;
  FutexWord changes;                    // [ changes of `word` that waiters have to see : 31 ][ sleepers : 1 ]
  std::uint32_t parties;                // constant, as are the next two
  std::uint32_t slots;                  // entries of participants
  std::int64_t timeout_ns;              // Deadline::never if there is none
  std::atomic<std::uint64_t> reason;    // of the last break; a note for messages
  std::atomic<std::int64_t> looked_ns;  // when somebody looked for dead participants last

  // Behind it in the block: who takes part, 0: free. One finds no room only among more than `slots` others.
  std::span<std::atomic<ThreadToken>> participants() noexcept {
    return {reinterpret_cast<std::atomic<ThreadToken>*>(this + 1), slots};
  }
};

// One call of wait().
struct Barrier::Visit {
  std::uint64_t begun;  // the word of its round
  std::size_t number;
  Site site;
  const State* state;
};

// Whether nobody can come any more: asked from time to time by one that waits without time limit.
class Barrier::Look {
 public:
  Look(const Barrier& barrier, const Visit& visit, const Deadline& deadline) noexcept
      : barrier_(barrier), visit_(visit), bounded_(deadline.bounded()) {}

  bool finds_nobody() {
    if (bounded_ || visit_.number != 0 || !next_.passed()) return false;  // the first to come does it for all
    next_ = Deadline(every);
    const auto waiting = [this] { return come(visit_.state->word.load(std::memory_order_acquire)); };
    const Word come_before = waiting();
    std::vector<StuckThread> found;
    // Not while the action runs, nor for one that waits for the round to end which it is not part of.
    if (come(visit_.begun) < visit_.state->parties && come_before < visit_.state->parties) {
      sweep_now_and_then();
      const Offset barrier = barrier_.block_->offset();
      found = all_stuck_in({.doors = {barrier}, .targets = {barrier}});
    }
    const auto here =
        std::count_if(found.begin(), found.end(), [](const auto& stuck) { return !stuck.joins; });
    // One that was let go and does not know it yet waits for a round that is over: then more wait than came.
    if (static_cast<Word>(here) != come_before || waiting() != come_before) found.clear();
    const bool again = !found.empty() && found == last_;
    last_ = std::move(found);
    return again;
  }

 private:
  static constexpr Duration every = slice * 4;

  const Barrier& barrier_;
  const Visit& visit_;
  bool bounded_;
  Deadline next_{every};
  std::vector<StuckThread> last_;
};

// ---- Which barriers a thread takes part in, so that it can leave them.

namespace {

struct Membership {
  BlockPtr block;
  std::atomic<ThreadToken>* entry;
  ThreadToken token;
};

struct Memberships {
  pid_t pid = 0;
  std::vector<Membership> list;

  ~Memberships() { leave(); }
  static void leave_one(const Membership& member) noexcept {
    ThreadToken expected = member.token;
    member.entry->compare_exchange_strong(expected, 0);
  }
  void leave() noexcept {
    if (pid == ::getpid()) {  // else they are the parent's
      for (const Membership& member : list) leave_one(member);
    }
    list.clear();
  }
  // Of barriers of which this process has no handle any more.
  void prune() {
    std::erase_if(list, [](const Membership& member) {
      if (member.block.use_count() > 1) return false;
      leave_one(member);
      return true;
    });
  }
};
thread_local Memberships memberships;

}  // namespace

void shm::leave_barriers() noexcept { memberships.leave(); }

// ---- Making.

Barrier::State& Barrier::state() const noexcept { return at<State>(block_->offset()); }
Duration Barrier::timeout() const noexcept { return Duration(state().timeout_ns); }

Barrier::Barrier(BlockPtr block) noexcept : block_(std::move(block)) {}

Barrier::Barrier(std::size_t parties, BarrierOptions options) {
  if (parties == 0 || parties > max_parties) {
    throw Error(
        fmt::format("a barrier for {} parties: there must be between 1 and {}", parties, max_parties));
  }
  const std::size_t slots = parties * 2 + 16;
  block_ = Block::create(sizeof(State) + slots * sizeof(ThreadToken), BlockKind::barrier);
  if (options.action) action_ = std::make_shared<const std::function<void()>>(std::move(options.action));
  State& made = state();
  made.parties = static_cast<std::uint32_t>(parties);
  made.slots = static_cast<std::uint32_t>(slots);
  made.timeout_ns = options.timeout.count();
}

// ---- Waiting.

// Enters this thread as a participant, if it is none yet.
void Barrier::join() const {
  const ThreadToken me = this_thread_token();
  for (const Membership& member : memberships.list) {
    if (member.token == me && member.block == block_ && member.entry->load(std::memory_order_relaxed) == me)
      return;
  }
  if (memberships.pid != ::getpid()) {  // a forked child: what is listed is its parent's
    memberships.list.clear();
    memberships.pid = ::getpid();
  }
  memberships.prune();
  for (auto& entry : state().participants()) {
    ThreadToken none = 0;
    if (entry.load(std::memory_order_relaxed) != 0 || !entry.compare_exchange_strong(none, me)) continue;
    memberships.list.push_back({block_, &entry, me});
    return;
  }
}

bool Barrier::is_over(const Visit& visit) const {
  return outcome_of(visit.begun, visit.state->word.load(std::memory_order_acquire)) != Outcome::open;
}

std::size_t Barrier::wait(TimeLimit timeout, const Where& where) const {
  point(OpKind::set, block_->offset(), where);
  State& here = state();
  Visit visit{0, 0, intern(where), &here};
  join();
  std::uint64_t word = here.word.load(std::memory_order_acquire);
  bool last = false;
  for (;;) {
    if ((word & is_broken) != 0) throw_broken(visit.site);
    if (come(word) >= here.parties) {
      // More threads than parties: this one is for the next round, and the action of this round runs still.
      sleep({word, 0, visit.site, &here}, timeout);
      word = here.word.load(std::memory_order_acquire);
      continue;
    }
    last = come(word) + 1 == here.parties;
    visit.begun = word;
    visit.number = come(word);
    if (watching_races()) [[unlikely]]
      race::released(block_->offset(), part_of(visit.begun));
    Word next = word + one_more;
    if (last) next = action_ ? next | in_action : next_round(word, false);
    // acq_rel: who comes last sees what all did before, and those that wait for the next word see it from
    // there
    if (here.word.compare_exchange_weak(word, next, std::memory_order_acq_rel, std::memory_order_acquire))
      break;
  }
  if (!last) {
    sleep(visit, timeout);
  } else if (action_) {
    run_action(visit);
    complete(visit);
  } else {
    tell_waiters();
  }
  if (outcome_of(visit.begun, here.word.load(std::memory_order_acquire)) == Outcome::broken)
    throw_broken(visit.site);
  if (watching_races()) [[unlikely]]
    race::acquired(block_->offset(), part_of(visit.begun));
  return visit.number;
}

void Barrier::run_action(const Visit& visit) const {
  if (watching_races()) [[unlikely]]
    race::acquired(block_->offset(), part_of(visit.begun));
  try {
    (*action_)();
  } catch (...) {
    break_round(visit.begun, Why::action_threw, this_thread_token(), visit.site);
    throw;
  }
  if (watching_races()) [[unlikely]]
    race::released(block_->offset(), part_of(visit.begun));
}

void Barrier::tell_waiters() const noexcept {
  FutexWord& changes = state().changes;
  std::uint32_t before = changes.load(std::memory_order_relaxed);
  while (!changes.compare_exchange_weak(before, (before & ~sleepers) + 2, std::memory_order_release,
                                        std::memory_order_relaxed)) {
  }
  if ((before & sleepers) != 0) futex_wake_all(changes);
}

// Ends the round, unless it was broken while the action ran.
void Barrier::complete(const Visit& visit) const {
  State& here = state();
  std::uint64_t word = here.word.load(std::memory_order_relaxed);
  while (outcome_of(visit.begun, word) == Outcome::open) {
    // release: pairs with is_over()
    if (!here.word.compare_exchange_weak(word, next_round(word, false), std::memory_order_acq_rel)) continue;
    tell_waiters();
    return;
  }
}

// Blocks until the round is over; breaks it at the end of the timeout.
void Barrier::sleep(const Visit& visit, TimeLimit timeout) const {
  State& here = state();
  const ThreadToken me = this_thread_token();
  const bool bounded = timeout != Deadline::never;
  if (Scheduler* const scheduler = current_scheduler()) {
    const WaitScope scope(block_->offset(), visit.site, {.bounded = bounded});
    const Operation operation{OpKind::wait, block_->offset(), visit.site};
    const Readiness ready{[](const void* context) {
                            const auto& waiting = *static_cast<const Visit*>(context);
                            return outcome_of(waiting.begun, waiting.state->word.load()) != Outcome::open;
                          },
                          &visit};
    if (!bounded) {
      scheduler->step(operation, ready);
    } else if (!scheduler->step_or_time_out(operation, ready)) {
      break_round(visit.begun, Why::timed_out, me, visit.site);
    }
    return;
  }
  if (spin_until([&] { return is_over(visit); })) return;
  const Deadline deadline = deadline_after(timeout);
  const WaitScope scope(block_->offset(), visit.site, {.bounded = bounded});
  Look look(*this, visit, deadline);
  for (;;) {
    std::uint32_t seen = here.changes.load(std::memory_order_acquire);
    if (is_over(visit)) return;
    if (deadline.passed()) {
      break_round(visit.begun, Why::timed_out, me, visit.site);
      return;
    }
    if ((seen & sleepers) == 0 &&
        !here.changes.compare_exchange_strong(seen, seen | sleepers, std::memory_order_relaxed))
      continue;
    sleep_slice(here.changes, seen | sleepers, deadline);
    look_for_dead(visit);
    if (look.finds_nobody()) break_round(visit.begun, Why::deserted, me, visit.site);
  }
}

// Breaks the round if one of the participants has died. One of those that wait does this, once per slice.
void Barrier::look_for_dead(const Visit& visit) const {
  State& here = state();
  std::int64_t looked = here.looked_ns.load(std::memory_order_relaxed);
  const std::int64_t now = now_ns();
  if (now - looked < slice.count() || is_over(visit) ||
      !here.looked_ns.compare_exchange_strong(looked, now, std::memory_order_relaxed))
    return;
  for (const auto& entry : here.participants()) {
    const ThreadToken thread = entry.load();
    if (thread == 0 || is_alive(thread)) continue;
    if (entry.load() != thread) continue;  // it left in order while we looked
    break_round(visit.begun, Why::died, thread, visit.site);
    return;
  }
}

void Barrier::note(Why why, ThreadToken who, Site site, std::uint64_t came) const noexcept {
  state().reason.store(std::uint64_t{static_cast<std::uint8_t>(why)} << 56 | std::uint64_t{who} << 25 |
                           std::uint64_t{site} << 13 | came,
                       std::memory_order_relaxed);
}

// Returns whether it did: false if the round was over.
bool Barrier::break_round(std::uint64_t begun, Why why, ThreadToken who, Site site) const noexcept {
  State& here = state();
  std::uint64_t word = here.word.load(std::memory_order_acquire);
  while (outcome_of(begun, word) == Outcome::open) {
    note(why, who, site, come(word));
    if (!here.word.compare_exchange_weak(word, word | is_broken, std::memory_order_acq_rel)) continue;
    tell_waiters();
    return true;
  }
  return false;
}

void Barrier::throw_broken(Site site) const {
  const State& here = state();
  const std::uint64_t reason = here.reason.load(std::memory_order_relaxed);
  const std::string who = describe_holder((reason >> 25) & 0x7fff'ffff);
  const std::string place = describe((reason >> 13) & (max_sites - 1));
  const auto come_then = reason & 0x1fff;
  std::string text;
  switch (static_cast<Why>(reason >> 56)) {
    case Why::unknown:
      text = "it is not known why";
      break;
    case Why::timed_out:
      text = fmt::format("the time of {} at {} was over, and {} of {} had come", who, place, come_then,
                         here.parties);
      break;
    case Why::aborted:
      text = fmt::format("{} called abort() at {}", who, place);
      break;
    case Why::action_threw:
      text = fmt::format("the action threw in {} at {}", who, place);
      break;
    case Why::died:
      text = fmt::format("{} took part in it and died; {} of {} had come", who, come_then, here.parties);
      break;
    case Why::deserted:
      text = fmt::format(
          "{} of {} had come, and nobody is left who could come: who ever had it ended, or waits in it, or "
          "for the end of one who does",
          come_then, here.parties);
      break;
    case Why::was_reset:
      text = fmt::format("{} called reset() at {}", who, place);
      break;
  }
  throw BrokenBarrier(fmt::format("{}, waited for at {}, is broken: {}. After reset() it can be used again.",
                                  describe_target(block_->offset()), describe(site), text));
}

// ---- The rest.

void Barrier::abort(const Where& where) const {
  point(OpKind::set, block_->offset(), where);
  const Site site = intern(where);
  // Once more if the round was complete before it could be broken: then it is the next one's turn.
  for (Word word = state().word.load(std::memory_order_acquire); (word & is_broken) == 0;
       word = state().word.load(std::memory_order_acquire)) {
    if (break_round(word, Why::aborted, this_thread_token(), site)) return;
  }
}

void Barrier::reset(const Where& where) const {
  point(OpKind::set, block_->offset(), where);
  State& here = state();
  const Site site = intern(where);
  for (auto& entry : here.participants()) {
    ThreadToken thread = entry.load();
    if (thread != 0 && !is_alive(thread)) entry.compare_exchange_strong(thread, 0);
  }
  // One step breaks the round and opens the next: who comes now is in the old one or in the new one.
  Word word = here.word.load(std::memory_order_acquire);
  while ((word & is_broken) != 0 || come(word) != 0) {
    if ((word & is_broken) == 0) note(Why::was_reset, this_thread_token(), site, come(word));
    if (!here.word.compare_exchange_weak(word, next_round(word, true), std::memory_order_acq_rel)) continue;
    tell_waiters();
    return;
  }
}

bool Barrier::broken(const Where& where) const {
  point(OpKind::load, block_->offset(), where);
  return (state().word.load(std::memory_order_acquire) & is_broken) != 0;
}
std::size_t Barrier::parties() const noexcept { return state().parties; }
std::size_t Barrier::n_waiting(const Where& where) const {
  point(OpKind::load, block_->offset(), where);
  const std::uint64_t word = state().word.load(std::memory_order_acquire);
  return (word & is_broken) != 0 ? 0 : come(word);
}

}  // namespace manyhands
