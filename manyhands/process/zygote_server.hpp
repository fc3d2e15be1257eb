#pragma once
// The zygote's own life: what the process does that zygote.hpp speaks of.

#include <signal.h>
#include <sys/types.h>

#include "manyhands/base/unique_fd.hpp"
#include "manyhands/net/fd_channel.hpp"

namespace manyhands::process {

struct ZygoteBirth {
  net::FdChannel door;              // its end
  net::FdChannel door_for_workers;  // the other end, which its children get
  UniqueFd program;                 // a pidfd
  pid_t program_pid = 0;
  sigset_t program_mask{};             // of signals, which its children get back
  struct sigaction program_sigchld{};  // the program's disposition; its children get it back
};

// Tells the program that it is born, and serves until the program is gone and all that it started has ended;
// then ends the process. Called in a fresh process of one thread.
[[noreturn]] void run_zygote(ZygoteBirth birth);

}  // namespace manyhands::process
