// mpi::Pool's side of `./dev bench mpi`: tasks that do nothing, submitted one by one, then all results
// fetched.
//
// usage: pool MPI [REPEATS]; prints the seconds per task.

#include <cstdlib>
#include <manyhands/mpi.hpp>
#include <string>
#include <vector>

#include "../sides.hpp"

namespace mpi = manyhands::mpi;

namespace {
constexpr int tasks = 20'000;
int nothing(int x) { return x; }
}  // namespace

int main(int argc, char** argv) {
  mpi::Environment env(argc, argv);
  mpi::Pool pool(mpi::world(), {.driver_works = false});
  if (!pool) return 0;
  const auto run = [&] {
    std::vector<manyhands::AsyncResult<int>> results;
    results.reserve(tasks);
    for (int i = 0; i < tasks; ++i) results.push_back(pool.apply_async(nothing, i));
    int sum = 0;
    for (auto& result : results) sum += result.get() - sum;
    return sum;
  };
  auto samples = bench::repeated(argc > 2 ? std::atoi(argv[2]) : 5, run);
  for (double& seconds : samples) seconds /= tasks;
  bench::report(std::string(argc > 1 ? argv[1] : "") + " task: ours", samples);
}
