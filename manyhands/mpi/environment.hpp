#pragma once
// Environment: MPI from its beginning to its end, in one object of main().
//
//   int main(int argc, char** argv) {
//     mh::mpi::Environment env(argc, argv);
//     const auto& world = mh::mpi::world();
//     ...
//   }
//
// A rank that fails must not leave the others waiting for it: an exception that nobody catches, and one that
// leaves the Environment's scope, ends the whole job at once (MPI_Abort) with one line that names rank, host
// and exception.

#include <optional>
#include <string>
#include <string_view>

#include "manyhands/mpi/lifetime.hpp"
#include "manyhands/mpi/native.hpp"

namespace manyhands::mpi {

// Which threads of a rank may call MPI (MPI 3.1, 12.4.3).
enum class ThreadLevel : int {
  single = MPI_THREAD_SINGLE,          // the rank has one thread
  funneled = MPI_THREAD_FUNNELED,      // the thread that made the Environment
  serialized = MPI_THREAD_SERIALIZED,  // any, one at a time
  multiple = MPI_THREAD_MULTIPLE,      // any, at any time; costs locks in every call
};

std::string_view name_of(ThreadLevel level) noexcept;

struct EnvironmentOptions {
  ThreadLevel threads = ThreadLevel::funneled;
  bool abort_on_exception = true;
};

// One per process, made by the thread that main runs in. If MPI is initialised already (by a C library, say),
// it is used and left as it is; the destructor finalizes only what the constructor initialised. MPI cannot be
// initialised twice.
class Environment {
 public:
  // Throws Error if MPI was finalized before, or grants a lower thread level than asked for.
  explicit Environment(const EnvironmentOptions& options = {});
  Environment(int& argc, char**& argv, const EnvironmentOptions& options = {});
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  // Finalizes MPI: blocks until all ranks do. While an exception passes: ends the job instead
  // (abort_on_exception).
  ~Environment();

  ThreadLevel thread_level() const noexcept { return level_; }

 private:
  bool ours_ = false;
  bool abort_on_exception_;
  int exceptions_;  // in flight when it was made
  ThreadLevel level_ = ThreadLevel::single;
};

// Ends all processes of the job with `exit_status`, printing `message` if there is one. Never returns. Any
// thread.
[[noreturn]] void abort(std::string_view message = {}, int exit_status = 1);

// What this MPI can do, found out at run time.
struct Features {
  std::string library;        // "Open MPI v4.1.4, ..."
  int version = 0;            // of the standard, e.g. 3
  int subversion = 0;         // e.g. 1
  bool large_counts = false;  // natively; through derived datatypes they work everywhere
  bool sessions = false;
  bool partitioned = false;             // natively; emulated elsewhere
  bool persistent_collectives = false;  // natively; emulated elsewhere
  bool spawn = false;                   // spawn, open_port, connect, accept
  bool cuda = false;                    // device pointers may be given to send and receive
  int max_tag = 32767;                  // the largest tag
  int universe_size = 0;                // processes that the job may have; 0: unknown
  std::optional<int> app_number;        // which of several programs of the job this is (MPI_APPNUM)
  std::optional<int> host_rank;         // of the world, where there is such a rank (MPI_HOST)
  std::optional<int> io_rank;           // that can do standard I/O; any_source: all can (MPI_IO)
  bool wtime_is_global = false;         // clocks of all ranks go alike
};
// Requires: active.
const Features& features();

// Whether this is the thread that initialised MPI, which alone may call it with ThreadLevel::funneled.
// Requires: active.
bool is_thread_main();
// The host's name as MPI knows it. Requires: active.
std::string node_name();
// Seconds since some time in the past, and the resolution of that clock in seconds.
double wtime();
double wtick();

}  // namespace manyhands::mpi
