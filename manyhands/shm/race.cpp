#include "manyhands/shm/race.hpp"

#include <fmt/core.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <string>
#include <vector>

#include "manyhands/base/handover.hpp"
#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::shm::race {
namespace {

constexpr std::uint32_t max_clocks = 4096;
constexpr std::uint32_t no_clock = max_clocks;  // for threads beyond what can be counted: not watched

// Part of a vector clock; entry i of the first part belongs to the thread with clock i. Entries only grow.
struct Chunk {
  static constexpr std::uint32_t entries = 110;
  std::atomic<Offset> next;  // the next 110 entries, or 0; written once
  std::array<std::atomic<std::uint32_t>, entries> times;
};
static_assert(sizeof(Chunk) == 448);  // a block of 512 bytes with its header

// What is remembered of a Value's accesses, as records (below).
struct Shadow {
  static constexpr std::uint32_t most_reads = 54;
  std::atomic<std::uint64_t> write;  // the last one
  // The last read of each thread since; those that came before a later write are dropped.
  std::atomic<std::uint32_t> used;  // entries of `reads` that were ever used; raised before one is written
  std::uint32_t padding;
  std::array<std::atomic<std::uint64_t>, most_reads> reads;  // 0: free
};
static_assert(sizeof(Shadow) == 448);

// What belongs to an object. Its block's header names it, also when the block is used again: hence `owner`.
struct Watched {
  std::atomic<std::uint64_t> owner;           // see stamp_of()
  std::array<std::atomic<Offset>, 2> clocks;  // by Part; 0: nothing was released yet
  std::atomic<Offset> shadow;                 // of a Value; 0: not yet used
};

// The clocks of a program, and what it has reported. One per program.
struct Root {
  struct Thread {
    std::atomic<Offset> clock;         // its first chunk; 0: not yet there
    std::atomic<ThreadToken> token;    // who ticks it; written after the rest
    std::atomic<std::int32_t> pid;     // of the thread's process
    std::atomic<std::int32_t> parent;  // of its process
    std::atomic<std::uint32_t> base;   // times up to this one belong to a thread that had the clock before
    std::uint32_t padding;
  };
  std::atomic<std::uint32_t> count;  // clocks given out; may exceed max_clocks
  std::array<Thread, max_clocks> threads;
  // By slot of the token; checked against `token`.
  std::array<std::atomic<std::uint32_t>, max_threads> clock_of;
  std::array<std::atomic<std::uint32_t>, 4096> pairs;  // of sites, reported; open addressing
};

// A record of an access: [ there is one : 1 ][ 0 : 7 ][ clock : 12 ][ site : 12 ][ time : 32 ].
static_assert(max_clocks == 1U << 12 && max_sites == 1U << 12);
using Record = std::uint64_t;
constexpr Record record_of(std::uint32_t clock, Site site, std::uint32_t time) noexcept {
  return std::uint64_t{1} << 63 | std::uint64_t{clock} << 44 | std::uint64_t{site & (max_sites - 1)} << 32 |
         time;
}
constexpr std::uint32_t clock_in(Record record) noexcept { return (record >> 44) & (max_clocks - 1); }
constexpr Site site_in(Record record) noexcept { return (record >> 32) & (max_sites - 1); }
constexpr std::uint32_t time_in(Record record) noexcept { return static_cast<std::uint32_t>(record); }

void raise(std::atomic<std::uint32_t>& entry, std::uint32_t to) noexcept {
  std::uint32_t now = entry.load(std::memory_order_relaxed);
  // release, with the acquire in join(): entries are clocks of what was written before them
  while (now < to && !entry.compare_exchange_weak(now, to, std::memory_order_release)) {
  }
}

// ---- Blocks of the detector. They are held by nobody and stay until the program ends: those of an object
// are found by its block's header and used again with the block.

// A zeroed T in a block of its own; 0 if there is no memory.
template <class T>
Offset make() noexcept {
  try {
    return allocate(sizeof(T), BlockKind::clock);
  } catch (...) {
    return 0;
  }
}

// Of a block that is gone, so that nobody looks at it any more.
void give_back(Offset watched) noexcept {
  auto& old = at<Watched>(watched);
  for (auto& clock : old.clocks) {
    for (Offset chunk = clock.load(); chunk != 0;) {
      const Offset next = at<Chunk>(chunk).next.load();
      release(chunk);
      chunk = next;
    }
  }
  if (const Offset shadow = old.shadow.load(); shadow != 0) release(shadow);
  release(watched);
}

// Tells blocks apart that lie at the same place one after the other.
std::uint64_t stamp_of(Offset object) noexcept {
  const BlockHeader& header = header_of(object);
  return std::uint64_t{1} << 63 | static_cast<std::uint64_t>(header.kind) << 32 | header.number;
}

// What belongs to `object`, by its header; nullptr if there is none and none can be or is to be made.
enum class IfMissing { none, make };
Watched* find(Offset object, IfMissing missing) noexcept {
  const std::atomic_ref<std::uint64_t> word(header_of(object).watched);
  const std::uint64_t stamp = stamp_of(object);
  std::uint64_t found = word.load(std::memory_order_acquire);
  for (;;) {
    if (found != 0 && at<Watched>(found).owner.load(std::memory_order_relaxed) == stamp)
      return &at<Watched>(found);
    if (missing == IfMissing::none) return nullptr;
    const Offset made = make<Watched>();
    if (made == 0) return nullptr;
    at<Watched>(made).owner.store(stamp, std::memory_order_relaxed);
    const std::uint64_t before = found;
    if (word.compare_exchange_strong(found, made, std::memory_order_acq_rel)) {
      if (before != 0) give_back(before);
      return &at<Watched>(made);
    }
    release(made);
  }
}

// The T that `place` names, made if it names none; nullptr without memory.
template <class T>
T* find_or_make(std::atomic<Offset>& place) noexcept {
  Offset found = place.load(std::memory_order_acquire);
  if (found == 0) {
    const Offset made = make<T>();
    if (made == 0) return nullptr;
    if (place.compare_exchange_strong(found, made, std::memory_order_acq_rel)) {
      found = made;
    } else {
      release(made);
    }
  }
  return &at<T>(found);
}

Shadow* shadow_of(Offset object) noexcept {
  Watched* const watched = find(object, IfMissing::make);
  return watched != nullptr ? find_or_make<Shadow>(watched->shadow) : nullptr;
}

Root* root() noexcept {
  static std::atomic<Root*> known{nullptr};
  if (Root* const there = known.load(std::memory_order_acquire); there != nullptr) return there;
  Root* const found = find_or_make<Root>(race_root());
  known.store(found, std::memory_order_release);
  return found;
}

// ---- Vector clocks.

// The chunk behind `chunk`, made if it is missing; nullptr without memory.
Chunk* next_of(Chunk& chunk) noexcept { return find_or_make<Chunk>(chunk.next); }

std::atomic<std::uint32_t>* entry_of(Chunk* clock, std::uint32_t index) noexcept {
  for (; clock != nullptr && index >= Chunk::entries; index -= Chunk::entries) clock = next_of(*clock);
  return clock == nullptr ? nullptr : &clock->times[index];
}

std::uint32_t time_of(const Chunk* clock, std::uint32_t index) noexcept {
  for (; index >= Chunk::entries; index -= Chunk::entries) {
    const Offset next = clock->next.load(std::memory_order_acquire);
    if (next == 0) return 0;
    clock = &at<Chunk>(next);
  }
  return clock->times[index].load(std::memory_order_relaxed);
}

// into := the later of `into` and `from`, entry by entry, of the first `count`.
void join(Chunk* into, const Chunk& from, std::uint32_t count) noexcept {
  for (const Chunk* part = &from; into != nullptr;) {
    const std::uint32_t here = std::min(count, Chunk::entries);
    for (std::uint32_t i = 0; i < here; ++i) {
      const std::uint32_t time = part->times[i].load(std::memory_order_acquire);
      if (time != 0) raise(into->times[i], time);
    }
    count -= here;
    const Offset next = part->next.load(std::memory_order_acquire);
    if (count == 0 || next == 0) return;
    part = &at<Chunk>(next);
    into = next_of(*into);
  }
}

std::uint32_t clock_count(const Root& all) noexcept {
  return std::min(all.count.load(std::memory_order_acquire), max_clocks);
}

// ---- This thread and this process.

struct Own {
  ThreadToken token = 0;
  std::uint32_t index = no_clock;
  Chunk* clock = nullptr;
  // Its own entry; ticked by it, and by threads that come after it.
  std::atomic<std::uint32_t>* time = nullptr;
};
constinit thread_local Own own;

struct Process {
  std::mutex mutex;                      // guards the rest
  std::vector<std::uint32_t> inherited;  // what comes before all that this process does: times by clock
  std::vector<std::uint32_t> members;    // the clocks of this process's threads
  std::vector<std::uint32_t> children;   // the clocks of its children's threads, as far as `scanned`
  std::uint32_t scanned = 0;
};
Process& process() noexcept {
  static Process* const instance = new Process;
  return *instance;
}

void inherit(Chunk& clock) noexcept {
  Root& all = *root();
  Process& here = process();
  for (std::uint32_t i = 0; i < here.inherited.size(); ++i) {
    if (here.inherited[i] == 0) continue;
    if (auto* const entry = entry_of(&clock, i)) raise(*entry, here.inherited[i]);
  }
  for (const std::uint32_t index : here.members) {
    Chunk& other = at<Chunk>(all.threads[index].clock.load(std::memory_order_acquire));
    join(&clock, other, clock_count(all));
    // What it does from now on comes after that.
    if (auto* const entry = entry_of(&other, index)) entry->fetch_add(1, std::memory_order_relaxed);
  }
}

// The clock of a thread that has ended, for another one that goes on with it.
std::uint32_t clock_of_ended(Root& all, ThreadToken token) noexcept {
  for (std::uint32_t i = 0; i < max_clocks; ++i) {
    Root::Thread& thread = all.threads[i];
    ThreadToken before = thread.token.load(std::memory_order_acquire);
    if (before == 0 || thread.clock.load() == 0 || is_alive(before)) continue;
    if (!thread.token.compare_exchange_strong(before, token)) continue;
    Chunk& clock = at<Chunk>(thread.clock.load(std::memory_order_acquire));
    if (auto* const entry = entry_of(&clock, i)) thread.base.store(entry->fetch_add(1));
    return i;
  }
  return no_clock;
}

void before_fork() noexcept;
void after_fork_in_parent() noexcept { process().mutex.unlock(); }
void after_fork_in_child() noexcept {
  process().members.clear();
  process().children.clear();
  own = {};
  process().mutex.unlock();
}

void enter(ThreadToken token) noexcept {
  own = {.token = token};
  Root* const all = root();
  if (all == nullptr) return;
  // A fiber that comes back finds its clock again.
  auto& place = all->clock_of[token % max_threads];
  std::uint32_t index = place.load(std::memory_order_acquire);
  if (all->threads[index].token.load(std::memory_order_acquire) != token) {
    static std::once_flag once;
    std::call_once(once, [] { ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); });
    const std::lock_guard lock(process().mutex);
    index = all->count.load(std::memory_order_relaxed) < max_clocks
                ? all->count.fetch_add(1, std::memory_order_acq_rel)
                : no_clock;
    if (index >= max_clocks) index = clock_of_ended(*all, token);
    if (index == no_clock) return;
    Root::Thread& thread = all->threads[index];
    if (thread.clock.load() == 0) {
      const Offset made = make<Chunk>();
      if (made == 0) return;
      thread.clock.store(made, std::memory_order_release);
    }
    Chunk& clock = at<Chunk>(thread.clock.load());
    inherit(clock);
    auto* const time = entry_of(&clock, index);
    if (time == nullptr) return;
    time->fetch_add(1, std::memory_order_relaxed);
    thread.pid.store(::getpid(), std::memory_order_relaxed);
    thread.parent.store(::getppid(), std::memory_order_relaxed);
    thread.token.store(token, std::memory_order_release);
    place.store(index, std::memory_order_release);
    try {
      process().members.push_back(index);
    } catch (...) {  // later threads of this process will not come after it
    }
  }
  Chunk& clock = at<Chunk>(all->threads[index].clock.load(std::memory_order_acquire));
  own = {.token = token, .index = index, .clock = &clock, .time = entry_of(&clock, index)};
}

