#pragma once
// How a file of rank 0 comes to all ranks: one copy on each node, which its ranks share. Behind the functions
// of collective.hpp only.
//
// Every step ends with all ranks agreeing whether it went well; if one failed, all throw its error.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>

#include "manyhands/base/elf.hpp"
#include "manyhands/base/unique_fd.hpp"
#include "manyhands/mpi/collective.hpp"
#include "manyhands/mpi/error.hpp"

namespace manyhands::mpi::collective {

// Why a rank cannot go on. Travels to all ranks, and becomes their Error.
struct Failure {
  Errc code = Errc::other;
  std::string text;
};
// Of an errno.
Failure failure_of(int error, const std::string& what);

// A communicator of our own for the time of one call.
class OwnComm {
 public:
  explicit OwnComm(MPI_Comm comm) : comm_(comm) {}
  OwnComm(const OwnComm&) = delete;
  OwnComm& operator=(const OwnComm&) = delete;
  ~OwnComm() {
    if (comm_ != MPI_COMM_NULL && is_active()) MPI_Comm_free(&comm_);
  }
  MPI_Comm get() const { return comm_; }

 private:
  MPI_Comm comm_;
};

// The leaders of the nodes, and the ranks of this node.
struct Topology {
  Topology(MPI_Comm whole, const char* operation);

  bool is_leader() const { return leaders.get() != MPI_COMM_NULL; }

  MPI_Comm comm;
  const char* name;  // of the operation, for errors
  OwnComm node;
  OwnComm leaders;  // null on the other ranks; rank 0 is rank 0 of it
  int rank = 0;
  int size = 0;
};

// From rank 0 of `comm` to all.
void broadcast(MPI_Comm comm, const char* operation, void* data, std::size_t bytes);
void broadcast_text(MPI_Comm comm, const char* operation, std::string& text);

// All ranks say how they fare. If one failed, all throw its failure: that of the lowest such rank.
void agree(const Topology& topology, const std::string& path, const std::optional<Failure>& mine);

// Runs `act` on this rank if `here`; its exceptions become this rank's failure. Collective.
template <class Act>
void agree_after(const Topology& topology, const std::string& path, bool here, Act act) {
  std::optional<Failure> failure;
  if (here) {
    try {
      failure = act();
    } catch (const SystemError& error) {
      failure = failure_of(error.error(), "");
      failure->text = error.what();
    } catch (const ElfError& error) {
      failure = Failure{Errc::file, error.what()};
    } catch (const std::exception& error) {
      failure = Failure{Errc::other, error.what()};
    }
  }
  agree(topology, path, failure);
}

// The steps from rank 0's file to a descriptor on every rank. Each function is collective.
class Distributor {
 public:
  Distributor(const Comm& comm, const char* operation, Sharing sharing)
      : topology_(comm.native(), operation), sharing_(sharing) {}

  const Topology& topology() const { return topology_; }

  struct NodeFile {
    UniqueFd file;  // this rank's own descriptor; not set if the file is empty
    std::uint64_t size = 0;
  };
  // Rank 0's file at `path`, as a read-only descriptor of the node's copy.
  NodeFile distribute(const std::string& path);
  FileContents read(const std::string& path);
  // (library.cpp)
  Library load(const std::string& path, bool global);

 private:
  class Source;
  std::optional<Failure> fill(std::span<std::byte> target, const std::optional<Source>& source) const;
  UniqueFd share(const std::string& path, UniqueFd memory, std::uint64_t size) const;
  UniqueFd open_through_proc(const UniqueFd& memory) const;

  Topology topology_;
  Sharing sharing_;
};

}  // namespace manyhands::mpi::collective
