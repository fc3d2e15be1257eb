#include "manyhands/mpi/status.hpp"

#include <fmt/format.h>

namespace manyhands::mpi::detail {

void fail_uneven(const Status& status, std::size_t element_size) {
  fail(Errc::truncate, "receive", {.source = status.source, .tag = status.tag},
       fmt::format("{} bytes came, which is no whole number of elements of {} bytes: sender and receiver "
                   "name different types",
                   status.bytes, element_size));
}

MPI_Count bytes_of(const MPI_Status& native) {
  int count = 0;
  MPI_Get_count(&native, MPI_BYTE, &count);
  if (count != MPI_UNDEFINED) [[likely]]
    return count;
  MPI_Count large = 0;
  MPI_Get_elements_x(&native, MPI_BYTE, &large);
  return large;
}

Status to_status(const MPI_Status& native) {
  int cancelled = 0;
  MPI_Test_cancelled(&native, &cancelled);
  return {.source = native.MPI_SOURCE,
          .tag = native.MPI_TAG,
          .bytes = cancelled != 0 ? 0 : bytes_of(native),
          .cancelled = cancelled != 0};
}

}  // namespace manyhands::mpi::detail
