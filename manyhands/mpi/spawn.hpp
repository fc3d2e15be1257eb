#pragma once
// Processes that join a running job: started by it (spawn), or met at a port (accept, connect, join).
//
//   mpi::Intercomm kids = mpi::spawn(world, "./worker", {.count = 4, .args = {"-v"}});
//   if (auto parent = mpi::parent()) { ... }                       // in ./worker
//
//   mpi::Port port;                                                 // in one job
//   mpi::Intercomm client = mpi::accept(world, port.name());
//   mpi::Intercomm server = mpi::connect(world, name);              // in another, which was told port.name()
//
// Not every MPI can (Debian's MPICH 4.0 cannot): features().spawn tells; what cannot be done throws
// Unsupported. Source: MPI 3.1, chapter 10.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "manyhands/mpi/intercomm.hpp"

namespace manyhands::mpi {

struct SpawnOptions {
  int count = 1;                       // processes to start
  std::vector<std::string> args = {};  // without the program's name
  Info info = {};                      // hints: "wdir", "host", "path", ...
  int root = 0;                        // the rank that reads the arguments
};

// Starts processes that have a world of their own, and returns the way to them. Collective over `comm`;
// blocks until they have initialised MPI. Throws Error (spawn) on all ranks if the program cannot be started:
// some MPIs end the job instead, so it is looked for first.
Intercomm spawn(const Comm& comm, const std::string& program, const SpawnOptions& options = {});

// Several programs, or one with different arguments: one world for all that are started, in this order.
struct SpawnCommand {
  std::string program;
  int count = 1;
  std::vector<std::string> args = {};
  Info info = {};
};
Intercomm spawn_multiple(const Comm& comm, std::span<const SpawnCommand> commands, int root = 0);

// The way to the job that spawned this process; nothing if it was not spawned. Viewed: it lasts until it is
// disconnect()ed.
std::optional<Intercomm> parent();

struct MeetOptions {
  int root = 0;  // the rank that knows the port
  Info info = {};
};

// A place where other jobs can be met. A resource: moved, not copied; closes itself.
class Port {
 public:
  explicit Port(const Info& info = {});
  Port(Port&& other) noexcept : name_(std::exchange(other.name_, {})) {}
  Port& operator=(Port&&) = delete;
  ~Port();
  // What the other job must be told.
  const std::string& name() const& noexcept { return name_; }
  std::string name() && { return std::move(name_); }

 private:
  std::string name_;
};

// Waits at a port until another job connects; collective over `comm`, the port's name is read on the root.
Intercomm accept(const Comm& comm, const std::string& port, const MeetOptions& options = {});
// Joins a job that accepts; collective over `comm`. Throws Error (port) for a port that is none.
Intercomm connect(const Comm& comm, const std::string& port, const MeetOptions& options = {});
// The process at the other end of a connected socket, which calls join() too. The socket is not used any more
// when it returns. The groups have one rank each.
Intercomm join(int socket);

// Names for ports, where a name server is (Open MPI: ompi-server, or within one mpiexec).
void publish_name(const std::string& service, const std::string& port, const Info& info = {});
void unpublish_name(const std::string& service, const std::string& port, const Info& info = {});
std::optional<std::string> lookup_name(const std::string& service, const Info& info = {});

}  // namespace manyhands::mpi
