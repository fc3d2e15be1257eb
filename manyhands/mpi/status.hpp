#pragma once
// Status: what a receive got: from whom, with which tag, how much.

#include "manyhands/mpi/datatype.hpp"

namespace manyhands::mpi {

inline constexpr int any_source = MPI_ANY_SOURCE;
inline constexpr int any_tag = MPI_ANY_TAG;
// A rank that is nobody: sends to it and receives from it do nothing.
inline constexpr int proc_null = MPI_PROC_NULL;

struct Status;
namespace detail {
// The bytes that came are no whole number of elements.
[[noreturn]] void fail_uneven(const Status& status, std::size_t element_size);
}  // namespace detail

struct Status {
  int source = MPI_ANY_SOURCE;  // rank in the communicator; proc_null if received from nobody
  int tag = MPI_ANY_TAG;
  MPI_Count bytes = 0;
  bool cancelled = false;

  // How many T came. Throws Error (truncate) if the bytes are no whole number of T.
  template <Plain T>
  MPI_Count count() const {
    if (bytes % static_cast<MPI_Count>(sizeof(T)) != 0) detail::fail_uneven(*this, sizeof(T));
    return bytes / static_cast<MPI_Count>(sizeof(T));
  }
};

namespace detail {

Status to_status(const MPI_Status& native);
// The bytes that a message has.
MPI_Count bytes_of(const MPI_Status& native);

}  // namespace detail
}  // namespace manyhands::mpi
