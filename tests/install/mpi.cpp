#include <cstdio>
#include <functional>
#include <manyhands/mpi.hpp>

int main(int argc, char** argv) {
  const manyhands::mpi::Environment env(argc, argv);
  std::printf("%d\n", manyhands::mpi::self().allreduce(41, std::plus<>()) + 1);
}
