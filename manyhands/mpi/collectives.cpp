#include "manyhands/mpi/collectives.hpp"

#include <fmt/format.h>

namespace manyhands::mpi {
void Collectives::barrier() const {
  detail::CommState& here = state("barrier");
  detail::verify(here, "barrier", -1, -1);
  detail::launch_blocking([&](detail::Launch& launch) { detail::barrier(here, launch); });
}

Request<void> Collectives::ibarrier() const {
  return detail::launch_request("ibarrier",
                                [&](detail::Launch& launch) { detail::barrier(state("ibarrier"), launch); });
}

Persistent Collectives::barrier_init() const {
  return detail::launch_persistent("barrier_init", [&here = state("barrier_init")](detail::Launch& launch) {
    detail::barrier(here, launch);
  });
}

void Collectives::alltoallw(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const {
  detail::launch_blocking(
      [&](detail::Launch& launch) { detail::alltoallw(state("alltoallw"), send, recv, launch); });
}

Request<void> Collectives::ialltoallw(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const {
  return detail::launch_request("ialltoallw", [&](detail::Launch& launch) {
    detail::alltoallw(state("ialltoallw"), send, recv, launch);
  });
}

Persistent Collectives::alltoallw_init(std::span<const ConstBuffer> send,
                                       std::span<const Buffer> recv) const {
  return detail::launch_persistent("alltoallw_init",
                                   [&here = state("alltoallw_init"), send, recv](detail::Launch& launch) {
                                     detail::alltoallw(here, send, recv, launch);
                                   });
}

MPI_Count Collectives::equal_part(const char* verb, MPI_Count count) const {
  const detail::CommState& here = state(verb);
  if (count % here.peers == 0) [[likely]]
    return count / here.peers;
  detail::fail(Errc::count, verb, {.comm = here.comm},
               fmt::format("a buffer of {} elements has no equal parts for {} ranks", count, here.peers));
}

}  // namespace manyhands::mpi
