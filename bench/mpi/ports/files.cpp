// Snapshots: all ranks write their blocks into one file together, and read the blocks of their neighbours.

#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "ports.hpp"

namespace bench::ports {
namespace {

constexpr std::size_t block = 1 << 19;  // doubles of each rank: 4 MB
constexpr int snapshots = 4;

// In memory where there is such a place: no disk is to be measured. Rank 0's choice.
std::string path() {
  std::string name = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  return mpi::world().bcast(name + "/manyhands-bench-" + std::to_string(::getpid()));
}

std::vector<double> input(int rank) {
  std::vector<double> made(block);
  for (std::size_t i = 0; i < block; ++i) made[i] = static_cast<double>(i) + rank * 0.5;
  return made;
}

std::vector<double> raw(MPI_Comm comm, const std::string& name) {
  int rank, size;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  const std::vector<double> data = input(rank);
  std::vector<double> got(block);
  MPI_File file;
  MPI_File_open(comm, name.c_str(), MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL, &file);
  for (int i = 0; i < snapshots; ++i) {
    const MPI_Offset here =
        static_cast<MPI_Offset>((static_cast<std::size_t>(i * size + rank)) * block * sizeof(double));
    MPI_File_write_at_all(file, here, data.data(), static_cast<int>(block), MPI_DOUBLE, MPI_STATUS_IGNORE);
  }
  MPI_File_sync(file);
  MPI_Barrier(comm);
  const int next = (rank + 1) % size;
  for (int i = 0; i < snapshots; ++i) {
    const MPI_Offset there =
        static_cast<MPI_Offset>((static_cast<std::size_t>(i * size + next)) * block * sizeof(double));
    MPI_File_read_at_all(file, there, got.data(), static_cast<int>(block), MPI_DOUBLE, MPI_STATUS_IGNORE);
  }
  MPI_File_close(&file);
  return got;
}

std::vector<double> ours(const mpi::Comm& comm, const std::string& name) {
  const std::vector<double> data = input(comm.rank());
  std::vector<double> got(block);
  const mpi::File file(comm, name, mpi::Mode::create | mpi::Mode::read | mpi::Mode::write);
  const auto place = [&](int i, int rank) {
    return static_cast<MPI_Offset>(static_cast<std::size_t>(i * comm.size() + rank) * block);
  };
  for (int i = 0; i < snapshots; ++i) file.write_at_all(place(i, comm.rank()), data);
  file.sync();
  comm.barrier();
  const int next = (comm.rank() + 1) % comm.size();
  for (int i = 0; i < snapshots; ++i) file.read_at_all(place(i, next), got);
  return got;
}

}  // namespace

void files(const Setting& setting) {
  const std::string name = path();
  compare(
      setting, "files", [&] { return raw(mpi::world().native(), name); },
      [&] { return ours(mpi::world(), name); });
  mpi::world().barrier();
  if (mpi::world().rank() == 0) std::remove(name.c_str());
}

}  // namespace bench::ports
