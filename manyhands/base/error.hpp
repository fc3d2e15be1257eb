#pragma once
// The root of manyhands' exceptions, and those that every layer can throw.
//
// A message says what was tried, on what, what came, and what to do. Errors that belong to one idea are
// declared with it (WireError in wire/, RemoteError in wire/remote_error.hpp, WorkerDied in process/), all
// below Error.

#include <stdexcept>
#include <string>
#include <string_view>

namespace manyhands {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A system call failed: "WHAT: the system's text (ERRNO_NAME)".
class SystemError : public Error {
 public:
  SystemError(std::string_view what, int error);
  int error() const noexcept { return error_; }

 private:
  int error_;
};

// A wait was bounded by the caller and the bound passed. What was waited for goes on.
class Timeout : public Error {
 public:
  using Error::Error;
};

// The task was cancelled before it finished; it has no result.
class Cancelled : public Error {
 public:
  using Error::Error;
};

// The machine has not enough memory, descriptors or processes for what was asked; the message has the
// numbers.
class ResourceExhausted : public Error {
 public:
  using Error::Error;
};

// Throws SystemError for the current errno.
[[noreturn]] void throw_errno(std::string_view what);

}  // namespace manyhands
