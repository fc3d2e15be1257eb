#include "manyhands/mpi/group.hpp"

namespace manyhands::mpi {
namespace {

int count(std::size_t n) { return static_cast<int>(n); }

std::vector<std::array<int, 3>> triplets(std::span<const RankRange> ranges) {
  std::vector<std::array<int, 3>> made;
  for (const RankRange& range : ranges) made.push_back({range.first, range.last, range.stride});
  return made;
}

}  // namespace

Group& Group::operator=(Group&& other) noexcept {
  if (this != &other) {
    this->~Group();
    group_ = std::exchange(other.group_, MPI_GROUP_EMPTY);
    owned_ = other.owned_;
  }
  return *this;
}

Group::~Group() {
  if (owned_ && group_ != MPI_GROUP_EMPTY && group_ != MPI_GROUP_NULL && is_active()) MPI_Group_free(&group_);
}

Group Group::dup() const { return exclude({}); }

int Group::size() const {
  detail::require_active("Group::size");
  int value = 0;
  detail::check(MPI_Group_size(group_, &value), "Group::size");
  return value;
}

int Group::rank() const {
  detail::require_active("Group::rank");
  int value = 0;
  detail::check(MPI_Group_rank(group_, &value), "Group::rank");
  return value;
}

Group Group::include(std::span<const int> ranks) const {
  detail::require_active("Group::include");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_incl(group_, count(ranks.size()), ranks.data(), &made), "Group::include");
  return Group(made);
}

Group Group::exclude(std::span<const int> ranks) const {
  detail::require_active("Group::exclude");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_excl(group_, count(ranks.size()), ranks.data(), &made), "Group::exclude");
  return Group(made);
}

Group Group::include_ranges(std::span<const RankRange> ranges) const {
  detail::require_active("Group::include_ranges");
  auto native = triplets(ranges);
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(
      MPI_Group_range_incl(group_, count(native.size()), reinterpret_cast<int(*)[3]>(native.data()), &made),
      "Group::include_ranges");
  return Group(made);
}

Group Group::exclude_ranges(std::span<const RankRange> ranges) const {
  detail::require_active("Group::exclude_ranges");
  auto native = triplets(ranges);
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(
      MPI_Group_range_excl(group_, count(native.size()), reinterpret_cast<int(*)[3]>(native.data()), &made),
      "Group::exclude_ranges");
  return Group(made);
}

Group Group::union_with(const Group& other) const {
  detail::require_active("Group::union_with");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_union(group_, other.group_, &made), "Group::union_with");
  return Group(made);
}

Group Group::intersection(const Group& other) const {
  detail::require_active("Group::intersection");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_intersection(group_, other.group_, &made), "Group::intersection");
  return Group(made);
}

Group Group::difference(const Group& other) const {
  detail::require_active("Group::difference");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_difference(group_, other.group_, &made), "Group::difference");
  return Group(made);
}

std::vector<int> Group::translate(std::span<const int> ranks, const Group& other) const {
  detail::require_active("Group::translate");
  std::vector<int> found(ranks.size());
  detail::check(
      MPI_Group_translate_ranks(group_, count(ranks.size()), ranks.data(), other.group_, found.data()),
      "Group::translate");
  return found;
}

Comparison Group::compare(const Group& other) const {
  detail::require_active("Group::compare");
  int result = MPI_UNEQUAL;
  detail::check(MPI_Group_compare(group_, other.group_, &result), "Group::compare");
  return static_cast<Comparison>(result);
}

}  // namespace manyhands::mpi
