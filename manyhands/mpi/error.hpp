#pragma once
// Error: what a call of MPI reported, as one class of exceptions on every MPI.
//
// MPI's own error codes differ from one MPI to the next, and so do their texts; Errc is the standard's error
// class under one name. The message says what was tried, on which communicator, with which rank, tag, root
// and count, and what came. Errors are exceptions on communicators, files and windows that manyhands made,
// dup'ed or adopted, and on world() and self(); on a communicator that is only viewed (Comm::view) the error
// handler of its owner decides.

#include <cstdint>
#include <string>
#include <string_view>

#include "manyhands/base/error.hpp"
#include "manyhands/mpi/native.hpp"

namespace manyhands::mpi {

// The error classes of MPI 3.1 (section 8.4, and those of one-sided communication and files), and two of
// ours.
enum class Errc : std::uint8_t {
  other,
  buffer,
  count,
  type,
  tag,
  comm,
  rank,
  request,
  root,
  group,
  op,
  topology,
  dims,
  arg,
  unknown,
  truncate,
  intern,
  in_status,
  pending,
  keyval,
  no_mem,
  base,
  info,
  info_key,
  info_value,
  info_nokey,
  spawn,
  port,
  service,
  name,
  win,
  size,
  disp,
  assertion,
  locktype,
  rma_conflict,
  rma_sync,
  rma_range,
  rma_attach,
  rma_shared,
  rma_flavor,
  file,
  file_exists,
  file_in_use,
  no_such_file,
  access,
  amode,
  bad_file,
  conversion,
  dup_datarep,
  io,
  no_space,
  not_same,
  quota,
  read_only,
  unsupported_datarep,
  unsupported_operation,
  not_active,   // MPI is not initialised, or finalized already
  unsupported,  // this MPI does not have what was asked for
};

// "truncate", "rank", ...
std::string_view name_of(Errc code) noexcept;

class Error : public manyhands::Error {
 public:
  Error(Errc code, std::string operation, const std::string& message, int native_code = MPI_SUCCESS);
  Errc code() const noexcept { return code_; }
  // The verb that failed: "send", "allreduce".
  const std::string& operation() const noexcept { return operation_; }
  // What the MPI returned; MPI_SUCCESS if manyhands found the error itself.
  int native_code() const noexcept { return native_code_; }

 private:
  Errc code_;
  std::string operation_;
  int native_code_;
};

// This MPI cannot do what was asked for; the message says which version could. See features().
class Unsupported : public Error {
 public:
  Unsupported(std::string operation, const std::string& why);
};

// The class of an error code that an MPI returned.
Errc error_class(int native_code) noexcept;

namespace detail {

inline constexpr int unset = INT32_MIN;

// What a call was about, for its error; collected at no cost on the way that succeeds.
struct About {
  MPI_Comm comm = MPI_COMM_NULL;
  int dest = unset;
  int source = unset;
  int root = unset;
  int tag = unset;
  MPI_Count count = -1;
  MPI_Datatype type = MPI_DATATYPE_NULL;
  const char* subject = nullptr;  // a file's name, a window's target, ...
};

[[noreturn]] void fail(int native_code, const char* operation, const About& about);
[[noreturn]] void fail(Errc code, const char* operation, const About& about, const std::string& what);

inline void check(int native_code, const char* operation, const About& about = {}) {
  if (native_code != MPI_SUCCESS) [[unlikely]]
    fail(native_code, operation, about);
}

}  // namespace detail
}  // namespace manyhands::mpi