// This thread's clock; its index is no_clock if it has none.
Own& self() noexcept {
  const ThreadToken token = this_thread_token();
  if (own.token != token) [[unlikely]]
    enter(token);
  return own;
}

void tick(const Own& me) noexcept { me.time->fetch_add(1, std::memory_order_relaxed); }

Chunk& clock_at(std::uint32_t index) noexcept {
  return at<Chunk>(root()->threads[index].clock.load(std::memory_order_acquire));
}

bool is_gone(pid_t pid) noexcept { return ::kill(pid, 0) != 0 && errno == ESRCH; }  // not a zombie either

// Children that this process has waited for come before what it does now. Requires process().mutex.
void join_reaped(const Own& me) noexcept {
  Root& all = *root();
  Process& here = process();
  const std::uint32_t count = clock_count(all);
  for (; here.scanned < count; ++here.scanned) {
    const Root::Thread& thread = all.threads[here.scanned];
    if (thread.token.load(std::memory_order_acquire) == 0) break;  // still being made
    if (thread.parent.load(std::memory_order_relaxed) != ::getpid()) continue;
    try {
      here.children.push_back(here.scanned);
    } catch (...) {
      return;
    }
  }
  std::erase_if(here.children, [&](std::uint32_t index) {
    if (!is_gone(all.threads[index].pid.load(std::memory_order_relaxed))) return false;
    join(me.clock, clock_at(index), count);
    return true;
  });
}

