#pragma once
// Other threads of this process, which a fork must not leave behind in the middle of something.

#include <string>

namespace manyhands::process {

// How many threads besides the caller's and manyhands' own run here once those have ended that a library ends
// before a fork: OpenBLAS and others start threads before main, and have a fork handler for them. So, if
// there are any, this process is forked once for nothing. Reads /proc; blocks for the length of a fork.
int threads_that_forbid_fork();

// "2 other threads run in this process (libmkl_core.so.2 is loaded, which starts threads of its own ...)".
std::string describe_other_threads(int count);

}  // namespace manyhands::process
