// A histogram whose bins lie dealt out over the ranks: every rank adds each of its keys to the bin where it
// belongs, one-sidedly; and once more fetching what was there before (a ticket for each key).

#include <cstdint>
#include <functional>
#include <vector>

#include "ports.hpp"

namespace bench::ports {
namespace {

constexpr int bins = 1024;    // of each rank
constexpr int keys = 20'000;  // of each rank
constexpr int tickets = 20'000;

std::uint64_t next_key(std::uint64_t& state) {
  state = state * 6364136223846793005U + 1442695040888963407U;
  return state >> 33;
}

std::vector<long> raw(MPI_Comm comm) {
  int rank, size;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  long* mine;
  MPI_Win win;
  MPI_Win_allocate(bins * sizeof(long), sizeof(long), MPI_INFO_NULL, comm, &mine, &win);
  for (int i = 0; i < bins; ++i) mine[i] = 0;
  MPI_Barrier(comm);
  std::uint64_t state = static_cast<std::uint64_t>(rank) + 1;
  const long one = 1;
  MPI_Win_lock_all(0, win);
  for (int i = 0; i < keys; ++i) {
    const std::uint64_t bin = next_key(state) % static_cast<std::uint64_t>(bins * size);
    MPI_Accumulate(&one, 1, MPI_LONG, static_cast<int>(bin / bins), static_cast<MPI_Aint>(bin % bins), 1,
                   MPI_LONG, MPI_SUM, win);
  }
  MPI_Win_unlock_all(win);
  MPI_Barrier(comm);
  std::vector<long> result(mine, mine + bins);
  MPI_Win_free(&win);
  return result;
}

std::vector<long> ours(const mpi::Comm& comm) {
  mpi::Window<long> window(comm, bins);
  auto state = static_cast<std::uint64_t>(comm.rank()) + 1;
  {
    const auto epoch = window.lock_all();
    for (int i = 0; i < keys; ++i) {
      const std::uint64_t bin = next_key(state) % static_cast<std::uint64_t>(bins * comm.size());
      window.accumulate(static_cast<int>(bin / bins), static_cast<MPI_Aint>(bin % bins), 1, std::plus<>());
    }
  }
  comm.barrier();
  return {window.local().begin(), window.local().end()};
}

// The sum of all tickets does not depend on the order in which the ranks come.
long raw_tickets(MPI_Comm comm) {
  int rank, size;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  long* mine;
  MPI_Win win;
  MPI_Win_allocate(bins * sizeof(long), sizeof(long), MPI_INFO_NULL, comm, &mine, &win);
  for (int i = 0; i < bins; ++i) mine[i] = 0;
  MPI_Barrier(comm);
  std::uint64_t state = static_cast<std::uint64_t>(rank) + 1;
  const long one = 1;
  long sum = 0, all = 0;
  MPI_Win_lock_all(0, win);
  for (int i = 0; i < tickets; ++i) {
    const std::uint64_t bin = next_key(state) % static_cast<std::uint64_t>(bins * size);
    const int owner = static_cast<int>(bin / bins);
    long ticket;
    MPI_Fetch_and_op(&one, &ticket, MPI_LONG, owner, static_cast<MPI_Aint>(bin % bins), MPI_SUM, win);
    MPI_Win_flush(owner, win);
    sum += ticket;
  }
  MPI_Win_unlock_all(win);
  MPI_Allreduce(&sum, &all, 1, MPI_LONG, MPI_SUM, comm);
  MPI_Win_free(&win);
  return all;
}

long our_tickets(const mpi::Comm& comm) {
  mpi::Window<long> window(comm, bins);
  auto state = static_cast<std::uint64_t>(comm.rank()) + 1;
  long sum = 0;
  {
    const auto epoch = window.lock_all();
    for (int i = 0; i < tickets; ++i) {
      const std::uint64_t bin = next_key(state) % static_cast<std::uint64_t>(bins * comm.size());
      sum += window.fetch_add(static_cast<int>(bin / bins), static_cast<MPI_Aint>(bin % bins), 1);
    }
  }
  return comm.allreduce(sum, std::plus<>());
}

}  // namespace

void histogram(const Setting& setting) {
  compare(setting, "histogram", [] { return raw(mpi::world().native()); }, [] { return ours(mpi::world()); });
  compare(
      setting, "tickets", [] { return raw_tickets(mpi::world().native()); },
      [] { return our_tickets(mpi::world()); });
}

}  // namespace bench::ports
