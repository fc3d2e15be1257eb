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

#include "manyhands/mpi/attributes.hpp"
#include "manyhands/mpi/collective.hpp"
#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/environment.hpp"
#include "manyhands/mpi/file.hpp"
#include "manyhands/mpi/generalized_request.hpp"
#include "manyhands/mpi/halo.hpp"
#include "manyhands/mpi/intercomm.hpp"
#include "manyhands/mpi/mutex.hpp"
#include "manyhands/mpi/pack.hpp"
#include "manyhands/mpi/pool.hpp"
#include "manyhands/mpi/session.hpp"
#include "manyhands/mpi/shared_array.hpp"
#include "manyhands/mpi/sort.hpp"
#include "manyhands/mpi/sparse_alltoall.hpp"
#include "manyhands/mpi/spawn.hpp"
#include "manyhands/mpi/timers.hpp"
#include "manyhands/mpi/tool.hpp"
#include "manyhands/mpi/topology.hpp"
#include "manyhands/mpi/window.hpp"
