// The talk's nonblocking messages: both ranks send and receive at once, and compute meanwhile. A request owns
// its buffers.
//
//   manyhands run -n 2 mpi_nonblocking

#include <fmt/format.h>

#include <manyhands/mpi.hpp>
#include <numeric>
#include <vector>

namespace mpi = manyhands::mpi;

int main(int argc, char** argv) {
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();
  const int right = (world.rank() + 1) % world.size();
  const int left = (world.rank() + world.size() - 1) % world.size();

  std::vector<double> halo(1'000'000, world.rank());
  auto sending = world.isend(std::move(halo), {.dest = right});  // moved in: nobody can touch it under way
  auto coming = world.irecv<std::vector<double>>({.source = left});  // of any size

  long tests = 0;
  while (!coming.test()) ++tests;  // room for work

  auto [sent, got] = mpi::wait_all(sending, coming);  // both buffers come back
  world.print(fmt::format("rank {} sent {} numbers to {} and got {} times {} from {}", world.rank(),
                          sent.size(), right, got.size(), got.front(), left));
}