// The child comes after what the forking thread did or knew.
void before_fork() noexcept {
  Process& here = process();
  here.mutex.lock();
  if (detail::this_thread == 0 || own.token != detail::this_thread || own.index == no_clock)
    return;  // this thread did nothing that is watched
  join_reaped(own);
  try {
    const std::uint32_t count = clock_count(*root());
    here.inherited.resize(std::max<std::size_t>(count, here.inherited.size()));
    for (std::uint32_t i = 0; i < count; ++i)
      here.inherited[i] = std::max(here.inherited[i], time_of(own.clock, i));
  } catch (...) {
  }
  tick(own);
}

// ---- Reports.

std::atomic<std::uint64_t> reports{0};  // of this process

// Whether this pair of sites was not yet reported by any process of the program.
bool is_new(Site a, Site b) noexcept {
  auto& pairs = root()->pairs;
  const std::uint32_t key = std::uint32_t{1} << 31 | std::min(a, b) << 12 | std::max(a, b);
  const std::uint32_t start = (key * 0x9e37'79b1U) >> 20;
  for (std::uint32_t probe = 0; probe < pairs.size(); ++probe) {
    auto& slot = pairs[(start + probe) % pairs.size()];
    std::uint32_t found = slot.load(std::memory_order_relaxed);
    if (found == 0 && slot.compare_exchange_strong(found, key, std::memory_order_relaxed)) return true;
    if (found == key) return false;
  }
  return false;
}

std::string who(ThreadToken token) {
  const ThreadInfo info = describe_thread(token);
  return info.pid != 0 ? fmt::format("{} (pid {})", info.name, info.pid) : info.name;
}

struct Access {
  Site site;
  bool writes;
};

// Whether what `token` did, as far as this thread's clock does not cover it, comes before all the same. Who
// started a thread or a child and waits for its end is older than that, and a process's main thread may be
// any's.
bool has_ended_before(Own& me, std::uint32_t index, ThreadToken token) noexcept {
  const Root::Thread& thread = root()->threads[index];
  const pid_t pid = thread.pid.load(std::memory_order_relaxed);
  bool before = false;
  if (pid == ::getpid()) {
    before = (me.index < index || ::gettid() == pid) && !is_alive(token);
  } else {
    before = thread.parent.load(std::memory_order_relaxed) == ::getpid() && is_gone(pid);
  }
  if (before) join(me.clock, clock_at(index), clock_count(*root()));
  return before;
}

[[gnu::noinline]] void suspect(Own& me, Offset object, Record record, Access then, Access now) noexcept {
  Root::Thread& thread = root()->threads[clock_in(record)];
  const bool known = time_in(record) > thread.base.load(std::memory_order_acquire);
  const ThreadToken token = known ? thread.token.load(std::memory_order_acquire) : 0;
  if (token != 0 && has_ended_before(me, clock_in(record), token)) return;
  if (!is_new(then.site, now.site)) return;
  reports.fetch_add(1, std::memory_order_relaxed);
  try {
    const BlockHeader& header = header_of(object);
    const std::string text = fmt::format(
        "manyhands: race on {} {}: {} {} at {} and {} {} it at {}, and nothing orders the two; use update() "
        "or a Lock\n",
        name_of(header.kind), header.number, who(me.token), now.writes ? "writes" : "reads",
        describe(now.site), who(token), then.writes ? "wrote" : "read", describe(then.site));
    static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size()));  // one call: lines do not mix
  } catch (...) {
  }
}

