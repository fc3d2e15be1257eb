#pragma once
// Placement: on which cores a pool's workers run, how many threads each may use inside, and the budget of
// cores that nested pools share.
//
// A program has one CPU token per usable core. A pool that is made in the program takes as many as it has
// workers, but as many workers as it was asked for. A pool made in a worker is limited to the tokens that are
// left and one more, for its maker waits while it works: so nested pools neither wait for each other nor run
// more processes than there are cores. The tokens of a process that is killed come back. Source: hwloc(7) for
// the topology.

#include <sched.h>

#include <cstdint>
#include <vector>

#include "manyhands/shm/block.hpp"

namespace manyhands {

// Where the workers of a pool may run.
enum class Bind {
  none,  // wherever the system puts them
  core,  // worker i on the i-th of the cores that the program may use, spread over the machine
  numa,  // worker i on the cores of one NUMA node, the nodes in turn
};

namespace process {

// The cores of each of `workers` workers; empty for Bind::none. Reads the machine's topology, once per
// process (some milliseconds). Throws Error if it cannot be read.
std::vector<cpu_set_t> place_workers(Bind bind, std::uint32_t workers);

// Limits the calling process: OpenMP, OpenBLAS, MKL and BLIS to `threads` threads, as far as they are loaded,
// and those that are loaded later by their environment variables, unless the user set these.
void limit_inner_threads(int threads) noexcept;

// Some of the program's CPU tokens, given back by the destructor or by the death of the process.
class CpuTokens {
 public:
  CpuTokens() = default;  // none
  // At most `wanted`, as many as are left.
  static CpuTokens take(int wanted);
  int count() const noexcept;

 private:
  shm::BlockPtr block_;
};
// Tokens that nobody has.
int cpu_tokens_left() noexcept;

// Whether this process is a worker of a pool.
bool in_worker() noexcept;
void set_in_worker() noexcept;

}  // namespace process
}  // namespace manyhands
