#pragma once
// `manyhands run -n 4 ./program`: starts an MPI program with whichever MPI it was built for.
//
// launch_plan.hpp decides what is started, job.hpp runs it, rank.hpp stands between mpiexec and each rank's
// program.

#include <span>

namespace manyhands::cli {

// Everything behind "run" on the command line. Returns the exit status: the program's; 2 if it was called
// wrongly.
int run_command(std::span<char*> arguments);

// Its line in the help of `manyhands`.
inline constexpr const char* run_summary = "start an MPI program with the MPI that it was built for";

}  // namespace manyhands::cli