bool comes_before(const Own& me, Record record) noexcept {
  return time_of(me.clock, clock_in(record)) >= time_in(record);
}

}  // namespace

void released(Offset object, Part part) noexcept {
  const Own& me = self();
  if (me.index == no_clock) return;
  Watched* const watched = find(object, IfMissing::make);
  if (watched == nullptr) return;
  {
    const std::lock_guard lock(process().mutex);
    join_reaped(me);
  }
  Chunk* const clock = find_or_make<Chunk>(watched->clocks[static_cast<std::size_t>(part)]);
  join(clock, *me.clock, clock_count(*root()));
  tick(me);
}

void acquired(Offset object, Part part) noexcept {
  const Own& me = self();
  if (me.index == no_clock) return;
  Watched* const watched = find(object, IfMissing::none);
  if (watched == nullptr) return;
  const Offset clock = watched->clocks[static_cast<std::size_t>(part)].load(std::memory_order_acquire);
  if (clock != 0) join(me.clock, at<Chunk>(clock), clock_count(*root()));
}

void joined(ThreadToken thread) noexcept {
  const Own& me = self();
  if (me.index == no_clock || thread == 0) return;
  Root& all = *root();
  const std::uint32_t index = all.clock_of[thread % max_threads].load(std::memory_order_acquire);
  if (all.threads[index].token.load(std::memory_order_acquire) != thread) return;
  join(me.clock, clock_at(index), clock_count(all));
}

