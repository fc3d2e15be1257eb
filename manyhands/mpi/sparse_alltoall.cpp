#include "manyhands/mpi/sparse_alltoall.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace manyhands::mpi {

void SparseAlltoall::require_ranks(int first, int last) const {
  if (first >= 0 && last < comm_.size()) return;
  detail::fail(Errc::rank, "SparseAlltoall", {.comm = comm_.native(), .dest = first < 0 ? first : last},
               fmt::format("its ranks are 0 to {}", comm_.size() - 1));
}

GridAlltoall::GridAlltoall(const Comm& comm)
    : size_(comm.size()),
      columns_(std::max(1, static_cast<int>(std::sqrt(size_)))),
      full_rows_(size_ / columns_) {
  const int row = comm.rank() / columns_;
  const int column = comm.rank() % columns_;
  // One of a last row that is not full has no member of its own row in each column: it goes with another row.
  const bool full = row < full_rows_;
  row_ = comm.split(full ? row : column, {.key = full ? column : columns_});
  column_ = comm.split(column, {.key = row});
}

void GridAlltoall::require_parts(std::size_t parts) const {
  if (parts == static_cast<std::size_t>(size_)) return;
  detail::fail(Errc::count, "GridAlltoall", {}, fmt::format("{} parts for {} ranks", parts, size_));
}

}  // namespace manyhands::mpi
