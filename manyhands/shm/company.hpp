#pragma once
// Company: who else could end a wait that has no time limit.
//
// A wait for something that nobody owns (Event, Semaphore, Condition, Queue, Pipe) ends only if somebody else
// does something with the same block: another process that holds it, somebody who gets it in a message,
// another thread of this process. When none of these is left, or all of them wait for the same thing or for
// the end of one that does, the wait would last for ever, and is an Error instead, in each of those that wait
// for the thing itself.
//
// A false alarm would be worse than a hang, so everything that may come counts as company: each thread of
// this process that is not manyhands' own, also one that never used shared memory; threads of processes that
// hold the block, unless they are in such a wait without time limit; tasks, continuations and initializers of
// a pool that were not yet done with. What does not count: signal handlers. In a ThreadPool's process
// its threads count, also idle ones.
//
// Any thread.

#include <utility>
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/sites.hpp"

namespace manyhands::shm {

// Whether the calling thread is the last one that could do anything with the block. False in doubt. Processes
// that were killed count until they are swept. Reads /proc: some 10 microseconds.
bool is_alone_with(const Block& block) noexcept;

// The blocks through which what is waited for can be changed, and those that such waits are for. The same
// one, but for a Pipe, whose ends are held and whose queues are waited for.
struct Meeting {
  std::vector<Offset> doors;
  std::vector<Offset> targets;
};

// Of all threads that could do anything there, those that are stuck: asleep in a wait without time limit for
// one of the targets, or for the end of a thread that is; for waiters that can do nothing for each other.
// Empty if somebody else is left, or in doubt. Two equal answers that are at least two slices of a wait apart
// are a proof: nobody came and went in between, and all have looked at what they wait for. Reads /proc for
// each of these threads, but only if as many wait as there are processes.
struct StuckThread {
  ThreadToken thread = 0;
  std::uint32_t sequence = 0;  // of its wait
  bool joins = false;          // it waits for the end of another one
  friend bool operator==(const StuckThread&, const StuckThread&) = default;
};
std::vector<StuckThread> all_stuck_in(const Meeting& meeting);

// For one wait.
class Company {
 public:
  Company(const Block& block, const Deadline& deadline) : Company(block, deadline, {}) {}
  // For a wait for `block` that others end through other blocks; an empty meeting: through itself.
  Company(const Block& block, const Deadline& deadline, Meeting meeting)
      : block_(block), bounded_(deadline.bounded()), meeting_(std::move(meeting)) {}

  // To be called after each slice of the wait; looks every 300 ms, and sweeps. False if the wait has a
  // time limit. Once it returns true, nobody else changes anything any more: the caller looks once more at
  // what it waits for, and then throws.
  bool is_gone();

 private:
  static constexpr Duration every = std::chrono::milliseconds(300);
  static constexpr Duration to_be_sure = std::chrono::milliseconds(120);

  const Block& block_;
  bool bounded_;
  Meeting meeting_;
  Deadline next_look_{every};
  std::vector<StuckThread> last_;
};

// "wait() for Event 3 at F:L would last for ever: no other process or thread is left that could set it"
[[noreturn]] void throw_alone(const char* what, Offset object, Site site, const char* could);

}  // namespace manyhands::shm