// A reader notes its read and then looks at the last write; a writer notes its write and then looks at the
// reads. All four are seq_cst, so one of two that meet sees the other.

void read(Offset object, Site site) noexcept {
  Own& me = self();
  if (me.index == no_clock) return;
  Shadow* const found = shadow_of(object);
  if (found == nullptr) return;
  Shadow& shadow = *found;
  const Record mine = record_of(me.index, site, me.time->load(std::memory_order_relaxed));
  for (;;) {
    const std::uint32_t used = std::min(shadow.used.load(), Shadow::most_reads);
    std::uint32_t slot = used;  // my own, else a free one, else one that no later write can miss
    Record before = 0;
    for (std::uint32_t i = 0; i < used; ++i) {
      const Record record = shadow.reads[i].load();
      if (record == mine) return;  // a write since then has seen it
      if (record != 0 && clock_in(record) == me.index) {
        slot = i;
        before = record;
        break;
      }
      if (slot == used && (record == 0 || comes_before(me, record))) {
        slot = i;
        before = record;
      }
    }
    if (slot == Shadow::most_reads) {  // more readers at once than are remembered
      slot = me.index % Shadow::most_reads;
      before = shadow.reads[slot].load();
    }
    raise(shadow.used, slot + 1);
    if (shadow.reads[slot].compare_exchange_strong(before, mine)) break;
  }
  const Record write = shadow.write.load();
  if (write != 0 && !comes_before(me, write))
    suspect(me, object, write, {site_in(write), true}, {site, false});
}

void wrote(Offset object, Site site) noexcept {
  Own& me = self();
  if (me.index == no_clock) return;
  Shadow* const found = shadow_of(object);
  if (found == nullptr) return;
  Shadow& shadow = *found;
  const Record mine = record_of(me.index, site, me.time->load(std::memory_order_relaxed));
  if (shadow.write.load() == mine) return;  // reads since then have seen it
  const Record before = shadow.write.exchange(mine);
  if (before != 0 && !comes_before(me, before))
    suspect(me, object, before, {site_in(before), true}, {site, true});
  const std::uint32_t used = std::min(shadow.used.load(), Shadow::most_reads);
  for (std::uint32_t i = 0; i < used; ++i) {
    Record record = shadow.reads[i].load();
    if (record == 0) continue;
    if (comes_before(me, record)) {
      shadow.reads[i].compare_exchange_strong(record, 0);
    } else {
      suspect(me, object, record, {site_in(record), false}, {site, true});
    }
  }
}

// ---- Handovers between threads of this process: each gets a block to stand for it.

namespace {

// [ pid : 24 ][ payload / 64 : 40 ]: a fork does not give back what is its parent's.
std::uint64_t place_of(Offset object) noexcept {
  return static_cast<std::uint64_t>(::getpid()) << 40 | object / 64;
}
Offset object_at(std::uint64_t place) noexcept { return (place & ((std::uint64_t{1} << 40) - 1)) * 64; }
bool is_mine(std::uint64_t place) noexcept {
  return place != 0 && static_cast<pid_t>(place >> 40) == ::getpid();
}

void handover_released(std::atomic<std::uint64_t>& place) noexcept {
  std::uint64_t now = place.load(std::memory_order_acquire);
  if (!is_mine(now)) {
    Offset made = 0;
    try {
      made = allocate(1, BlockKind::raw);
    } catch (...) {
      return;
    }
    if (place.compare_exchange_strong(now, place_of(made), std::memory_order_acq_rel)) {
      now = place_of(made);
    } else {
      release(made);
    }
  }
  released(object_at(now));
}
void handover_acquired(std::uint64_t place) noexcept {
  if (is_mine(place)) acquired(object_at(place));
}
void handover_forgotten(std::uint64_t place) noexcept {
  if (is_mine(place)) release(object_at(place));
}
constexpr HandoverWatch handovers{handover_released, handover_acquired, handover_forgotten};

}  // namespace

void watch() noexcept {
  manyhands::detail::handover_watch.store(&handovers, std::memory_order_release);
  detail::watch.fetch_or(detail::watch_race);
}

std::uint64_t reported() noexcept { return reports.load(std::memory_order_relaxed); }

}  // namespace manyhands::shm::race
