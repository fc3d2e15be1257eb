#include "manyhands/process/errors.hpp"

#include <fmt/core.h>
#include <string.h>
#include <sys/wait.h>

#include "manyhands/base/stack_trace.hpp"
#include "manyhands/process/pipe.hpp"
#include "manyhands/shm/barrier.hpp"
#include "manyhands/shm/lock_errors.hpp"
#include "manyhands/task/state.hpp"
#include "manyhands/wire/callable.hpp"
#include "manyhands/wire/error.hpp"
#include "manyhands/wire/remote_error.hpp"

namespace manyhands {

template <>
struct wire::Codec<WorkerDied> {
  static void pack(Writer& writer, const WorkerDied& error) { wire::pack(writer, error.death()); }
  static WorkerDied unpack(Reader& reader) { return WorkerDied(wire::unpack<Death>(reader)); }
};

namespace {

// Errors of pools inside tasks, and of the workers themselves, arrive as what they are.
[[maybe_unused]] const bool known =
    register_exception<MemoryLimitExceeded>() && register_exception<InitializerFailed>() &&
    register_exception<PoolBroken>() && register_exception<DeadlineExceeded>() &&
    register_exception<LockAbandoned>() && register_exception<DeadlockError>() &&
    register_exception<BrokenBarrier>() && register_exception<QueueClosed>() &&
    register_exception<EndOfPipe>() && register_exception<WorkerDied>();

std::string frame_text(const wire::Function& frame) {
  try {
    return describe_address(wire::address_of(frame));
  } catch (const WireError&) {  // a module that only the worker has loaded
    return wire::describe(frame);
  }
}

std::string death_text(const Death& death) {
  std::string text = fmt::format("worker {} (pid {}) ", death.worker, death.pid);
  if (death.out_of_memory) {
    text += "was killed because the machine or its cgroup ran out of memory";
  } else if (death.signal != 0) {
    text += fmt::format("was killed by {}", signal_text(death.signal));
  } else {
    text += fmt::format("ended itself with exit status {}", death.exit_code);
  }
  if (death.task >= 0) {
    text += fmt::format(" while it ran {} {}", death.in_map ? "item" : "task", death.task);
    if (death.attempt > 1) text += fmt::format(" (attempt {})", death.attempt);
  }
  if (const std::string capture = wire::captured_pointer_text(death.fault_address); !capture.empty())
    text += fmt::format(": {}", capture);
  text += fmt::format("; its memory had grown to {} MiB", death.peak_memory >> 20);
  return text;
}

}  // namespace

std::string signal_text(int signal) {
  const char* name = sigabbrev_np(signal);
  const char* meaning = sigdescr_np(signal);
  if (name == nullptr) return fmt::format("signal {}", signal);
  return fmt::format("SIG{} ({})", name, meaning != nullptr ? meaning : "unknown");
}

std::string end_text(int status) {
  return WIFSIGNALED(status) ? signal_text(WTERMSIG(status))
                             : fmt::format("exit status {}", WEXITSTATUS(status));
}

WorkerDied::WorkerDied(Death death) : Error(death_text(death)), death_(std::move(death)) {}

std::string WorkerDied::stack() const {
  std::string text;
  for (const auto& frame : death_.stack) text += "  " + frame_text(frame) + "\n";
  return text;
}

}  // namespace manyhands
