#pragma once
// What locks throw beside Error. The messages name threads, processes and source lines.

#include "manyhands/base/error.hpp"

namespace manyhands {

// The holder of a lock ended without releasing it; what the lock guards may be half written. The lock is free
// now. Thrown in exactly one of those who take or wait for the lock.
class LockAbandoned : public Error {
 public:
  using Error::Error;
};

// Some threads wait for each other in a circle, and this one gave way; or this thread waited for itself. The
// lock was not taken; the locks that this thread has already are its still.
class DeadlockError : public Error {
 public:
  using Error::Error;
};

}  // namespace manyhands
