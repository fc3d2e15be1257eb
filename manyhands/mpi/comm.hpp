#pragma once
// Comm: a communicator of one group, with everything that its ranks can do together.
//
//   const auto& world = mpi::world();
//   auto halves = world.split(world.rank() % 2);
//   auto node = world.split_node();
//
// How it is built up, each step in a header of its own: Communicator (the handle), PointToPoint (messages),
// Collectives (what all ranks do together, blocking), NonblockingCollectives, PersistentCollectives.

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "manyhands/mpi/collectives.hpp"
#include "manyhands/mpi/group.hpp"
#include "manyhands/mpi/point_to_point.hpp"

namespace manyhands::mpi {

struct SplitOptions {
  int key = 0;  // ranks are numbered anew in the order of their keys, then of their old ranks
};

// What ranks of one machine may have in common, from the outside to the inside.
enum class Hardware : std::uint8_t { node, package, numa, l3_cache, l2_cache, l1_cache, core, thread };
std::string_view name_of(Hardware level) noexcept;

class Comm : public Collectives {
 public:
  Comm() = default;  // empty
  // Raw handles in: adopt() takes ownership, view() refers to one that another frees, dup() makes one of its
  // own (collective). Errors on adopted and duplicated communicators are exceptions; a viewed one is left as
  // it is. Throws Error (comm) for MPI_COMM_NULL and intercommunicators.
  static Comm adopt(MPI_Comm raw);
  static Comm view(MPI_Comm raw);
  static Comm dup(MPI_Comm raw);
  // view() of what Fortran holds.
  static Comm from_fortran(MPI_Fint handle) { return view(MPI_Comm_f2c(handle)); }

  // ---- New communicators; collective over this one.

  // The same ranks with messages of their own; attributes are copied.
  Comm dup() const;
  Comm dup(const Info& info) const;
  // One communicator for each color >= 0; mpi::undefined: this rank takes part in none (an empty Comm).
  Comm split(int color, const SplitOptions& options = {}) const;
  // The ranks that share memory with this one.
  Comm split_node(const SplitOptions& options = {}) const;
  // The ranks that run on the same piece of hardware as this one. A rank that may run on several (as it is
  // not bound: manyhands run --bind core) is with those that its MPI puts it to, in an empty Comm with some.
  // Throws Unsupported for what this MPI does not tell apart.
  Comm split_hardware(Hardware level, const SplitOptions& options = {}) const;
  // The ranks of `group`, which must be a subset; the others get an empty Comm.
  Comm create(const Group& group) const;
  // As create, called by the members of `group` only.
  Comm create_group(const Group& group, int tag = 0) const;
  Comm include(std::initializer_list<int> ranks) const { return create(group().include(ranks)); }

  // Prints one line per rank to stdout, in the order of the ranks and without mixing; collective. Text of the
  // other ranks is printed by rank 0.
  void print(std::string_view line) const;

 protected:
  Comm(MPI_Comm comm, Ownership ownership) : Collectives(comm, ownership) {}
};

// All processes of the job, and this process alone. Throws Error (not_active) before MPI is initialised and
// after its end.
const Comm& world();
const Comm& self();

}  // namespace manyhands::mpi
