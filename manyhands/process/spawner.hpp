#pragma once
// Spawner: where a pool's worker processes come from and how their ends are told. Two kinds: ZygoteSpawner
// (zygote.hpp) and ForkSpawner (fork_spawner.hpp).

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/base/unique_fd.hpp"

namespace manyhands::process {

struct WorkerEvent {
  enum class Kind : std::uint32_t {
    started,   // pid is known, and pidfd unless a process had no descriptor left
    exited,    // status as of waitpid, peak_memory in bytes
    stopped,   // by the signal in status
    failed,    // could not be started: status is the errno
    lost_all,  // the zygote is gone, and all its workers with it
  };
  Kind kind;
  std::uint32_t worker = 0;
  pid_t pid = 0;
  int status = 0;
  std::uint64_t peak_memory = 0;
  UniqueFd pidfd;
};

class Spawner {
 public:
  virtual ~Spawner() = default;
  // Starts (or replaces) worker `worker`; the outcome is an event. Throws SystemError.
  virtual void spawn(std::uint32_t worker) = 0;
  // Sends SIGKILL to worker `worker` if it runs: for who has no pidfd of it.
  virtual void kill(std::uint32_t worker) = 0;
  // No more workers are needed: those that have not been started yet need not be. Each still has its exited
  // event.
  virtual void close() {}
  // What happened since the last call. Does not block.
  virtual std::vector<WorkerEvent> events() = 0;
  // Descriptors that become readable when events() may have something.
  virtual void add_poll_fds(std::vector<int>& fds) const = 0;
  // Whether a dead worker can be replaced.
  virtual bool can_respawn() const = 0;
};

}  // namespace manyhands::process
