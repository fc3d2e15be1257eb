/* A C library that knows nothing of manyhands: it takes communicators and gives them out. */
#include <mpi.h>

/* The sum of everybody's value; MPI_COMM_NULL or an error of MPI: its code. */
int c_sum(MPI_Comm comm, double value, double* total) {
  return MPI_Allreduce(&value, total, 1, MPI_DOUBLE, MPI_SUM, comm);
}

/* A communicator of the ranks that are as even or odd as this one; the caller frees it. */
MPI_Comm c_same_parity(MPI_Comm comm) {
  MPI_Comm parity;
  int rank;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_split(comm, rank % 2, rank, &parity);
  return parity;
}

/* The library's own communicator, which it keeps. */
MPI_Comm c_library_comm(void) { return MPI_COMM_WORLD; }

/* Takes a communicator over, and frees it when it is done. Returns its size. */
int c_use_and_free(MPI_Comm comm) {
  int size;
  MPI_Comm_size(comm, &size);
  MPI_Comm_free(&comm);
  return size;
}
