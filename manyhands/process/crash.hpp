#pragma once
// The crash handler of worker processes: a task that segfaults leaves its stack behind for the parent's
// error.

#include "manyhands/process/board.hpp"

namespace manyhands::process {

// From now on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT note the stack in `slot`, which must outlive the
// process's work, and then end the process as they would have. Works on a stack of its own, so that a stack
// overflow is noted too.
void install_crash_handler(WorkerSlot& slot) noexcept;

}  // namespace manyhands::process
