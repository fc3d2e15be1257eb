#pragma once
// Real programs, written twice: as a careful C programmer would write them, and with manyhands. Both do the
// same arithmetic on the same input in one job, and must give the same result to the last bit.
//
// Each program has a file of its own, with both versions; main.cpp runs them by turns.

#include <manyhands/mpi.hpp>
#include <string>
#include <vector>

#include "../../sides.hpp"

namespace bench::ports {

namespace mpi = manyhands::mpi;

struct Setting {
  std::string prefix;  // of the rows: "openmpi "
  int blocks = 9;      // how often each version runs
};

// Reports both versions' seconds, as rows "NAME: raw C" and "NAME: ours"; ends the program if what they
// return differs. Both are called with nothing; every second time ours comes first.
template <class Raw, class Ours>
void compare(const Setting& setting, const std::string& name, Raw raw, Ours ours) {
  const mpi::Comm& world = mpi::world();
  const auto seconds = [&](const auto& version) {
    world.barrier();
    const auto start = Clock::now();
    [[maybe_unused]] const auto result = version();
    world.barrier();  // the slowest rank counts
    return seconds_since(start);
  };
  require(raw() == ours(), name + ": the two versions differ");
  Samples of_raw, of_ours;
  for (int i = 0; i < setting.blocks; ++i) {
    if (i % 2 == 0) of_raw.push_back(seconds(raw));
    of_ours.push_back(seconds(ours));
    if (i % 2 == 1) of_raw.push_back(seconds(raw));
  }
  if (world.rank() != 0) return;
  report(setting.prefix + name + ": raw C", of_raw);
  report(setting.prefix + name + ": ours", of_ours);
}

void heat(const Setting& setting);
void conjugate_gradient(const Setting& setting);
void histogram(const Setting& setting);
void sample_sort(const Setting& setting);
void breadth_first(const Setting& setting);
void mandelbrot(const Setting& setting);
void files(const Setting& setting);

}  // namespace bench::ports
