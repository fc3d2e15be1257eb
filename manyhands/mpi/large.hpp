#pragma once
// Counts above 2^31: MPI 3 takes an int, so a larger message travels as one element of a derived datatype.
//
// Used by every call that takes a count. It works on MPIs with and without the large-count functions of MPI 4
// alike, and costs nothing below the limit.

#include <limits>

#include "manyhands/mpi/datatype.hpp"

namespace manyhands::mpi::detail {

// The largest count given to MPI as a number; tests lower it to run everything through derived datatypes.
inline MPI_Count large_limit = std::numeric_limits<int>::max();

// Calls call(int count, MPI_Datatype type) with (n, type), or with (1, a type of n elements). MPI keeps a
// datatype that is freed until the messages of it are done, so `call` may start a nonblocking one.
template <class Call>
int with_count(MPI_Count n, MPI_Datatype type, Call call) {
  if (n <= large_limit) [[likely]]
    return call(static_cast<int>(n), type);
  const Datatype large = Datatype::contiguous_of(n, type);
  return call(1, large.native());
}

// As above with two counts, as of scatter and gather.
template <class Call>
int with_counts(MPI_Count n, MPI_Datatype type, MPI_Count m, MPI_Datatype other, Call call) {
  if (n <= large_limit && m <= large_limit) [[likely]]
    return call(static_cast<int>(n), type, static_cast<int>(m), other);
  const Datatype first = Datatype::contiguous_of(n, type);
  const Datatype second = Datatype::contiguous_of(m, other);
  return call(1, first.native(), 1, second.native());
}

}  // namespace manyhands::mpi::detail
