#pragma once
// All-to-all exchanges for many ranks: where each has something for a few others only, and where each has
// little for all.
//
//   mpi::SparseAlltoall exchange(world);
//   std::map<int, std::vector<Edge>> came = exchange(by_rank);   // by destination; comes by source
//
//   mpi::GridAlltoall grid(world);
//   mpi::Ragged<Edge> in = grid(edges);                        // as world.alltoall(edges)

#include <map>
#include <ranges>
#include <span>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/ragged.hpp"

namespace manyhands::mpi {

// An exchange whose cost grows with the number of messages, not with that of ranks: nobody needs to know from
// whom something comes. A resource; one thread at a time.
//
// Source: T. Hoefler, C. Siebert, A. Lumsdaine, "Scalable communication protocols for dynamic sparse data
// exchange" (2010): synchronous sends, and a nonblocking barrier once they are received.
class SparseAlltoall {
 public:
  // Collective; blocks until all ranks have called it.
  explicit SparseAlltoall(const Comm& comm) : comm_(comm.dup()) {}

  // The values of `to` to the ranks that are their keys; returns what came, by rank. T: a vector, text, plain
  // value or object. Collective, also for ranks that have nothing to send; blocks until all is received.
  // Throws Error (rank) for a key that is no rank of the communicator, before anything is sent.
  template <class T>
  std::map<int, T> operator()(const std::map<int, T>& to) {
    if (!to.empty()) require_ranks(to.begin()->first, std::prev(to.end())->first);
    const int tag = next_tag();
    using Sending = decltype(send(std::declval<const T&>(), 0, 0));
    std::vector<Sending> sends;
    for (const auto& [rank, value] : to) sends.push_back(send(value, rank, tag));
    std::map<int, T> came;
    std::size_t sent = 0;
    Request<void> all_sent;
    for (bool waits = false;;) {
      while (const auto status = comm_.iprobe({.tag = tag}))
        came.emplace(status->source, comm_.recv<T>({.source = status->source, .tag = tag}));
      while (sent < sends.size() && sends[sent].test()) ++sent;
      if (!waits && sent == sends.size()) {
        all_sent = comm_.ibarrier();
        waits = true;
      }
      if (waits && all_sent.test()) return came;
      std::this_thread::yield();  // there may be more ranks than cores
    }
  }

 private:
  template <class T>
  auto send(const T& value, int rank, int tag) const {
    if constexpr (Flat<T>) {
      return comm_.issend(std::span(std::ranges::data(value), std::ranges::size(value)),
                          {.dest = rank, .tag = tag});
    } else {
      return comm_.issend(value, {.dest = rank, .tag = tag});
    }
  }
  void require_ranks(int first, int last) const;
  // A rank that is done may begin the next exchange while another has not yet seen the end of this one.
  int next_tag() noexcept { return tag_ = 1 - tag_; }

  Comm comm_;
  int tag_ = 0;
};

// alltoall() of parts of any length over a grid of the ranks, in two steps: first to the ranks of the same
// row, then to those of the same column. Each rank sends about 2 sqrt(size()) messages instead of size(), but
// all data twice: for many ranks and short parts. A resource; one thread at a time.
//
// Source: as in KaMPIng: T. Uhl et al., "KaMPIng: Flexible and (near) zero-overhead C++ bindings for MPI"
// (2024).
class GridAlltoall {
 public:
  // Collective; blocks until all ranks have called it.
  explicit GridAlltoall(const Comm& comm);

  // Part i to rank i; what all ranks sent here. Collective; blocks. Throws Error (count) unless there is one
  // part for each rank.
  template <Plain T>
  Ragged<T> operator()(const Ragged<T>& items) const {
    require_parts(items.parts());
    // To the row's member in the column of each destination.
    Ragged<T> by_column;
    Ragged<MPI_Count> counts_by_column;
    for (int column = 0; column < row_.size(); ++column) {
      std::vector<T> data;
      std::vector<MPI_Count> counts;
      for (int rank = column; column < columns_ && rank < size_; rank += columns_) {
        const auto part = items[static_cast<std::size_t>(rank)];
        data.insert(data.end(), part.begin(), part.end());
        counts.push_back(static_cast<MPI_Count>(part.size()));
      }
      by_column.push_back(data);
      counts_by_column.push_back(counts);
    }
    const auto row_data = row_.alltoall(by_column);
    const auto row_counts = row_.alltoall(counts_by_column);
    // Sorted by the destination's row; in each, by who sent it.
    Ragged<T> by_row;
    Ragged<MPI_Count> counts_by_row;
    std::vector<std::size_t> taken(row_data.parts(), 0);
    for (std::size_t row = 0; row < static_cast<std::size_t>(column_.size()); ++row) {
      std::vector<T> data;
      std::vector<MPI_Count> counts;
      for (std::size_t member = 0; member < row_data.parts(); ++member) {
        if (row_counts[member].empty()) continue;
        const auto count = static_cast<std::size_t>(row_counts[member][row]);
        const auto part = row_data[member].subspan(taken[member], count);
        taken[member] += count;
        data.insert(data.end(), part.begin(), part.end());
        counts.push_back(static_cast<MPI_Count>(count));
      }
      by_row.push_back(data);
      counts_by_row.push_back(counts);
    }
    return in_order_of_ranks(column_.alltoall(by_row), column_.alltoall(counts_by_row));
  }
  template <Plain T>
  std::vector<std::vector<T>> operator()(const std::vector<std::vector<T>>& items) const {
    return (*this)(Ragged<T>(items)).to_vectors();
  }

 private:
  template <class T>
  Ragged<T> in_order_of_ranks(const Ragged<T>& data, const Ragged<MPI_Count>& counts) const {
    std::vector<std::span<const T>> parts(static_cast<std::size_t>(size_));
    for (std::size_t row = 0; row < data.parts(); ++row) {
      std::size_t taken = 0;
      for (std::size_t member = 0; member < counts[row].size(); ++member) {
        const auto count = static_cast<std::size_t>(counts[row][member]);
        parts[static_cast<std::size_t>(rank_in(static_cast<int>(row), static_cast<int>(member)))] =
            data[row].subspan(taken, count);
        taken += count;
      }
    }
    Ragged<T> ordered;
    for (const auto& part : parts) ordered.push_back(part);
    return ordered;
  }
  void require_parts(std::size_t parts) const;
  // The rank that is `member` of a row: behind its columns comes one of the last row, if that is not full.
  int rank_in(int row, int member) const noexcept {
    return member < columns_ ? row * columns_ + member : full_rows_ * columns_ + row;
  }

  int size_;
  int columns_;
  int full_rows_;
  Comm row_;     // by column; behind them one of a last row that is not full
  Comm column_;  // by row
};

}  // namespace manyhands::mpi
