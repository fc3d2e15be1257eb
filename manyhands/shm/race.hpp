#pragma once
// The race detector: with MANYHANDS_RACE=1 it reports accesses to a Value by two processes or threads that
// nothing puts in an order, with both source lines. ThreadSanitizer and Helgrind see one process only.
//
// Each thread and each primitive has a vector clock in shared memory; each Value remembers its last write and
// last reads. Primitives call released() before they let others go on and acquired() after they were let go
// on. An access is compared with the ones that are remembered, not with what happens at the same moment: two
// accesses without an order are found in every run in which both happen, however far apart.
//
// What counts as an order besides the primitives: what a task does comes after its submission and before what
// its result is used for (ThreadPool, Pool); fork() (the child comes after what its parent did before),
// the end of a child that its parent has waited for, and inside one process everything before a thread's
// first use of a primitive and after its end. Waiting for a thread of another process, or for a file or a
// pipe, does not count: use Process, Event, Queue.
//
// Clocks are never locked: entries only grow, each by one atomic maximum, so that a process that is killed in
// between leaves at worst an order unnoted. After 4096 threads the clocks of ended ones are used again; a
// race with one that ended that long ago can then go unseen. Source: C. Flanagan, S. Freund, "FastTrack:
// Efficient and Precise Dynamic Race Detection" (2009).
//
// Any thread. Not async-signal-safe. To be called only if watching_races(); they do nothing useful otherwise.

#include <cstdint>

#include "manyhands/shm/participants.hpp"
#include "manyhands/shm/schedule.hpp"

namespace manyhands::shm::race {

// A block can stand for two orders: a Barrier alternates between them from round to round. Values have one.
enum class Part : std::uint8_t { first, second };

// What this thread did so far comes before what follows the next acquired(object), by whichever thread.
// Requires: `object` is the payload of a block.
void released(Offset object, Part part = Part::first) noexcept;
// What came before the last released(object) comes before what this thread does from now on.
void acquired(Offset object, Part part = Part::first) noexcept;
// All that `thread` ever did comes before what this thread does from now on. Requires that it can do nothing
// any more: for the join of a process, and for who takes over from a participant that was killed.
void joined(ThreadToken thread) noexcept;

// This thread reads or writes the Value at `object`. Reports on stderr, once per pair of sites and program.
void read(Offset object, Site site) noexcept;
void wrote(Offset object, Site site) noexcept;

// Switches the detector on in this process and those that it forks: MANYHANDS_RACE=1, or a test. Before other
// threads use shared memory.
void watch() noexcept;

// How many races this process has reported.
std::uint64_t reported() noexcept;

}  // namespace manyhands::shm::race
