#include "manyhands/mpi/collective_steps.hpp"

#include <fmt/format.h>

#include <string_view>

namespace manyhands::mpi::detail {

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
  lengths.reserve(static_cast<std::size_t>(parts));
  for (int i = 0; i < parts; ++i) lengths.push_back(count / parts + (i < count % parts ? 1 : 0));
  return lengths;
}

}  // namespace manyhands::mpi::detail
