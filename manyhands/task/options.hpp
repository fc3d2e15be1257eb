#pragma once
// What a caller may say about a map or a call, as aggregates:
//
//   pool.map(f, xs, {.chunk = 100, .deadline = 2s});

#include <cstddef>
#include <cstdint>
#include <optional>

#include "manyhands/base/clock.hpp"
#include "manyhands/task/progress.hpp"

namespace manyhands {

struct CallOptions {
  // A task that runs longer than this, from its start, fails with DeadlineExceeded; its worker process is
  // killed and replaced. Threads cannot be killed: there the error comes when the task ends, and
  // this_task::stop_requested() turns true at the deadline.
  TimeLimit deadline = Deadline::never;
  // How often a task is run again after its worker process died under it. The task must not mind being run
  // twice. Default: as the pool says (0).
  std::optional<int> retries = {};
  // Of this_task::rng() in the calls that follow, of which each has a stream of its own, in the order in
  // which they are submitted. Default: one of the executor's own, the same in each run.
  std::optional<std::uint64_t> seed = {};
};

struct MapOptions {
  // Items that a worker takes at a time; 0: chosen so that each worker takes about 256 times.
  std::size_t chunk = 0;
  TimeLimit deadline = Deadline::never;  // of one item; see CallOptions
  std::optional<int> retries = {};       // of one item; see CallOptions
  // Called in the thread that waits, at most ten times a second and once at the end.
  ProgressFunction progress = {};
  // Of this_task::rng() in the items, of which each has a stream of its own, by its index. Default: another
  // one for each map of the executor, the same in each run.
  std::optional<std::uint64_t> seed = {};
};

struct StreamOptions {
  // Items per task. One that throws takes the results of its whole task along.
  std::size_t chunk = 1;
  std::size_t window = 0;                // tasks in flight at most; 0: four per worker
  TimeLimit deadline = Deadline::never;  // of one task
  std::optional<int> retries = {};
  ProgressFunction progress = {};          // called in the thread that iterates
  std::optional<std::uint64_t> seed = {};  // see MapOptions
};

struct CancelOptions {
  // Also ends a task that is running: its worker process is killed and replaced. Without it a running task is
  // only asked, through this_task::stop_requested().
  bool kill = false;
};

}  // namespace manyhands
