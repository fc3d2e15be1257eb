#pragma once
// The raw C sides of `./dev bench mpi`: what a careful C programmer writes, with counts known and buffers
// there.
//
// Each does its operation `times` times, so that nothing but MPI is between two of them. Errors: as MPI does
// by default.

#include <mpi.h>

#include <cstddef>
#include <span>

namespace bench::raw {

inline int peer(MPI_Comm comm) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  return 1 - rank;
}

// There and back between ranks 0 and 1.
inline void ping_pong(MPI_Comm comm, void* data, int count, MPI_Datatype type, int times) {
  const int other = peer(comm);
  for (int i = 0; i < times; ++i) {
    if (other == 1) {
      MPI_Send(data, count, type, 1, 11, comm);
      MPI_Recv(data, count, type, 1, 11, comm, MPI_STATUS_IGNORE);
    } else {
      MPI_Recv(data, count, type, 0, 11, comm, MPI_STATUS_IGNORE);
      MPI_Send(data, count, type, 0, 11, comm);
    }
  }
}

// Collectives of doubles from and to rank 0. `part` is one rank's, `whole` has one part for each rank.
struct Buffers {
  std::span<double> part;
  std::span<double> other_part;
  std::span<double> whole;
  std::span<double> other_whole;
  int part_count() const { return static_cast<int>(part.size()); }
};

inline void bcast(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) MPI_Bcast(b.part.data(), b.part_count(), MPI_DOUBLE, 0, comm);
}
inline void scatter(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i)
    MPI_Scatter(b.whole.data(), b.part_count(), MPI_DOUBLE, b.part.data(), b.part_count(), MPI_DOUBLE, 0,
                comm);
}
inline void gather(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i)
    MPI_Gather(b.part.data(), b.part_count(), MPI_DOUBLE, b.whole.data(), b.part_count(), MPI_DOUBLE, 0,
               comm);
}
inline void allgather(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i)
    MPI_Allgather(b.part.data(), b.part_count(), MPI_DOUBLE, b.whole.data(), b.part_count(), MPI_DOUBLE,
                  comm);
}
inline void alltoall(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i)
    MPI_Alltoall(b.whole.data(), b.part_count(), MPI_DOUBLE, b.other_whole.data(), b.part_count(), MPI_DOUBLE,
                 comm);
}
inline void reduce(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i)
    MPI_Reduce(b.part.data(), b.other_part.data(), b.part_count(), MPI_DOUBLE, MPI_SUM, 0, comm);
}
inline void allreduce(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i)
    MPI_Allreduce(b.part.data(), b.other_part.data(), b.part_count(), MPI_DOUBLE, MPI_SUM, comm);
}
inline void reduce_scatter(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i)
    MPI_Reduce_scatter_block(b.whole.data(), b.part.data(), b.part_count(), MPI_DOUBLE, MPI_SUM, comm);
}
inline void scan(MPI_Comm comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i)
    MPI_Scan(b.part.data(), b.other_part.data(), b.part_count(), MPI_DOUBLE, MPI_SUM, comm);
}

}  // namespace bench::raw
