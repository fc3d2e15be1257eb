#pragma once
// Descendants: the processes that a process has started, as /proc tells; to end what a killed task left.

#include <sys/types.h>

#include <vector>

namespace manyhands::process {

// The children of `parent` at this moment, also those that ended and were not waited for; empty if /proc
// cannot be read.
std::vector<pid_t> children_of(pid_t parent);

// Sends SIGKILL to all that descend from `ancestor`, not to itself. Requires that it is not waited for
// meanwhile, so that its number stays its own.
void kill_descendants(pid_t ancestor);

}  // namespace manyhands::process
