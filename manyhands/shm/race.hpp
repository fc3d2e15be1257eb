#pragma once
// The race detector: with MANYHANDS_RACE=1 it reports accesses to a Value by two processes or threads that nothing puts in
// an order, with both source lines. ThreadSanitizer and Helgrind see one process only.
//
// Each thread and each primitive has a vector clock in shared memory; each Value remembers its last write and last reads.
// Primitives call released() before they let others go on and acquired() after they were let go on.
// Source: C. Flanagan, S. Freund, "FastTrack: Efficient and Precise Dynamic Race Detection" (2009).
//
// Any thread. All functions are no-ops unless watching_races().

#include "manyhands/shm/schedule.hpp"

namespace manyhands::shm::race {

// What this thread did so far comes before what follows the next acquired(object), by whichever thread.
void released(Offset object) noexcept;
// What came before the last released(object) comes before what this thread does from now on.
void acquired(Offset object) noexcept;

// This thread reads or writes the Value at `object`. Reports on stderr, once per pair of sites.
void read(Offset object, Site site) noexcept;
void wrote(Offset object, Site site) noexcept;

// How many races this process has reported.
std::uint64_t reported() noexcept;

}  // namespace manyhands::shm::race
