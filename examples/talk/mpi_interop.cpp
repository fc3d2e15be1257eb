// Other MPI codes: a C and a Fortran library work on our communicators, and we on theirs.
#include <cstdio>
#include <functional>
#include <manyhands/mpi.hpp>
#include <utility>

namespace mpi = manyhands::mpi;

extern "C" {  // mpi_interop_c.c
int c_sum(MPI_Comm comm, double value, double* total);
MPI_Comm c_same_parity(MPI_Comm comm);
MPI_Comm c_library_comm(void);
int c_use_and_free(MPI_Comm comm);
#ifdef MPI_INTEROP_FORTRAN  // mpi_interop_f.f90
void f_largest(MPI_Fint comm, double value, double* largest);
#endif
}

int main(int argc, char** argv) {
  mpi::Environment env(argc, argv);
  const auto& world = mpi::world();
  const auto say = [&](const char* format, auto... values) {
    if (world.rank() == 0) std::printf(format, values...);
  };
  const double mine = world.rank() + 1;

  // Ours for theirs: native() is the handle that every MPI code takes.
  double total = 0;
  c_sum(world.native(), mine, &total);
  say("C: the sum over %d ranks is %g\n", world.size(), total);
#ifdef MPI_INTEROP_FORTRAN
  double largest = 0;
  f_largest(MPI_Comm_c2f(world.native()), mine, &largest);
  say("Fortran: the largest is %g\n", largest);
#endif

  // Theirs for ours: adopt() takes a handle over and frees it in the end.
  const auto parity = mpi::Comm::adopt(c_same_parity(world.native()));
  say("adopted: %d of %d ranks are even, their sum is %g\n", parity.size(), world.size(),
      parity.allreduce(mine, std::plus{}));

  // view() looks at one that another keeps; dup() has the same ranks, but messages of its own.
  const auto view = mpi::Comm::view(c_library_comm());
  const auto copy = mpi::Comm::dup(c_library_comm());
  say("viewed: %d ranks; duplicated: %s, %d ranks\n", view.size(),
      copy.compare(view) == mpi::Comparison::congruent ? "congruent" : "different", copy.size());

  // release() gives one of ours away for good.
  auto half = world.split(world.rank() < (world.size() + 1) / 2 ? 0 : 1);
  say("released: C has freed our communicator of %d ranks\n", c_use_and_free(half.release()));
  say("and ours is %s\n", half ? "still there" : "empty");
}
