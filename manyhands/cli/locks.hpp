#pragma once
// `manyhands locks PID`: who holds and who awaits the locks of a running program. Reads the program's shared
// memory and /proc; the program does not notice.

#include <sys/types.h>

#include <string>

#include "manyhands/shm/lock_graph.hpp"

namespace manyhands::cli {

// The locks of the program that process `pid` belongs to. Throws Error if there is no such process, if it may
// not be looked at, or if it has no manyhands heap.
LockReport locks_of(pid_t pid);

// One JSON object with the arrays "locks", "waits" and "deadlocks" (of indices into "waits").
std::string to_json(const LockReport& report);

}  // namespace manyhands::cli
