// The talk's first MPI program: every process says who it is, and where it stands in a 4-D grid of all of
// them.
//
//   manyhands run -n 4 mpi_hello

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <manyhands/mpi.hpp>

namespace mpi = manyhands::mpi;

int main(int argc, char** argv) {
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();
  const mpi::Cart grid(world, {.dims = {0, 0, 0, 0}});  // 0: MPI chooses

  world.print(fmt::format("Hello from {}, {} of {}, at <{}>", mpi::node_name(), world.rank(), world.size(),
                          fmt::join(grid.coords(grid.rank()), ",")));
}
