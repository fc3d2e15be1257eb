#include "manyhands/mpi/lifetime.hpp"

#include <mutex>
#include <utility>
#include <vector>

#include "manyhands/mpi/error.hpp"

namespace manyhands::mpi::detail {
namespace {

struct Releases {
  std::mutex mutex;
  std::vector<std::function<void()>> all;      // guarded by mutex
  std::vector<std::shared_ptr<Closing>> open;  // guarded by mutex; in the order of their making
};

Releases& releases() {
  static Releases known;
  return known;
}

// MPI deletes the attributes of MPI_COMM_SELF before anything else in MPI_Finalize (MPI 3.1, 8.7.1).
int at_end(MPI_Comm, int, void*, void*) {
  std::vector<std::function<void()>> all;
  std::vector<std::shared_ptr<Closing>> open;
  {
    Releases& known = releases();
    const std::lock_guard lock(known.mutex);
    all.swap(known.all);
    open.swap(known.open);
  }
  for (auto one = open.rbegin(); one != open.rend(); ++one) (*one)->close_at_end();
  for (auto release = all.rbegin(); release != all.rend(); ++release) (*release)();
  phase.store(Phase::after, std::memory_order_relaxed);
  return MPI_SUCCESS;
}

}  // namespace

bool become_active() {
  static std::mutex once;
  const std::lock_guard lock(once);
  if (phase.load(std::memory_order_relaxed) != Phase::before) return phase.load() == Phase::active;
  int initialised = 0;
  int finalized = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalized);
  if (finalized != 0) phase.store(Phase::after);
  if (initialised == 0 || finalized != 0) return false;
  int key = MPI_KEYVAL_INVALID;
  MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, at_end, &key, nullptr);
  MPI_Comm_set_attr(MPI_COMM_SELF, key, nullptr);
  MPI_Comm_free_keyval(&key);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  phase.store(Phase::active);
  return true;
}

void fail_inactive(const char* operation) {
  const bool ended = phase.load() == Phase::after;
  fail(Errc::not_active, operation, {},
       ended ? "MPI is finalized already: keep the mpi::Environment alive until the last call"
             : "MPI is not initialised: create an mpi::Environment first, in main");
}

void keep_for_end(std::shared_ptr<Closing> one) {
  Releases& known = releases();
  const std::lock_guard lock(known.mutex);
  known.open.push_back(std::move(one));
}

void forget_at_end(const Closing& one) noexcept {
  std::shared_ptr<Closing> kept;  // goes without the lock
  Releases& known = releases();
  const std::lock_guard lock(known.mutex);
  // From the end: mostly the youngest goes first.
  for (auto it = known.open.rbegin(); it != known.open.rend(); ++it) {
    if (it->get() != &one) continue;
    kept = std::move(*it);
    known.open.erase(std::next(it).base());
    return;
  }
}

void at_finalize(std::function<void()> release) {
  Releases& known = releases();
  const std::lock_guard lock(known.mutex);
  known.all.push_back(std::move(release));
}

}  // namespace manyhands::mpi::detail
