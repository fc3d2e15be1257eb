#include "manyhands/mpi/collectives.hpp"

#include <fmt/format.h>

namespace manyhands::mpi {
namespace detail {

void require_root(CommState& state, const char* verb, int root) {
  if (root >= 0 && root < state.size) [[likely]]
    return;
  fail(Errc::root, verb, {.comm = state.comm, .root = root},
       fmt::format("the ranks are 0 to {}", state.size - 1));
}

void require_items(CommState& state, const char* verb, std::size_t items) {
  if (items == static_cast<std::size_t>(state.size)) [[likely]]
    return;
  fail(Errc::count, verb, {.comm = state.comm},
       fmt::format("{} items were given for {} ranks: there must be one for each{}", items, state.size,
                   std::string_view(verb) == "scatter" ? "; scatter_range cuts a range into parts" : ""));
}

void require_counts(CommState& state, const char* verb, std::span<const MPI_Count> counts, MPI_Count total) {
  require_items(state, verb, counts.size());
  if (const MPI_Count added = sum(counts); added != total)
    fail(Errc::count, verb, {.comm = state.comm},
         fmt::format("the counts add up to {}, the range has {} elements", added, total));
}

std::vector<MPI_Count> near_equal(MPI_Count count, int parts) {
  std::vector<MPI_Count> lengths;
  for (int i = 0; i < parts; ++i) lengths.push_back(count / parts + (i < count % parts ? 1 : 0));
  return lengths;
}

}  // namespace detail

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
