// The Mandelbrot set: every rank computes every size()-th row, since rows differ in their cost, and rank 0
// puts the picture together.

#include <algorithm>
#include <vector>

#include "ports.hpp"

namespace bench::ports {
namespace {

constexpr int width = 320;
constexpr int height = 240;
constexpr int limit = 300;

int iterations_at(int column, int row) {
  const double a = -2.2 + 3.2 * column / width;
  const double b = -1.2 + 2.4 * row / height;
  double x = 0, y = 0;
  int n = 0;
  for (; n < limit && x * x + y * y < 4; ++n) {
    const double next = x * x - y * y + a;
    y = 2 * x * y + b;
    x = next;
  }
  return n;
}

// The picture on rank 0, nothing elsewhere.
std::vector<int> raw(MPI_Comm comm) {
  int rank, size;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  const int rows = height / size;
  std::vector<int> mine(static_cast<std::size_t>(rows * width));
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < width; ++j)
      mine[static_cast<std::size_t>(i * width + j)] = iterations_at(j, i * size + rank);
  std::vector<int> all(rank == 0 ? mine.size() * static_cast<std::size_t>(size) : 0);
  MPI_Gather(mine.data(), rows * width, MPI_INT, all.data(), rows * width, MPI_INT, 0, comm);
  std::vector<int> picture(all.size());
  if (rank == 0)
    for (int row = 0; row < height; ++row)
      std::copy_n(all.data() + (row % size * rows + row / size) * width, width, picture.data() + row * width);
  return picture;
}

std::vector<int> ours(const mpi::Comm& comm) {
  std::vector<int> mine;
  for (int row = comm.rank(); row < height; row += comm.size())
    for (int column = 0; column < width; ++column) mine.push_back(iterations_at(column, row));
  const auto parts = comm.gather(mine);
  std::vector<int> picture;
  if (comm.rank() != 0) return picture;
  for (int row = 0; row < height; ++row) {
    const auto part = parts[static_cast<std::size_t>(row % comm.size())];
    const auto begin = part.begin() + row / comm.size() * width;
    picture.insert(picture.end(), begin, begin + width);
  }
  return picture;
}

}  // namespace

void mandelbrot(const Setting& setting) {
  compare(
      setting, "mandelbrot", [] { return raw(mpi::world().native()); }, [] { return ours(mpi::world()); });
}

}  // namespace bench::ports
