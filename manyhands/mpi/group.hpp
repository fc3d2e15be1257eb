#pragma once
// Group: an ordered set of processes, from which communicators are made. Local: no call of a group
// communicates.

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "manyhands/mpi/communicator.hpp"

namespace manyhands::mpi {

// A resource with set operations. Ranks are positions in the group; mpi::undefined stands for "not a member".
inline constexpr int undefined = MPI_UNDEFINED;

// Ranks first, first + stride, ... up to last.
struct RankRange {
  int first = 0;
  int last = 0;
  int stride = 1;
};

class Group {
 public:
  Group() = default;  // the empty group
  // Raw handles in: takes ownership, or refers to one that another frees (also Fortran's).
  static Group adopt(MPI_Group raw) noexcept { return Group(raw, true); }
  static Group view(MPI_Group raw) noexcept { return Group(raw, false); }
  static Group from_fortran(MPI_Fint handle) { return view(MPI_Group_f2c(handle)); }
  // The same processes under a handle of its own.
  Group dup() const;

  int size() const;
  int rank() const;  // of this process; undefined if it is no member
  bool empty() const { return size() == 0; }

  Group include(std::span<const int> ranks) const;  // in this order
  Group exclude(std::span<const int> ranks) const;
  Group include(std::initializer_list<int> ranks) const {
    return include(std::span(ranks.begin(), ranks.size()));
  }
  Group exclude(std::initializer_list<int> ranks) const {
    return exclude(std::span(ranks.begin(), ranks.size()));
  }
  Group include_ranges(std::span<const RankRange> ranges) const;
  Group exclude_ranges(std::span<const RankRange> ranges) const;
  // Those of `this` first, then those of `other` that are not in it.
  Group union_with(const Group& other) const;
  Group intersection(const Group& other) const;
  Group difference(const Group& other) const;
  // The ranks that processes `ranks` of this group have in `other`; undefined for who is not there, proc_null
  // for proc_null. Throws Error (rank), as all verbs that take ranks, for one that the group does not have.
  std::vector<int> translate(std::span<const int> ranks, const Group& other) const;
  Comparison compare(const Group& other) const;
  friend bool operator==(const Group& a, const Group& b) { return a.compare(b) == Comparison::identical; }

  Group(Group&& other) noexcept
      : group_(std::exchange(other.group_, MPI_GROUP_EMPTY)), owned_(other.owned_) {}
  Group& operator=(Group&& other) noexcept;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  ~Group();

  MPI_Group native() const noexcept { return group_; }
  // Gives the raw handle away; who takes it frees it. This object is the empty group then.
  MPI_Group release() noexcept { return std::exchange(group_, MPI_GROUP_EMPTY); }
  MPI_Fint to_fortran() const { return MPI_Group_c2f(group_); }

 private:
  explicit Group(MPI_Group group, bool owned = true) noexcept : group_(group), owned_(owned) {}
  MPI_Group group_ = MPI_GROUP_EMPTY;
  bool owned_ = true;
};

}  // namespace manyhands::mpi
