// Conjugate gradients for Poisson's equation on a square grid, rows dealt out to the ranks: a row exchanged
// with each neighbour and two sums over all ranks in each iteration.

#include <cstdlib>
#include <functional>
#include <span>
#include <vector>

#include "ports.hpp"

namespace bench::ports {
namespace {

constexpr int width = 256;
constexpr int iterations = 60;

double load(int row, int column) { return (row * 31 + column * 17) % 11 - 5.0; }

// The squared residual of each iteration, then the rank's own part of the solution.
std::vector<double> raw(MPI_Comm comm) {
  int rank, size;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  const int rows = width / size;
  const int n = rows * width;
  const int up = rank > 0 ? rank - 1 : MPI_PROC_NULL;
  const int down = rank + 1 < size ? rank + 1 : MPI_PROC_NULL;
  double* x = static_cast<double*>(std::calloc(n, sizeof(double)));
  double* r = static_cast<double*>(std::calloc(n, sizeof(double)));
  double* q = static_cast<double*>(std::calloc(n, sizeof(double)));
  double* p = static_cast<double*>(std::calloc(n + 2 * width, sizeof(double)));  // with a row on either side
  double* residuals = static_cast<double*>(std::calloc(iterations, sizeof(double)));
  double mine = 0;
  for (int i = 0; i < n; ++i) {
    r[i] = p[i + width] = load(rank * rows + i / width, i % width);
    mine += r[i] * r[i];
  }
  double rr;
  MPI_Allreduce(&mine, &rr, 1, MPI_DOUBLE, MPI_SUM, comm);
  for (int iteration = 0; iteration < iterations; ++iteration) {
    MPI_Sendrecv(&p[width], width, MPI_DOUBLE, up, 0, &p[n + width], width, MPI_DOUBLE, down, 0, comm,
                 MPI_STATUS_IGNORE);
    MPI_Sendrecv(&p[n], width, MPI_DOUBLE, down, 1, p, width, MPI_DOUBLE, up, 1, comm, MPI_STATUS_IGNORE);
    double pq = 0;
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < width; ++j) {
        const double* const c = &p[(i + 1) * width + j];
        const double left = j > 0 ? c[-1] : 0, right = j < width - 1 ? c[1] : 0;
        q[i * width + j] = 4 * c[0] - c[-width] - c[width] - left - right;
        pq += c[0] * q[i * width + j];
      }
    }
    double all_pq;
    MPI_Allreduce(&pq, &all_pq, 1, MPI_DOUBLE, MPI_SUM, comm);
    const double alpha = rr / all_pq;
    double rr_mine = 0;
    for (int i = 0; i < n; ++i) {
      x[i] += alpha * p[i + width];
      r[i] -= alpha * q[i];
      rr_mine += r[i] * r[i];
    }
    double rr_new;
    MPI_Allreduce(&rr_mine, &rr_new, 1, MPI_DOUBLE, MPI_SUM, comm);
    const double beta = rr_new / rr;
    for (int i = 0; i < n; ++i) p[i + width] = r[i] + beta * p[i + width];
    rr = residuals[iteration] = rr_new;
  }
  std::vector<double> result(residuals, residuals + iterations);
  result.insert(result.end(), x, x + n);
  for (double* const memory : {x, r, q, p, residuals}) std::free(memory);
  return result;
}

std::vector<double> ours(const mpi::Comm& comm) {
  const int rank = comm.rank();
  const int rows = width / comm.size();
  const int up = rank > 0 ? rank - 1 : mpi::proc_null;
  const int down = rank + 1 < comm.size() ? rank + 1 : mpi::proc_null;
  const auto n = static_cast<std::size_t>(rows * width);
  std::vector<double> x(n), r(n), q(n), p(n + 2 * width), residuals;
  double mine = 0;
  for (std::size_t i = 0; i < n; ++i) {
    r[i] = p[i + width] = load(rank * rows + static_cast<int>(i) / width, static_cast<int>(i) % width);
    mine += r[i] * r[i];
  }
  double rr = comm.allreduce(mine, std::plus<>());
  const auto row = [&](std::size_t at) { return std::span(p).subspan(at, width); };
  for (int iteration = 0; iteration < iterations; ++iteration) {
    comm.sendrecv_into(row(width), {.dest = up, .tag = 0}, row(n + width), {.source = down, .tag = 0});
    comm.sendrecv_into(row(n), {.dest = down, .tag = 1}, row(0), {.source = up, .tag = 1});
    double pq = 0;
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < width; ++j) {
        const double* const c = &p[static_cast<std::size_t>((i + 1) * width + j)];
        const double left = j > 0 ? c[-1] : 0, right = j < width - 1 ? c[1] : 0;
        double& product = q[static_cast<std::size_t>(i * width + j)];
        product = 4 * c[0] - c[-width] - c[width] - left - right;
        pq += c[0] * product;
      }
    }
    const double alpha = rr / comm.allreduce(pq, std::plus<>());
    double rr_mine = 0;
    for (std::size_t i = 0; i < n; ++i) {
      x[i] += alpha * p[i + width];
      r[i] -= alpha * q[i];
      rr_mine += r[i] * r[i];
    }
    const double rr_new = comm.allreduce(rr_mine, std::plus<>());
    const double beta = rr_new / rr;
    for (std::size_t i = 0; i < n; ++i) p[i + width] = r[i] + beta * p[i + width];
    rr = rr_new;
    residuals.push_back(rr);
  }
  residuals.insert(residuals.end(), x.begin(), x.end());
  return residuals;
}

}  // namespace

void conjugate_gradient(const Setting& setting) {
  compare(setting, "cg", [] { return raw(mpi::world().native()); }, [] { return ours(mpi::world()); });
}

}  // namespace bench::ports
