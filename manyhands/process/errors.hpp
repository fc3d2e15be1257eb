#pragma once
// What can go wrong with worker processes, as exceptions.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/wire/function.hpp"

namespace manyhands {

// How a worker process ended under a task.
struct Death {
  pid_t pid = 0;
  std::int32_t worker = -1;  // number in its pool
  std::int64_t task = -1;    // index of the item in its map, or number of the call; -1: it ran none
  bool in_map = false;
  std::uint32_t attempt = 1;      // of the task
  int signal = 0;                 // that killed it; 0: it exited
  int exit_code = 0;              // if it exited
  bool out_of_memory = false;     // the kernel's OOM killer was at work
  std::uint64_t peak_memory = 0;  // bytes, resident
  // Of the crash, innermost first; empty if unknown (SIGKILL, for example).
  std::vector<wire::Function> stack;
  std::uint64_t fault_address = 0;  // of a SIGSEGV: what could not be accessed
};

// The worker process that ran the task died. The task may have had effects; it was not run again (see
// retries). Other tasks are not concerned, and the pool has a new worker.
class WorkerDied : public Error {
 public:
  explicit WorkerDied(Death death);

  const Death& death() const noexcept { return death_; }
  int signal() const noexcept { return death_.signal; }
  pid_t pid() const noexcept { return death_.pid; }
  // The stack of the crash, a line per frame; empty if unknown. Reads debug information.
  std::string stack() const;

 private:
  Death death_;
};

// The task needed more memory than the pool's memory_limit allows its worker. The worker lives on.
class MemoryLimitExceeded : public Error {
 public:
  using Error::Error;
};

// The pool's initializer threw or died in a worker. The pool runs no tasks; its own exception is nested
// inside.
class InitializerFailed : public Error {
 public:
  using Error::Error;
};

// The pool can run no tasks any more, and why.
class PoolBroken : public Error {
 public:
  using Error::Error;
};

// Ctrl-C while waiting, in programs that asked for an exception (InitOptions::on_interrupt).
class Interrupted : public Error {
 public:
  using Error::Error;
};

// "SIGSEGV (Segmentation fault)".
std::string signal_text(int signal);
// "exit status 3", or the signal's text: what waitpid says of a process's end.
std::string end_text(int status);

}  // namespace manyhands
