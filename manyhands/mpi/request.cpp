#include "manyhands/mpi/request.hpp"

#include <sched.h>

#include <algorithm>
#include <mutex>

#include "manyhands/base/stack_trace.hpp"
#include "manyhands/mpi/late_receive.hpp"

namespace manyhands::mpi {
namespace detail {
namespace {

// Operations that go on after their request was dropped.
struct Detached {
  struct One {
    MPI_Request native;
    std::unique_ptr<Operation> operation;
  };
  std::mutex mutex;
  std::vector<One> all;  // guarded by mutex
  bool at_finalize = false;
};

Detached& detached() {
  static Detached known;
  return known;
}

// Frees what is done.
void reap_detached() {
  Detached& known = detached();
  const std::lock_guard lock(known.mutex);
  std::erase_if(known.all, [](Detached::One& one) {
    int done = 0;
    if (MPI_Test(&one.native, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return true;
    return done != 0;
  });
}

// MPI is about to end: what is still not received never will be. MPI keeps using the memory, so it is left.
void abandon_detached() {
  reap_detached();
  Detached& known = detached();
  const std::lock_guard lock(known.mutex);
  for (Detached::One& one : known.all) {
    MPI_Request_free(&one.native);
    static_cast<void>(one.operation.release());
  }
  known.all.clear();
}

void detach(MPI_Request native, std::unique_ptr<Operation> operation) {
  reap_detached();
  Detached& known = detached();
  const std::lock_guard lock(known.mutex);
  if (!known.at_finalize) {
    at_finalize(abandon_detached);
    known.at_finalize = true;
  }
  known.all.push_back({native, std::move(operation)});
}

struct Waiter {
  RequestCore* core;
  std::coroutine_handle<> handle;
};
thread_local std::vector<Waiter> waiters;

}  // namespace

void Backoff::pause() {
  drive_all();
  if (++rounds_ % 64 == 0) ::sched_yield();
}

RequestCore::RequestCore(RequestCore&& other) noexcept
    : native_(std::exchange(other.native_, MPI_REQUEST_NULL)),
      operation_(std::move(other.operation_)),
      status_(other.status_),
      verb_(other.verb_),
      error_(std::move(other.error_)),
      phase_(std::exchange(other.phase_, Phase::empty)),
      dropped_(other.dropped_) {}

RequestCore& RequestCore::operator=(RequestCore&& other) noexcept {
  if (this != &other) {
    if (phase_ == Phase::running) drop();
    native_ = std::exchange(other.native_, MPI_REQUEST_NULL);
    operation_ = std::move(other.operation_);
    status_ = other.status_;
    verb_ = other.verb_;
    error_ = std::move(other.error_);
    phase_ = std::exchange(other.phase_, Phase::empty);
    dropped_ = other.dropped_;
  }
  return *this;
}

void RequestCore::fail_empty(const char* what) {
  fail(Errc::request, what, {}, "the request is empty: its value was taken, or it was moved from");
}

// Whether it is done; throws what it failed with.
bool RequestCore::settled() const {
  if (phase_ != Phase::done) return false;
  if (error_) std::rethrow_exception(error_);
  return true;
}

// The part inside MPI is done: the next one, or the end.
bool RequestCore::finish_part(int code) {
  try {
    check(code, verb_, {.source = status_.MPI_SOURCE, .tag = status_.MPI_TAG});
    if (operation_ != nullptr && !operation_->advance(native_, status_)) return false;
    phase_ = Phase::done;
    return true;
  } catch (...) {
    native_ = MPI_REQUEST_NULL;
    phase_ = Phase::done;
    error_ = std::current_exception();
    throw;
  }
}

bool RequestCore::test() {
  require_active(verb_);
  if (settled()) return true;
  drive_all();
  for (;;) {
    if (native_ != MPI_REQUEST_NULL) {
      int done = 0;
      const int code = MPI_Test(&native_, &done, &status_);
      if (code == MPI_SUCCESS && done == 0) return false;
      if (finish_part(code)) return true;
    } else if (finish_part(MPI_SUCCESS)) {
      return true;
    } else if (native_ == MPI_REQUEST_NULL) {
      return false;  // waits for something that is not inside MPI
    }
  }
}

void RequestCore::wait() {
  require_active(verb_);
  if (settled()) return;
  Backoff backoff;
  for (;;) {
    if (native_ != MPI_REQUEST_NULL && driven.load(std::memory_order_relaxed) == 0) {
      if (finish_part(MPI_Wait(&native_, &status_))) return;
    } else if (test()) {
      return;
    } else {
      backoff.pause();
    }
  }
}

MPI_Request RequestCore::release() {
  if (operation_ != nullptr)
    fail(Errc::request, "Request::release", {},
         "the request owns memory or is more than one of MPI's: only this object can wait for it");
  phase_ = Phase::empty;
  return std::exchange(native_, MPI_REQUEST_NULL);
}

void RequestCore::cancel() {
  require_active(verb_);
  if (phase_ == Phase::done) return;
  if (auto* const late = dynamic_cast<LateReceive*>(operation_.get()); late != nullptr && late->leave()) {
    MPI_Status_set_cancelled(&status_, 1);
    phase_ = Phase::done;
  } else if (native_ != MPI_REQUEST_NULL) {
    check(MPI_Cancel(&native_), "cancel");
  }
}

void RequestCore::drop() noexcept {
  phase_ = Phase::empty;
  if (!is_active()) {
    static_cast<void>(operation_.release());  // MPI may still have used it when it ended
    return;
  }
  try {
    auto* const late = dynamic_cast<LateReceive*>(operation_.get());
    if (late != nullptr && late->leave()) return;
    const bool in_line = operation_ != nullptr && operation_->waits_in_line();
    if (native_ == MPI_REQUEST_NULL && late == nullptr && !in_line) return;
    if (dropped_ == Dropped::cancel && late == nullptr) {
      MPI_Cancel(&native_);
      MPI_Wait(&native_, MPI_STATUS_IGNORE);
    } else if (dropped_ == Dropped::detach) {
      detach(native_, std::move(operation_));
    } else {
      phase_ = Phase::running;
      wait();
      phase_ = Phase::empty;
    }
  } catch (const manyhands::Error&) {
    phase_ = Phase::empty;  // nobody is left to be told
  }
}

void resume_when_done(RequestCore& core, std::coroutine_handle<> handle) {
  waiters.push_back({&core, handle});
}

}  // namespace detail

std::size_t progress() {
  detail::require_active("progress");
  detail::drive_all();
  for (std::size_t i = 0; i < detail::waiters.size();) {
    const detail::Waiter waiter = detail::waiters[i];
    bool done = true;
    try {
      done = waiter.core->test();
    } catch (...) {
      done = true;  // get() in the coroutine throws it
    }
    if (!done) {
      ++i;
      continue;
    }
    detail::waiters.erase(detail::waiters.begin() + static_cast<std::ptrdiff_t>(i));
    waiter.handle.resume();  // may add waiters
  }
  return detail::waiters.size();
}

void AnyRequest::fail_type(const std::type_info& wanted) const {
  detail::fail(Errc::type, "AnyRequest::get", {},
               "a " + demangle(wanted.name()) + " is asked for, but the request gives " +
                   (*type_ == typeid(void) ? "nothing" : "a " + demangle(type_->name())));
}

}  // namespace manyhands::mpi
