// The talk's collectives of all ranks: what rank 0 knows, everybody knows; and nobody goes on before all are
// there.
//
//   manyhands run -n 3 mpi_bcast_barrier

#include <fmt/format.h>

#include <manyhands/mpi.hpp>
#include <string>
#include <vector>

namespace mpi = manyhands::mpi;

struct Config {
  std::string title;
  std::vector<double> weights;
  int steps = 0;
};

int main(int argc, char** argv) {
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();

  const auto config = world.bcast(world.rank() == 0 ? Config{"waves", {0.25, 0.5, 0.25}, 100} : Config{});
  world.print(fmt::format("rank {} knows '{}': {} weights, {} steps", world.rank(), config.title,
                          config.weights.size(), config.steps));

  const double late = mpi::wtime();
  world.barrier();
  if (world.rank() == 0) fmt::print("all {} ranks met after {:.3f} s\n", world.size(), mpi::wtime() - late);
}
