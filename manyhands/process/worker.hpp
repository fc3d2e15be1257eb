#pragma once
// What a worker process does from its birth to its end.

#include <cstdint>

#include "manyhands/shm/segment.hpp"

namespace manyhands::process {

struct WorkerBirth {
  std::uint32_t worker;  // its number in the pool
  int supervisor_fd;     // an eventfd of the parent's supervisor
};

// Whether `board` is a pool's with a worker of that number: for what a process that was started anew was
// given.
bool is_worker_of(const shm::Segment& board, std::uint64_t worker) noexcept;

// Runs the tasks of the pool whose board lies in `board` until the pool stops or the worker is to be
// replaced, then ends the process with status 0. One thread; called in a fresh process.
[[noreturn]] void run_worker(shm::Segment board, const WorkerBirth& birth);

}  // namespace manyhands::process
