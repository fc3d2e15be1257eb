#pragma once
// Timers: where the time of a parallel program goes, on which rank.
//
//   mpi::Timers timers;
//   for (int i = 0; i < steps; ++i) {
//     const auto step = timers.scope("step");
//     { const auto halo = timers.scope("halo"); update_border_cells(); }    // "step/halo"
//     compute();
//   }
//   timers.print(world);
//
//   timer       calls   min s  mean s   max s  on rank
//   step          100   1.021   1.102   1.240        3
//   step/halo     100   0.091   0.153   0.310        0

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manyhands/mpi/comm.hpp"

namespace manyhands::mpi {

// One timer over all ranks. Times are sums over the calls, in seconds.
struct TimerSummary {
  std::string name;         // with the names of those it was measured in: "step/halo"
  std::uint64_t calls = 0;  // the most of any rank
  double min = 0;
  double mean = 0;
  double max = 0;
  int slowest = 0;  // the rank of `max`
};

// Of one rank and one thread.
class Timers {
 public:
  // Measures until it goes. Those that are made meanwhile are parts of it; they go first.
  class Scope {
   public:
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope();

   private:
    friend class Timers;
    Scope(Timers& timers, std::string_view name);
    Timers& timers_;
    std::size_t outer_;  // length of the name around this one's
    std::int64_t start_ns_;
  };
  [[nodiscard]] Scope scope(std::string_view name) { return Scope(*this, name); }

  // Seconds that were measured here under this name, "step/halo"; 0 if none were.
  double seconds(const std::string& name) const;

  // All timers of all ranks, by name; one that a rank does not have is 0 there. Empty but on rank 0.
  // Collective; blocks. Scopes that have not gone are not counted.
  std::vector<TimerSummary> collect(const Comm& comm) const;
  // Rank 0 prints them to stdout as a table. Collective; blocks.
  void print(const Comm& comm) const;

 private:
  struct Sum {
    std::uint64_t calls = 0;
    std::int64_t ns = 0;
  };
  std::string current_;  // the name of the innermost scope
  std::map<std::string, Sum> sums_;
};

}  // namespace manyhands::mpi
