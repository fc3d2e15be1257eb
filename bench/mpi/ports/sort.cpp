// Sample sort: every rank sorts its keys, the ranks agree on splitters, and each key goes to the rank whose
// range it is in.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "ports.hpp"

namespace bench::ports {
namespace {

using Key = std::uint64_t;
constexpr std::size_t keys = 200'000;  // of each rank
constexpr std::size_t samples = 64;    // of each rank

std::vector<Key> input(int rank) {
  std::vector<Key> made(keys);
  Key state = static_cast<Key>(rank) + 1;
  for (Key& key : made) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    key = state ^ (state >> 31);
  }
  return made;
}

std::vector<Key> raw(MPI_Comm comm) {
  int rank, size;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  std::vector<Key> mine = input(rank);
  std::sort(mine.begin(), mine.end());

  Key sample[samples];
  for (std::size_t i = 0; i < samples; ++i) sample[i] = mine[i * keys / samples];
  Key* const all = static_cast<Key*>(std::malloc(samples * size * sizeof(Key)));
  MPI_Allgather(sample, samples, MPI_UINT64_T, all, samples, MPI_UINT64_T, comm);
  std::sort(all, all + samples * size);

  int* const numbers = static_cast<int*>(std::calloc(4 * size, sizeof(int)));
  int* const send_counts = numbers;
  int* const send_at = numbers + size;
  int* const recv_counts = numbers + 2 * size;
  int* const recv_at = numbers + 3 * size;
  for (int r = 0; r < size; ++r) {
    const Key* const end = r + 1 < size
                               ? std::lower_bound(mine.data(), mine.data() + keys, all[(r + 1) * samples])
                               : mine.data() + keys;
    send_counts[r] = static_cast<int>(end - mine.data()) - send_at[r];
    if (r + 1 < size) send_at[r + 1] = send_at[r] + send_counts[r];
  }
  MPI_Alltoall(send_counts, 1, MPI_INT, recv_counts, 1, MPI_INT, comm);
  for (int r = 1; r < size; ++r) recv_at[r] = recv_at[r - 1] + recv_counts[r - 1];
  std::vector<Key> sorted(static_cast<std::size_t>(recv_at[size - 1] + recv_counts[size - 1]));
  MPI_Alltoallv(mine.data(), send_counts, send_at, MPI_UINT64_T, sorted.data(), recv_counts, recv_at,
                MPI_UINT64_T, comm);
  std::sort(sorted.begin(), sorted.end());
  std::free(all);
  std::free(numbers);
  return sorted;
}

std::vector<Key> ours(const mpi::Comm& comm) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  std::vector<Key> mine = input(comm.rank());
  std::ranges::sort(mine);

  std::vector<Key> sample(samples);
  for (std::size_t i = 0; i < samples; ++i) sample[i] = mine[i * keys / samples];
  std::vector<Key> all = comm.allgather(sample).values();
  std::ranges::sort(all);

  std::vector<MPI_Count> counts(ranks);
  auto from = mine.begin();
  for (std::size_t r = 0; r < ranks; ++r) {
    const auto end = r + 1 < ranks ? std::ranges::lower_bound(mine, all[(r + 1) * samples]) : mine.end();
    counts[r] = end - from;
    from = end;
  }
  const mpi::Ragged<Key> parts(std::move(mine), counts);
  std::vector<Key> sorted = std::move(comm.alltoall(parts).values());
  std::ranges::sort(sorted);
  return sorted;
}

}  // namespace

void sample_sort(const Setting& setting) {
  compare(setting, "sort", [] { return raw(mpi::world().native()); }, [] { return ours(mpi::world()); });
}

}  // namespace bench::ports
