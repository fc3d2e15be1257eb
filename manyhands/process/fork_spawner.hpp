#pragma once
// ForkSpawner: workers forked right here and now, from the caller's present state (Start::fork).
//
// Each worker is a copy of the program at this moment: closures may refer to anything, the worker sees a
// snapshot. That is only safe while no other thread runs, and a worker that dies cannot be replaced, because
// the moment is over.

#include <memory>

#include "manyhands/process/spawner.hpp"
#include "manyhands/shm/segment.hpp"

namespace manyhands::process {

// Forks `workers` worker processes of the pool in `board`. Throws Error if other threads run, SystemError if
// a fork fails.
std::unique_ptr<Spawner> fork_workers(const shm::Segment& board, int supervisor_fd, std::uint32_t workers);

}  // namespace manyhands::process
