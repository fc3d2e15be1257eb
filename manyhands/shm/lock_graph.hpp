#pragma once
// The lock graph: who waits for what, who holds it, and whether they wait for each other in a circle.
//
// Its edges are in shared memory already: a waiter's Waiting names a block, a lock's word names its owner. It
// is read when somebody has to wait anyway, so that taking a free lock costs nothing for it. Waits with a
// time limit are edges of the report but of no deadlock. A wait for something that nobody owns (Semaphore,
// Event, Condition ...) ends a path.
//
// A circle is real if two readings of it agree and no wait began or ended in between: at the moment between
// the two each of its threads waited for what the next one held.
//
// Any process, any thread.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/participants.hpp"
#include "manyhands/shm/sites.hpp"

namespace manyhands {

// The locks and the waits of a program at one moment.
struct LockReport {
  struct Thread {
    std::string name;
    pid_t pid = 0;
    pid_t tid = 0;
    bool alive = false;
  };
  struct Lock {
    std::string kind;               // "Lock", "RLock", or "Value" for a Value's own, listed while held
    std::string name;               // "Lock 3", or "Lock 'accounts'" if it was given a name
    std::optional<Thread> owner{};  // empty: free
    double held_s = 0;              // for how long, to some milliseconds
    std::string site{};             // "file:line (function)" where the owner took it
  };
  struct Wait {
    Thread thread;
    std::string what;                // "Lock 3", "Event 1", "the end of p2 (pid 12)"
    std::string site;                // where it waits
    double waited_s = 0;             // for how long
    bool bounded = false;            // it has a time limit
    std::optional<Thread> holder{};  // who has the lock that is waited for
    double held_s = 0;               // for how long
    std::string held_site{};         // and where the holder took it
  };

  std::vector<Lock> locks;
  std::vector<Wait> waits;
  std::vector<std::vector<std::size_t>> cycles;  // of indices into `waits`: each waits for the next
};

// This program's locks and waits, of all its processes. Does not stop them: a lock that is taken and released
// meanwhile may be shown either way. Reads /proc: some microseconds for each thread.
LockReport lock_report();

// Lines for people.
std::string to_string(const LockReport& report);

namespace shm {

// Publishes, while it lives, that the calling thread waits. For the slow path of everything that blocks:
// `WaitScope wait(block->offset(), intern(where), {.bounded = deadline.bounded()});`, then
// `while (!done()) { futex_wait(word, seen, Deadline(50ms)); wait.look(); }`.
// Nests: at its end the wait around it is published again.
struct WaitOptions {
  bool bounded = false;        // the wait has a time limit, and is part of no deadlock
  ThreadToken for_thread = 0;  // the wait ends with that thread (Process::join)
};
class WaitScope {
 public:
  WaitScope(Offset target, Site site, const WaitOptions& options = {}) noexcept;
  ~WaitScope();
  WaitScope(const WaitScope&) = delete;
  WaitScope& operator=(const WaitScope&) = delete;

  // To be called before the first sleep and after each slice of the wait. Throws DeadlockError if this wait
  // closes a circle, that is if no wait of the circle began later; the others go on as soon as the locks of
  // this thread are released. Says on stderr, once, that a lock has been waited for longer than
  // MANYHANDS_LOCK_WARN seconds (5; 0: never). After a second the log tells of any wait
  // (MANYHANDS_LOG=debug).
  void look();

 private:
  struct Published {
    Site site;
    Offset target;
    std::int64_t since_ns;
    std::uint32_t bounded;
    ThreadToken for_thread;
  };
  void publish(const Published& wait) noexcept;

  ThreadToken token_;
  Waiting& waiting_;
  bool nested_;
  bool warned_ = false;
  bool noted_ = false;  // in the log
  Published outer_{};
  Published own_;
};

// Requires ensure_heap().
HeapView own_heap() noexcept;

// One edge: `waiter` waits, and `holder` is who can end that.
struct WaitEdge {
  ThreadToken waiter = 0;
  std::uint32_t sequence = 0;
  Offset target = 0;  // 0 if it waits for the end of `holder` itself
  Site site = 0;
  std::int64_t since_ns = 0;
  bool bounded = false;
  ThreadToken holder = 0;  // 0: nobody owns what is waited for
  bool holds = false;      // `holder` has the lock `target`; else the wait is for its end
  Site held_site = 0;
  std::int64_t held_since_ns = 0;
};

// What `token` waits for now; empty if it does not wait.
std::optional<WaitEdge> read_wait(ThreadToken token, const HeapView& heap);

// The circle of waits without time limit that `token` is part of, beginning with `token`; empty if there is
// none.
std::vector<WaitEdge> find_cycle(ThreadToken token, const HeapView& heap);

// The member of the circle that has to give way: whose wait began last.
ThreadToken victim_of(std::span<const WaitEdge> cycle) noexcept;

// "p1 (pid 12)", "p1 (pid 12, has ended)", "p1/14 (thread 14 of pid 12, has ended)".
std::string describe_holder(ThreadToken token);
// "Lock 3", "Lock 'fork 1'", "Semaphore 2".
std::string describe_target(Offset target);
// "p2 (pid 13) waits for Lock 1 at F:L, held by p1 (pid 12, has ended) since F:L"; says so if it does not
// wait.
std::string describe_wait(ThreadToken token);
// "7.0 s", "40 ms".
std::string describe_duration(std::int64_t ns);

// lock_report() of any heap.
LockReport lock_report(const HeapView& heap);

}  // namespace shm
}  // namespace manyhands
