#pragma once
// Company: who else could end a wait that has no time limit.
//
// A wait for something that nobody owns (Event, Semaphore, Condition, Queue) ends only if somebody else does
// something with the same block: another process that holds it, somebody who gets it in a message, another
// thread of this process. When none of these is left, the wait would last for ever, and is an Error instead.
//
// A false alarm would be worse than a hang, so everything that may come counts as company: each thread of
// this process that is not manyhands' own, also one that never used shared memory; processes that hold the
// block, whatever they do; tasks, continuations and initializers of a pool that were not yet done with. What
// does not count: signal handlers. In a ThreadPool's process oneTBB's threads count, also idle ones.
//
// Any thread.

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/sites.hpp"

namespace manyhands::shm {

// Whether the calling thread is the last one that could do anything with the block. False in doubt. Processes
// that were killed count until they are swept. Reads /proc: some 10 microseconds.
bool is_alone_with(const Block& block) noexcept;

// Of all threads that could do anything with the block, those that are stuck: in a wait without time limit
// for the block itself, or for the end of a thread that is. For a Barrier, whose waiters can do nothing for
// each other. Empty if somebody else is left, or in doubt. Two equal answers, one after the other, are a
// proof: nobody came and went in between. Reads /proc for each live thread.
struct StuckThread {
  ThreadToken thread = 0;
  std::uint32_t sequence = 0;  // of its wait
  bool joins = false;          // it waits for the end of another one
  friend bool operator==(const StuckThread&, const StuckThread&) = default;
};
std::vector<StuckThread> all_stuck_in(const Block& block);

// For one wait.
class Company {
 public:
  Company(const Block& block, const Deadline& deadline) noexcept
      : block_(block), bounded_(deadline.bounded()) {}

  // To be called after each slice of the wait; looks every 400 ms, and sweeps. False if the wait has a
  // time limit. Once it returns true, nobody else changes anything any more: the caller looks once more at
  // what it waits for, and then throws.
  bool is_gone() noexcept;

 private:
  static constexpr Duration every = std::chrono::milliseconds(400);

  const Block& block_;
  bool bounded_;
  Deadline next_look_{every};
};

// "wait() for Event 3 at F:L would last for ever: no other process or thread is left that could set it"
[[noreturn]] void throw_alone(const char* what, Offset object, Site site, const char* could);

}  // namespace manyhands::shm
