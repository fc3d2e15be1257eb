// The talk's array message: 23 ints under tag 77, from where they lie to where they shall lie. The datatype
// is inferred.
//
//   manyhands run -n 2 mpi_p2p_array

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <manyhands/mpi.hpp>
#include <numeric>
#include <vector>

namespace mpi = manyhands::mpi;

int main(int argc, char** argv) {
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();

  if (world.rank() == 0) {
    std::vector<int> data(23);
    std::iota(data.begin(), data.end(), 0);
    world.send(data, {.dest = 1, .tag = 77});
    world.send(data, {.dest = 1, .tag = 77});
  } else if (world.rank() == 1) {
    std::array<int, 23> data{};
    world.recv_into(data, {.source = 0, .tag = 77});                            // straight into `data`
    const auto sized = world.recv<std::vector<int>>({.source = 0, .tag = 77});  // as large as what comes
    fmt::print("rank 1 got {} and {} ints: {}\n", data.size(), sized.size(), fmt::join(data, " "));
  }
}
