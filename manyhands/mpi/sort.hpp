#pragma once
// sort(): sorts what all ranks have as one sequence.
//
//   std::vector<double> mine = mpi::sort(world, std::move(numbers));
//   // mine is sorted, and all of it comes before what the next rank has
//
// Sample sort by regular sampling. Source: H. Shi, J. Schaeffer, "Parallel sorting by regular sampling"
// (1992).

#include <algorithm>
#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/ragged.hpp"

namespace manyhands::mpi {

namespace detail {

// An element and where it is: no two are equal, so that many equal values spread over several ranks.
template <class T>
struct SortSample {
  T value;
  std::int64_t rank;
  std::int64_t index;
};

// Elements of each rank's `count` that are looked at, of `total` in all.
std::int64_t samples_of(std::int64_t count, std::int64_t total, int ranks) noexcept;

// The places in `sorted`, of `rank`, where the parts for the other ranks begin.
template <class T, class Less>
std::vector<std::size_t> cut_at(const std::vector<SortSample<T>>& splitters, const std::vector<T>& sorted,
                                int rank, const Less& less) {
  std::vector<std::size_t> cuts{0};
  for (const auto& splitter : splitters) {
    const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), splitter.value, less);
    auto cut = static_cast<std::size_t>(first - sorted.begin());
    if (rank < splitter.rank) cut = static_cast<std::size_t>(last - sorted.begin());
    if (rank == splitter.rank) cut = static_cast<std::size_t>(splitter.index);
    cuts.push_back(std::max(cut, cuts.back()));
  }
  cuts.push_back(sorted.size());
  return cuts;
}

// The parts, each of which is sorted, as one.
template <class T, class Less>
std::vector<T> merge_parts(Ragged<T>&& parts, const Less& less) {
  std::vector<std::size_t> ends;
  for (std::size_t part = 0, end = 0; part < parts.parts(); ++part)
    ends.push_back(end += static_cast<std::size_t>(parts.count(part)));
  std::vector<T> from = std::move(parts.values());
  std::vector<T> to(from.size());
  while (ends.size() > 1) {  // neighbours in pairs
    std::vector<std::size_t> merged;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < ends.size(); i += 2) {
      const std::size_t middle = ends[i];
      const std::size_t end = i + 1 < ends.size() ? ends[i + 1] : middle;
      const auto at = [&from](std::size_t place) {
        return from.begin() + static_cast<std::ptrdiff_t>(place);
      };
      std::merge(at(begin), at(middle), at(middle), at(end), to.begin() + static_cast<std::ptrdiff_t>(begin),
                 less);
      merged.push_back(end);
      begin = end;
    }
    ends = std::move(merged);
    std::swap(from, to);
  }
  return from;
}

}  // namespace detail

// Returns this rank's part of all ranks' elements in ascending order by `less`, a strict weak order: the
// parts of ranks 0, 1, ... one behind the other are the sorted sequence. Collective, blocks; any lengths,
// also 0. The parts are about equally long, at most twice the average for up to 128 ranks, also where many
// elements are equal. The order of equal elements is not kept. Needs twice the memory of a rank's part.
template <Plain T, class Less = std::less<>>
std::vector<T> sort(const Comm& comm, std::vector<T> mine, const Less& less = {}) {
  std::sort(mine.begin(), mine.end(), less);
  if (comm.size() == 1) return mine;
  const auto count = static_cast<std::int64_t>(mine.size());
  const auto total = comm.allreduce(count, std::plus<>());
  const auto samples = detail::samples_of(count, total, comm.size());
  std::vector<detail::SortSample<T>> sampled;
  for (std::int64_t i = 0; i < samples; ++i) {
    const std::int64_t index = (2 * i + 1) * count / (2 * samples);
    sampled.push_back({mine[static_cast<std::size_t>(index)], comm.rank(), index});
  }
  auto all = comm.allgather(sampled);
  auto& every = all.values();
  std::sort(every.begin(), every.end(), [&less](const auto& a, const auto& b) {
    if (less(a.value, b.value)) return true;
    if (less(b.value, a.value)) return false;
    return std::tie(a.rank, a.index) < std::tie(b.rank, b.index);
  });
  std::vector<detail::SortSample<T>> splitters;
  const auto ranks = static_cast<std::size_t>(comm.size());
  for (std::size_t rank = 1; rank < ranks && !every.empty(); ++rank)
    splitters.push_back(every[rank * every.size() / ranks]);
  std::vector<std::size_t> cuts = detail::cut_at(splitters, mine, comm.rank(), less);
  cuts.resize(ranks + 1, mine.size());  // where there is nothing at all
  Ragged<T> parts;
  for (std::size_t rank = 0; rank < ranks; ++rank)
    parts.push_back(std::span<const T>(mine).subspan(cuts[rank], cuts[rank + 1] - cuts[rank]));
  mine = {};
  return detail::merge_parts(comm.alltoall(parts), less);
}

}  // namespace manyhands::mpi
