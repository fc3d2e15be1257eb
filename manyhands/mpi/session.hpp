#pragma once
// Session: MPI without a world (MPI 4): a library of its own makes its communicators from named sets of
// processes, whatever else in the program uses MPI.
//
//   mpi::Session session;
//   mpi::Comm comm = session.comm("mpi://WORLD", "my.library/1");
//
// Needs an MPI 4 (features().sessions); elsewhere the constructor throws Unsupported. An mpi::Environment
// must be there, too: the verbs of manyhands ask for it.

#include <string>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/environment.hpp"

namespace manyhands::mpi {

struct SessionOptions {
  ThreadLevel threads = ThreadLevel::funneled;
  Info info = {};
};

// A resource: moved, not copied. Communicators made from it go before it.
class Session {
 public:
  // Local.
  explicit Session(const SessionOptions& options = {});
  Session(Session&& other) noexcept;
  Session& operator=(Session&&) = delete;
  // Ends the session: waits for its communicators' messages.
  ~Session();  // NOLINT(performance-trivially-destructible): only where the MPI has no sessions

  // The names of the sets of processes: "mpi://WORLD", "mpi://SELF", and what the launcher knows.
  std::vector<std::string> psets() const;
  Info pset_info(const std::string& pset) const;
  // Throws Error (arg) for a name that is none.
  Group group_of(const std::string& pset) const;
  // A communicator of the group, collective over it. The tag tells apart those that are made at the same
  // time.
  Comm comm(const Group& group, const std::string& tag, const Info& info = {}) const;
  Comm comm(const std::string& pset, const std::string& tag) const { return comm(group_of(pset), tag); }
  ThreadLevel thread_level() const;
  // What it was made with, as far as the MPI uses it.
  Info info() const;
#if MH_MPI_HAS_SESSIONS
  // To be looked at: it stays this object's.
  MPI_Session native() const noexcept { return session_; }
  MPI_Fint to_fortran() const { return MPI_Session_c2f(session_); }
#endif

 private:
#if MH_MPI_HAS_SESSIONS
  MPI_Session session_ = MPI_SESSION_NULL;
#endif
};

}  // namespace manyhands::mpi
