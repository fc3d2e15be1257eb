// libmanyhands_mpich_finalize.so, which `manyhands run` preloads into programs of MPICH on several hosts.
//
// In MPI_Finalize MPICH up to 4.1 closes its connections by UCX, moving messages on until its own are closed,
// and then waits in a barrier of the process manager without moving anything on. A rank whose connection is
// still being set up or closed then waits for ever for the answer of one that is in the barrier: over TCP,
// with 4 ranks on 2 hosts, in about half of all jobs. (pmodels/mpich#6596 removed that barrier.) This stands
// in front of the two functions of UCX that say where in MPI_Finalize the process is, and of read(), by which
// the barrier waits: meanwhile messages are moved on. Between ucp_disconnect_nb and ucp_worker_destroy the
// worker is alive and nobody else uses it. Before, a read costs one test more.

#include <errno.h>
#include <poll.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>

#include "manyhands/cli/behind.hpp"

namespace {

using Progress = unsigned (*)(void*);
using Disconnect = void* (*)(void*);
using Destroy = void (*)(void*);
using Read = ssize_t (*)(int, void*, std::size_t);

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(manyhands::cli::behind(name, "libucp"));
}

constexpr int wait_ms = 1;  // between two looks at the worker

// MPI is ended by one thread; the worker that it used last is MPICH's only one, unless it was built to have
// more. Written by that thread, read by any that calls read().
std::atomic<void*> worker_used{nullptr};
std::atomic<bool> is_closing{false};
thread_local bool closes = false;  // this is the thread that does

}  // namespace

#define MH_EXPORT extern "C" __attribute__((visibility("default")))

MH_EXPORT unsigned ucp_worker_progress(void* worker) {
  static const auto real = next<Progress>("ucp_worker_progress");
  if (worker_used.load(std::memory_order_relaxed) != worker)
    worker_used.store(worker, std::memory_order_relaxed);
  return real(worker);
}

MH_EXPORT void* ucp_disconnect_nb(void* endpoint) {
  static const auto real = next<Disconnect>("ucp_disconnect_nb");
  is_closing = true;
  closes = true;
  return real(endpoint);
}

MH_EXPORT void ucp_worker_destroy(void* worker) {
  static const auto real = next<Destroy>("ucp_worker_destroy");
  is_closing = false;
  worker_used = nullptr;
  real(worker);
}

// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): the system's names are reserved.
MH_EXPORT ssize_t read(int fd, void* bytes, std::size_t size) {
  static const auto real = next<Read>("read");
  if (is_closing.load(std::memory_order_relaxed) && closes) {
    static const auto progress = next<Progress>("ucp_worker_progress");
    void* const worker = worker_used;
    pollfd polled{fd, POLLIN, 0};
    while (worker != nullptr && ::poll(&polled, 1, wait_ms) == 0) {
      while (progress(worker) != 0) {
      }
    }
  }
  return real(fd, bytes, size);
}
