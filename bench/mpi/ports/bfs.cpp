// Breadth-first search, level by level: the vertices of a random graph are dealt out to the ranks, and each
// level sends the neighbours it has found to the ranks that own them.

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <vector>

#include "ports.hpp"

namespace bench::ports {
namespace {

constexpr int vertices = 60'000;  // of each rank
constexpr int degree = 6;

// Neighbour `i` of `vertex`.
int neighbour(int vertex, int i, int all) {
  const auto mixed =
      (static_cast<std::uint64_t>(vertex) * degree + static_cast<std::uint64_t>(i) + 1) * 0x9e3779b97f4a7c15U;
  return static_cast<int>((mixed >> 32) % static_cast<std::uint64_t>(all));
}

// The level of each of the rank's vertices; -1: not reached.
std::vector<int> raw(MPI_Comm comm) {
  int rank, size;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  const int all = vertices * size;
  std::vector<int> level(vertices, -1);
  std::vector<int> frontier;
  std::vector<std::vector<int>> found(static_cast<std::size_t>(size));
  std::vector<int> send, recv;
  int* const numbers = static_cast<int*>(std::calloc(4 * size, sizeof(int)));
  int* const send_counts = numbers;
  int* const send_at = numbers + size;
  int* const recv_counts = numbers + 2 * size;
  int* const recv_at = numbers + 3 * size;
  if (rank == 0) {
    level[0] = 0;
    frontier.push_back(0);
  }
  for (int depth = 1;; ++depth) {
    for (auto& part : found) part.clear();
    for (const int vertex : frontier) {
      for (int i = 0; i < degree; ++i) {
        const int other = neighbour(rank * vertices + vertex, i, all);
        found[static_cast<std::size_t>(other / vertices)].push_back(other % vertices);
      }
    }
    send.clear();
    for (int r = 0; r < size; ++r) {
      const auto& part = found[static_cast<std::size_t>(r)];
      send_at[r] = static_cast<int>(send.size());
      send_counts[r] = static_cast<int>(part.size());
      send.insert(send.end(), part.begin(), part.end());
    }
    MPI_Alltoall(send_counts, 1, MPI_INT, recv_counts, 1, MPI_INT, comm);
    recv_at[0] = 0;
    for (int r = 1; r < size; ++r) recv_at[r] = recv_at[r - 1] + recv_counts[r - 1];
    recv.resize(static_cast<std::size_t>(recv_at[size - 1] + recv_counts[size - 1]));
    MPI_Alltoallv(send.data(), send_counts, send_at, MPI_INT, recv.data(), recv_counts, recv_at, MPI_INT,
                  comm);
    frontier.clear();
    for (const int vertex : recv) {
      if (level[static_cast<std::size_t>(vertex)] >= 0) continue;
      level[static_cast<std::size_t>(vertex)] = depth;
      frontier.push_back(vertex);
    }
    int any = !frontier.empty(), somewhere;
    MPI_Allreduce(&any, &somewhere, 1, MPI_INT, MPI_LOR, comm);
    if (!somewhere) break;
  }
  std::free(numbers);
  return level;
}

std::vector<int> ours(const mpi::Comm& comm) {
  const int all = vertices * comm.size();
  std::vector<int> level(vertices, -1);
  std::vector<int> frontier;
  std::vector<std::vector<int>> found(static_cast<std::size_t>(comm.size()));
  if (comm.rank() == 0) {
    level[0] = 0;
    frontier.push_back(0);
  }
  for (int depth = 1; comm.allreduce(!frontier.empty(), std::logical_or<>()); ++depth) {
    for (auto& part : found) part.clear();
    for (const int vertex : frontier) {
      for (int i = 0; i < degree; ++i) {
        const int other = neighbour(comm.rank() * vertices + vertex, i, all);
        found[static_cast<std::size_t>(other / vertices)].push_back(other % vertices);
      }
    }
    frontier.clear();
    const mpi::Ragged<int> received = comm.alltoall(mpi::Ragged<int>(found));
    for (const int vertex : received.values()) {
      if (level[static_cast<std::size_t>(vertex)] >= 0) continue;
      level[static_cast<std::size_t>(vertex)] = depth;
      frontier.push_back(vertex);
    }
  }
  return level;
}

}  // namespace

void breadth_first(const Setting& setting) {
  compare(setting, "bfs", [] { return raw(mpi::world().native()); }, [] { return ours(mpi::world()); });
}

}  // namespace bench::ports
