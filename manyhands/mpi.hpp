#pragma once
// manyhands::mpi: programs whose processes talk to each other, over Open MPI or MPICH.
//
//   #include <manyhands/mpi.hpp>
//   namespace mpi = manyhands::mpi;
//   int main(int argc, char** argv) {
//     mpi::Environment env(argc, argv);
//     const auto& world = mpi::world();
//     const double sum = world.allreduce(work(world.rank()), std::plus<>());
//   }
//
// Link manyhands::mpi; start with `manyhands run -n 4 ./program`, or mpiexec.

#include "manyhands/mpi/collective.hpp"
#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/environment.hpp"
#include "manyhands/mpi/halo.hpp"
#include "manyhands/mpi/pool.hpp"
#include "manyhands/mpi/shared_array.hpp"
#include "manyhands/mpi/topology.hpp"
#include "manyhands/mpi/window.hpp"
