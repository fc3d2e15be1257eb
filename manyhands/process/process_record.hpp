#pragma once
// ProcessRecord: what the two ends of an mh::Process and the zygote know of it, in the program's shared
// memory.

#include <array>
#include <atomic>
#include <cstdint>

#include "manyhands/shm/futex.hpp"
#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/participants.hpp"
#include "manyhands/wire/function.hpp"

namespace manyhands::process {

enum class ProcessState : std::uint32_t { starting, running, ended, failed };  // failed: could not be started

struct ProcessRecord {
  shm::FutexWord state;              // ProcessState; written by who forks and who reaps
  std::atomic<std::int32_t> pid;     // 0: not yet forked
  std::atomic<std::int32_t> status;  // once ended: as of waitpid; once failed: the errno
  // Of the function's end, written by the process itself; -1: not ended so.
  std::atomic<std::int32_t> exit_code;
  std::atomic<std::uint32_t> detached;
  std::atomic<shm::ThreadToken> thread;    // the process's main thread; 0 before it runs
  std::int32_t parent;                     // pid of who started it; constant
  std::int32_t is_fork;                    // 1: a child of `parent`, which reaps it; constant
  shm::FutexWord fork_is_watched;          // 1: `parent` has its pidfd, and the fork may begin
  std::int32_t fork_pidfd;                 // of `parent`, which alone uses it; -1: none
  std::atomic<std::uint64_t> peak_memory;  // bytes, once ended
  std::atomic<shm::ThreadToken> zygote;    // that started it; 0: not yet, or a fork of its parent
  shm::Offset surroundings;                // with a reference of the record's; constant
  std::atomic<shm::Offset> call;           // the message with function and arguments; 0 once it was read
  wire::Function thunk;                    // a wire::CallThunk; constant
  std::array<char, 48> name;               // constant, zero-terminated, as is the next
  std::array<char, 48> parent_name;
};

// Ends the process's life in its record: called by who reaped it.
void record_end(shm::Offset offset, int status, std::uint64_t peak_memory) noexcept;

// It could not be started, for the reason `error`, an errno: called by who tried.
void record_failure(shm::Offset offset, int error) noexcept;

// The life of a process from its birth: runs the call in its record and ends the process with its exit
// status.
[[noreturn]] void run_process(shm::Offset offset);

}  // namespace manyhands::process
