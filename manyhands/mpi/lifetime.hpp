#pragma once
// Whether MPI can be called: after its initialisation, by whomever, and before its end.
//
// Every verb asks is_active() first, so that a call before or after is an exception of ours and not the abort
// that MPI answers with. One load and a branch that is foretold.

#include <atomic>
#include <functional>
#include <memory>

#include "manyhands/mpi/native.hpp"

namespace manyhands::mpi {
namespace detail {

enum class Phase : int { before, active, after };
// Written when MPI is seen to be initialised and by a callback that MPI runs first in MPI_Finalize; one
// writer each.
inline std::atomic<Phase> phase{Phase::before};

// Asks MPI, installs the callback for its end and makes errors on world and self exceptions. True if MPI is
// active.
bool become_active();

[[noreturn]] void fail_inactive(const char* operation);

// Throws Error (not_active) unless MPI can be called.
inline void require_active(const char* operation) {
  if (phase.load(std::memory_order_relaxed) != Phase::active && !become_active()) [[unlikely]]
    fail_inactive(operation);
}

// Runs `release` when MPI ends, last registered first: for cached datatypes and operations. Requires: active.
void at_finalize(std::function<void()> release);

// What all its ranks close together, and before MPI ends: a window, a file.
class Closing {
 public:
  Closing() = default;
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;
  virtual ~Closing() = default;
  // Collective. Called once, by MPI's end.
  virtual void close_at_end() noexcept = 0;
};
// Keeps `one`, which is open now, until it is forgotten. What is left then is closed when MPI ends, the
// youngest first: objects of static lifetime, and those whose scope an exception left. A rank that closes the
// same one in its destructor meets that call. Requires: active.
void keep_for_end(std::shared_ptr<Closing> one);
// It was closed, or given away.
void forget_at_end(const Closing& one) noexcept;

}  // namespace detail

// Whether MPI is initialised and not finalized. Any thread.
inline bool is_active() noexcept {
  return detail::phase.load(std::memory_order_relaxed) == detail::Phase::active;
}

}  // namespace manyhands::mpi
