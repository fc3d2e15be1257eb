// The talk's scatter and gather: N numbers are spread over all ranks, each sums up its part, the sums come
// back.
//
//   manyhands run -n 2 mpi_scatter_gather        ->  Answer from rank 0: [10, 35]
//   manyhands run -n 3 mpi_scatter_gather 11     N need not divide

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <manyhands/mpi.hpp>
#include <numeric>
#include <vector>

namespace mpi = manyhands::mpi;

int main(int argc, char** argv) {
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();
  const int n = argc > 1 ? std::atoi(argv[1]) : 10;

  std::vector<int> numbers;
  if (world.rank() == 0) {
    numbers.resize(static_cast<std::size_t>(n));
    std::iota(numbers.begin(), numbers.end(), 0);
  }
  const auto mine = world.scatter_range(numbers);
  const int sum = std::accumulate(mine.begin(), mine.end(), 0);
  const auto answer = world.gather(sum);

  world.print(fmt::format("Answer from rank {}: [{}]", world.rank(), fmt::join(answer, ", ")));
}
