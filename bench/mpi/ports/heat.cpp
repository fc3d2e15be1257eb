// Heat on a plate: five-point steps on rows dealt out to the ranks, a row exchanged with each neighbour, and
// after each step the sum of the squared changes over all ranks.

#include <cstdlib>
#include <cstring>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "ports.hpp"

namespace bench::ports {
namespace {

constexpr int width = 512;  // of the square plate, in cells
constexpr int steps = 60;

double initial(int row, int column) { return row == 0 ? 100.0 : column % 7 * 0.5; }

// The changes of all steps, then the rank's own cells.
std::vector<double> raw(MPI_Comm comm) {
  int rank, size;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  const int rows = width / size;
  const int up = rank > 0 ? rank - 1 : MPI_PROC_NULL;
  const int down = rank + 1 < size ? rank + 1 : MPI_PROC_NULL;
  double* u = static_cast<double*>(std::calloc((rows + 2) * width, sizeof(double)));
  double* next = static_cast<double*>(std::calloc((rows + 2) * width, sizeof(double)));
  double* changes = static_cast<double*>(std::calloc(steps, sizeof(double)));
  for (int i = 1; i <= rows; ++i)
    for (int j = 0; j < width; ++j) u[i * width + j] = next[i * width + j] = initial(rank * rows + i - 1, j);
  for (int step = 0; step < steps; ++step) {
    MPI_Sendrecv(&u[width], width, MPI_DOUBLE, up, 0, &u[(rows + 1) * width], width, MPI_DOUBLE, down, 0,
                 comm, MPI_STATUS_IGNORE);
    MPI_Sendrecv(&u[rows * width], width, MPI_DOUBLE, down, 1, u, width, MPI_DOUBLE, up, 1, comm,
                 MPI_STATUS_IGNORE);
    double change = 0;
    for (int i = 1; i <= rows; ++i) {
      for (int j = 1; j < width - 1; ++j) {
        const int at = i * width + j;
        next[at] = 0.25 * (u[at - width] + u[at + width] + u[at - 1] + u[at + 1]);
        const double moved = next[at] - u[at];
        change += moved * moved;
      }
    }
    MPI_Allreduce(&change, &changes[step], 1, MPI_DOUBLE, MPI_SUM, comm);
    double* const swapped = u;
    u = next;
    next = swapped;
  }
  std::vector<double> result(changes, changes + steps);
  result.insert(result.end(), u + width, u + (rows + 1) * width);
  std::free(u);
  std::free(next);
  std::free(changes);
  return result;
}

std::vector<double> ours(const mpi::Comm& comm) {
  const int rank = comm.rank();
  const int rows = width / comm.size();
  const int up = rank > 0 ? rank - 1 : mpi::proc_null;
  const int down = rank + 1 < comm.size() ? rank + 1 : mpi::proc_null;
  std::vector<double> u(static_cast<std::size_t>((rows + 2) * width));
  for (int i = 1; i <= rows; ++i)
    for (int j = 0; j < width; ++j)
      u[static_cast<std::size_t>(i * width + j)] = initial(rank * rows + i - 1, j);
  std::vector<double> next = u;
  std::vector<double> result;
  const auto row = [&](int i) { return std::span(u).subspan(static_cast<std::size_t>(i * width), width); };
  for (int step = 0; step < steps; ++step) {
    comm.sendrecv_into(row(1), {.dest = up, .tag = 0}, row(rows + 1), {.source = down, .tag = 0});
    comm.sendrecv_into(row(rows), {.dest = down, .tag = 1}, row(0), {.source = up, .tag = 1});
    double change = 0;
    for (int i = 1; i <= rows; ++i) {
      for (int j = 1; j < width - 1; ++j) {
        const auto at = static_cast<std::size_t>(i * width + j);
        next[at] = 0.25 * (u[at - width] + u[at + width] + u[at - 1] + u[at + 1]);
        const double moved = next[at] - u[at];
        change += moved * moved;
      }
    }
    result.push_back(comm.allreduce(change, std::plus<>()));
    std::swap(u, next);
  }
  result.insert(result.end(), u.begin() + width, u.end() - width);
  return result;
}

}  // namespace

void heat(const Setting& setting) {
  compare(setting, "heat", [] { return raw(mpi::world().native()); }, [] { return ours(mpi::world()); });
}

}  // namespace bench::ports
