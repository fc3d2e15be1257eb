#pragma once
// Our sides of `./dev bench mpi`, as a user would write them; each beside its raw C side in raw.hpp.

#include <functional>
#include <manyhands/mpi.hpp>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "raw.hpp"

namespace bench::ours {

namespace mpi = manyhands::mpi;
using raw::Buffers;

struct Record {  // a plain struct that nobody has registered
  double x, y, z;
  int id, kind;
};
static_assert(sizeof(Record) == 32);

struct Object {  // strings and nested vectors: packed
  std::string name;
  std::map<std::string, double> options;
  std::vector<std::vector<double>> rows;
};

// There and back between ranks 0 and 1, into memory that is there and keeps its size.
template <class T>
void ping_pong(const mpi::Comm& comm, std::span<T> data, int times) {
  const int other = 1 - comm.rank();
  for (int i = 0; i < times; ++i) {
    if (other == 1) {
      comm.send(data, {.dest = other, .tag = 11});
      comm.recv_into(data, {.source = other, .tag = 11});
    } else {
      comm.recv_into(data, {.source = other, .tag = 11});
      comm.send(data, {.dest = other, .tag = 11});
    }
  }
}

// There and back: an object is received into the last one.
template <class T>
void ping_pong_values(const mpi::Comm& comm, T& value, int times) {
  const int other = 1 - comm.rank();
  for (int i = 0; i < times; ++i) {
    if (other == 1) {
      comm.send(value, {.dest = other, .tag = 11});
      comm.recv_into(value, {.source = other, .tag = 11});
    } else {
      comm.recv_into(value, {.source = other, .tag = 11});
      comm.send(value, {.dest = other, .tag = 11});
    }
  }
}

inline void bcast(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.bcast_into(b.part);
}
inline void scatter(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.scatter_into(b.whole, b.part);
}
inline void gather(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.gather_into(b.part, b.whole);
}
inline void allgather(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.allgather_into(b.part, b.whole);
}
inline void alltoall(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.alltoall_into(b.whole, b.other_whole);
}
inline void reduce(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.reduce_into(b.part, b.other_part, std::plus{});
}
inline void allreduce(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.allreduce_into(b.part, b.other_part, std::plus{});
}
inline void reduce_scatter(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.reduce_scatter_into(b.whole, b.part, std::plus{});
}
inline void scan(const mpi::Comm& comm, const Buffers& b, int times) {
  for (int i = 0; i < times; ++i) comm.scan_into(b.part, b.other_part, std::plus{});
}

}  // namespace bench::ours
