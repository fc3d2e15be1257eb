#pragma once
// A running MPI job: the launcher (mpiexec), a rank process (rank.hpp) on each rank, their output, and their
// end.
//
// One thread, one poll loop. Output is handed on line by line. The job ends at once, within two seconds, if a
// rank is killed or aborts, on Ctrl-C and at the time limit: the programs get SIGTERM, then SIGKILL, then
// mpiexec and all that is left below us. Whoever kills this process with SIGKILL ends the job too: the rank
// processes see their sockets close.

#include "manyhands/cli/launch_plan.hpp"

namespace manyhands::cli {

// Runs the job to its end; returns the exit status: the program's (of the first rank that failed), 128 +
// signal if a rank was killed or we were interrupted, 124 at the time limit. Error if it cannot be started.
int run_job(const LaunchPlan& plan, const RunOptions& options);

}  // namespace manyhands::cli
