#include "manyhands/shm/lock_graph.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "manyhands/base/log.hpp"
#include "manyhands/base/printable.hpp"
#include "manyhands/shm/lock_errors.hpp"
#include "manyhands/shm/lock_state.hpp"

namespace manyhands::shm {
namespace {

constexpr std::size_t longest_path = max_threads;
constexpr std::int64_t long_wait_ns = 1'000'000'000;  // a wait that the log tells of

// The lock at `target`: a Lock, an RLock, or the one that each Value begins with.
const LockState* lock_in(const HeapView& heap, Offset target) {
  const BlockHeader* block = header_in(heap, target, sizeof(LockState));
  if (block == nullptr || (block->kind != BlockKind::lock && block->kind != BlockKind::value) ||
      block->size < sizeof(LockState))
    return nullptr;
  return reinterpret_cast<const LockState*>(heap.mapping.data() + target);
}

// Also where the byte is neither 0 nor 1.
bool is_recursive(const LockState& lock) noexcept {
  return *reinterpret_cast<const unsigned char*>(&lock.recursive) != 0;
}

std::string name_in(const HeapView& heap, Offset target) {
  const LockState* lock = lock_in(heap, target);
  const BlockHeader* block = header_in(heap, target);
  if (block == nullptr) return "something that is gone";
  if (lock == nullptr || block->kind != BlockKind::lock)
    return fmt::format("{} {}", name_of(block->kind), block->number);
  const char* kind = is_recursive(*lock) ? "RLock" : "Lock";
  if (lock->name.front() == '\0') return fmt::format("{} {}", kind, block->number);
  const auto end = std::find(lock->name.begin(), lock->name.end(), '\0');
  return fmt::format("{} '{}'", kind, printable(std::string_view(lock->name.begin(), end)));
}

std::string title_of(const LockReport::Thread& thread) {
  if (thread.pid == 0) return thread.name;
  if (!thread.alive && thread.tid != 0 && thread.tid != thread.pid)  // its process may live
    return fmt::format("{} (thread {} of pid {}, has ended)", thread.name, thread.tid, thread.pid);
  return fmt::format("{} (pid {}{})", thread.name, thread.pid, thread.alive ? "" : ", has ended");
}

void refresh_thread(ThreadToken token, const HeapView& heap) {
  heap.refresh(heap.tables.threads + std::size_t{token % max_threads} * thread_slot_size, thread_slot_size);
}

LockReport::Thread thread_in(const HeapView& heap, ThreadToken token) {
  refresh_thread(token, heap);
  const ThreadInfo info = describe_thread(token, heap.tables);
  return {.name = printable(info.name), .pid = info.pid, .tid = info.tid, .alive = info.alive};
}

std::string place_in(const HeapView& heap, Site site) {
  heap.refresh(heap.tables.sites + std::size_t{site % max_sites} * site_size, site_size);
  return printable(describe(site, heap.tables));
}

std::string waited_for(const WaitEdge& edge, const HeapView& heap) {
  if (edge.holder != 0 && !edge.holds)
    return fmt::format("the end of {}", title_of(thread_in(heap, edge.holder)));
  return name_in(heap, edge.target);
}

// Any number may stand in another program's heap.
std::int64_t passed_since(std::int64_t since_ns, std::int64_t now) noexcept {
  return since_ns < 0 || since_ns > now ? 0 : now - since_ns;
}

std::string ago(std::int64_t since_ns) { return describe_duration(passed_since(since_ns, now_ns())); }

std::string held_by(const WaitEdge& edge, const HeapView& heap) {
  if (!edge.holds) return {};
  std::string text = fmt::format(", held by {}", title_of(thread_in(heap, edge.holder)));
  if (edge.held_since_ns != 0)
    text += fmt::format(" since {}, for {}", place_in(heap, edge.held_site), ago(edge.held_since_ns));
  return text;
}

std::string line_of(const WaitEdge& edge, const HeapView& heap) {
  return fmt::format("{} waits for {} at {}{}", title_of(thread_in(heap, edge.waiter)),
                     waited_for(edge, heap), place_in(heap, edge.site), held_by(edge, heap));
}

bool same(const WaitEdge& a, const WaitEdge& b) noexcept {
  return a.waiter == b.waiter && a.sequence == b.sequence && a.target == b.target && a.holder == b.holder;
}

// One reading of the path from `token`, closed to a circle or empty.
std::vector<WaitEdge> read_cycle(ThreadToken token, const HeapView& heap) {
  std::vector<WaitEdge> path;
  for (ThreadToken at = token; path.size() < longest_path;) {
    const auto edge = read_wait(at, heap);
    if (!edge || edge->bounded || edge->holder == 0) return {};
    if (edge->holds && edge->holder == at) return {};  // it has just got it
    path.push_back(*edge);
    at = edge->holder;
    if (at == token) return path;
    // Into a circle further on, of which `token` is no part: those threads see to it.
    const auto met = [at](const WaitEdge& earlier) { return earlier.waiter == at; };
    if (std::any_of(path.begin(), path.end(), met)) return {};
  }
  return {};
}

bool lives(ThreadToken token, const HeapView& heap) {
  refresh_thread(token, heap);
  return describe_thread(token, heap.tables).alive;
}

std::int64_t warn_after_ns() noexcept {
  static const std::int64_t value = [] {
    const char* text = std::getenv("MANYHANDS_LOCK_WARN");
    if (text == nullptr || *text == '\0') return std::int64_t{5'000'000'000};
    char* end = nullptr;
    const double seconds = std::strtod(text, &end);
    if (*end == '\0' && seconds >= 0 && seconds < 1e9) return static_cast<std::int64_t>(seconds * 1e9);
    std::fprintf(stderr,
                 "manyhands: MANYHANDS_LOCK_WARN is '%s'; it must be a number of seconds, as in 2.5\n", text);
    return std::int64_t{5'000'000'000};
  }();
  return value;
}

std::string deadlock_text(std::span<const WaitEdge> cycle, const HeapView& heap) {
  std::string text = cycle.size() == 1
                         ? std::string("deadlock: a thread waits for itself")
                         : fmt::format("deadlock: {} threads wait for each other", cycle.size());
  for (const WaitEdge& edge : cycle) text += "\n  " + line_of(edge, heap);
  text += fmt::format(
      "\n{} gave way, as it was the last to wait. Take the locks in the same order everywhere, or all at "
      "once with std::scoped_lock(a, b).",
      title_of(thread_in(heap, victim_of(cycle))));
  return text;
}

}  // namespace

HeapView own_heap() noexcept { return {.mapping = mapping(), .tables = tables()}; }

std::optional<WaitEdge> read_wait(ThreadToken token, const HeapView& heap) {
  const Waiting& waiting = waiting_of(token, heap.tables);
  const auto refresh = [&] { heap.refresh(&waiting, sizeof waiting); };
  refresh();
  WaitEdge edge;
  edge.waiter = token;
  // seq_cst, as the publication: of two threads that begin to wait at once, one sees the other.
  edge.sequence = waiting.sequence.load(std::memory_order_seq_cst);
  if (edge.sequence % 2 == 0) return std::nullopt;
  refresh();  // a copy is made in any order: what is read next must be copied after the sequence was
  // acquire: whoever sees a value of a later wait sees below that the sequence went on.
  edge.site = waiting.site.load(std::memory_order_acquire);
  edge.target = waiting.target.load(std::memory_order_acquire);
  edge.since_ns = waiting.since_ns.load(std::memory_order_acquire);
  edge.bounded = waiting.bounded.load(std::memory_order_acquire) != 0;
  edge.holder = waiting.for_thread.load(std::memory_order_acquire);
  if (edge.holder == 0) {
    if (const LockState* lock = lock_in(heap, edge.target)) {
      // Owner, notes, owner: the notes are those of this owner, or not written yet.
      edge.holder = lock->owner(std::memory_order_seq_cst);
      edge.holds = edge.holder != 0;
      edge.held_site = lock->site.load(std::memory_order_acquire);
      edge.held_since_ns = edge.held_site != 0 ? lock->since_ns.load(std::memory_order_acquire) : 0;
      heap.refresh(lock, sizeof *lock);
      if (lock->owner(std::memory_order_acquire) != edge.holder) {
        edge.held_site = 0;
        edge.held_since_ns = 0;
      }
    }
  }
  refresh();
  if (waiting.sequence.load(std::memory_order_acquire) != edge.sequence) return std::nullopt;
  return edge;
}

std::vector<WaitEdge> find_cycle(ThreadToken token, const HeapView& heap) {
  std::vector<WaitEdge> first = read_cycle(token, heap);
  if (first.empty()) return {};
  // A thread that was killed while it waited still says that it waits; what it holds is abandoned, and no
  // deadlock.
  for (const WaitEdge& edge : first) {
    if (!lives(edge.waiter, heap)) return {};
  }
  const std::vector<WaitEdge> second = read_cycle(token, heap);
  return std::equal(first.begin(), first.end(), second.begin(), second.end(), same) ? second
                                                                                    : std::vector<WaitEdge>{};
}

ThreadToken victim_of(std::span<const WaitEdge> cycle) noexcept {
  const auto later = [](const WaitEdge& a, const WaitEdge& b) {
    return std::pair(a.since_ns, a.waiter) < std::pair(b.since_ns, b.waiter);
  };
  const auto last = std::max_element(cycle.begin(), cycle.end(), later);
  return last == cycle.end() ? 0 : last->waiter;
}

std::string describe_duration(std::int64_t ns) {
  if (ns >= 1'000'000'000) return fmt::format("{:.1f} s", static_cast<double>(ns) / 1e9);
  return fmt::format("{} ms", ns / 1'000'000);
}

std::string describe_holder(ThreadToken token) { return title_of(thread_in(own_heap(), token)); }
std::string describe_target(Offset target) { return name_in(own_heap(), target); }

std::string describe_wait(ThreadToken token) {
  const HeapView heap = own_heap();
  const auto edge = read_wait(token, heap);
  return edge ? line_of(*edge, heap) : fmt::format("{} does not wait", title_of(thread_in(heap, token)));
}

// ---- WaitScope.

WaitScope::WaitScope(Offset target, Site site, const WaitOptions& options) noexcept
    : token_(this_thread_token()),
      waiting_(waiting_of(token_)),
      nested_(waiting_.sequence.load(std::memory_order_relaxed) % 2 != 0),
      own_{.site = site,
           .target = target,
           .since_ns = now_ns(),
           .bounded = options.bounded ? 1U : 0U,
           .for_thread = options.for_thread} {
  if (nested_) {
    outer_ = {.site = waiting_.site.load(std::memory_order_relaxed),
              .target = waiting_.target.load(std::memory_order_relaxed),
              .since_ns = waiting_.since_ns.load(std::memory_order_relaxed),
              .bounded = waiting_.bounded.load(std::memory_order_relaxed),
              .for_thread = waiting_.for_thread.load(std::memory_order_relaxed)};
    waiting_.sequence.fetch_add(1, std::memory_order_relaxed);  // even
  }
  publish(own_);
}

WaitScope::~WaitScope() {
  waiting_.sequence.fetch_add(1, std::memory_order_release);  // even
  if (nested_) publish(outer_);
}

// Requires an even sequence. release: who reads one of these values sees that the wait before has ended.
void WaitScope::publish(const Published& wait) noexcept {
  waiting_.site.store(wait.site, std::memory_order_release);
  waiting_.target.store(wait.target, std::memory_order_release);
  waiting_.since_ns.store(wait.since_ns, std::memory_order_release);
  waiting_.bounded.store(wait.bounded, std::memory_order_release);
  waiting_.for_thread.store(wait.for_thread, std::memory_order_release);
  // seq_cst: see read_wait()
  waiting_.sequence.fetch_add(1, std::memory_order_seq_cst);
}

void WaitScope::look() {
  if (!noted_ && now_ns() - own_.since_ns > long_wait_ns) {
    noted_ = true;
    if (log::shows(log::Level::debug)) log::debug("{}", describe_wait(token_));
  }
  if (own_.bounded != 0) return;
  const HeapView heap = own_heap();
  if (const auto cycle = find_cycle(token_, heap); !cycle.empty() && victim_of(cycle) == token_)
    throw DeadlockError(deadlock_text(cycle, heap));
  if (warned_ || warn_after_ns() == 0 || lock_in(heap, own_.target) == nullptr) return;
  const std::int64_t waited = now_ns() - own_.since_ns;
  if (waited < warn_after_ns()) return;
  warned_ = true;
  const auto edge = read_wait(token_, heap);
  if (!edge || !edge->holds) return;
  const std::string text = fmt::format(
      "manyhands: {} has waited {} for {} at {}, which {} took at {} {} ago\n",
      title_of(thread_in(heap, token_)), describe_duration(waited), name_in(heap, edge->target),
      place_in(heap, edge->site), title_of(thread_in(heap, edge->holder)), place_in(heap, edge->held_site),
      edge->held_since_ns != 0 ? ago(edge->held_since_ns) : "some time");
  std::fputs(text.c_str(), stderr);
}

// ---- The report.

LockReport lock_report(const HeapView& heap) {
  LockReport report;
  const std::int64_t now = now_ns();
  const auto seconds_since = [now](std::int64_t since) {
    return since == 0 ? 0.0 : static_cast<double>(passed_since(since, now)) / 1e9;
  };
  for (const BlockKind kind : {BlockKind::lock, BlockKind::value}) {
    for (const Offset target : held_blocks(kind, heap)) {
      const LockState* lock = lock_in(heap, target);
      if (lock == nullptr) continue;
      const ThreadToken owner = lock->owner(std::memory_order_acquire);
      if (owner == 0 && kind == BlockKind::value) continue;  // of no interest, and many
      LockReport::Lock entry{.kind = kind == BlockKind::value ? "Value"
                                     : is_recursive(*lock)    ? "RLock"
                                                              : "Lock",
                             .name = name_in(heap, target)};
      if (owner != 0) {
        const Site site = lock->site.load(std::memory_order_acquire);
        if (site != 0) entry.held_s = seconds_since(lock->since_ns.load(std::memory_order_acquire));
        entry.owner = thread_in(heap, owner);
        entry.site = place_in(heap, site);
      }
      report.locks.push_back(std::move(entry));
    }
  }

  std::map<ThreadToken, std::size_t> place;  // of a thread's wait in report.waits
  for (const ThreadToken token : live_threads(heap.tables)) {
    const auto edge = read_wait(token, heap);
    if (!edge || (edge->holds && edge->holder == token)) continue;  // the latter has just got it
    LockReport::Wait entry{.thread = thread_in(heap, token),
                           .what = waited_for(*edge, heap),
                           .site = place_in(heap, edge->site),
                           .waited_s = seconds_since(edge->since_ns),
                           .bounded = edge->bounded};
    if (edge->holds) {
      entry.holder = thread_in(heap, edge->holder);
      entry.held_s = seconds_since(edge->held_since_ns);
      entry.held_site = place_in(heap, edge->held_site);
    }
    place[token] = report.waits.size();
    report.waits.push_back(std::move(entry));
  }
  std::map<ThreadToken, bool> seen;
  for (const auto& [token, index] : place) {
    if (seen[token]) continue;
    std::vector<std::size_t> cycle;
    for (const WaitEdge& edge : find_cycle(token, heap)) {
      const auto found = place.find(edge.waiter);
      if (found == place.end()) continue;
      seen[edge.waiter] = true;
      cycle.push_back(found->second);
    }
    if (!cycle.empty()) report.cycles.push_back(std::move(cycle));
  }
  return report;
}

}  // namespace manyhands::shm

namespace manyhands {
namespace {

std::string in_seconds(double seconds) {
  return shm::describe_duration(static_cast<std::int64_t>(seconds * 1e9));
}

std::string line_of(const LockReport::Wait& wait) {
  std::string text =
      fmt::format("{} has waited {} for {} at {}{}", shm::title_of(wait.thread), in_seconds(wait.waited_s),
                  wait.what, wait.site, wait.bounded ? ", with a time limit" : "");
  if (wait.holder) {
    text += fmt::format("; held by {} for {}, since {}", shm::title_of(*wait.holder), in_seconds(wait.held_s),
                        wait.held_site);
  }
  return text;
}

}  // namespace

LockReport lock_report() {
  shm::ensure_heap();
  return shm::lock_report(shm::own_heap());
}

std::string to_string(const LockReport& report) {
  std::string text = fmt::format("locks: {}\n", report.locks.size());
  for (const auto& lock : report.locks) {
    text += fmt::format("  {}: ", lock.name);
    text += lock.owner ? fmt::format("held by {} for {}, since {}\n", shm::title_of(*lock.owner),
                                     in_seconds(lock.held_s), lock.site)
                       : std::string("free\n");
  }
  text += fmt::format("waits: {}\n", report.waits.size());
  for (const auto& wait : report.waits) text += fmt::format("  {}\n", line_of(wait));
  text += fmt::format("deadlocks: {}\n", report.cycles.size());
  for (const auto& cycle : report.cycles) {
    text += fmt::format("  {} in a circle:\n", cycle.size());
    for (const std::size_t index : cycle) text += fmt::format("    {}\n", line_of(report.waits[index]));
  }
  return text;
}

}  // namespace manyhands
