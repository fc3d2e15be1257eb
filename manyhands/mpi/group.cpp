#include "manyhands/mpi/group.hpp"

#include <fmt/format.h>

namespace manyhands::mpi {
namespace {

int count(std::size_t n) { return static_cast<int>(n); }

void require(MPI_Group group, const char* verb) {
  detail::require_active(verb);
  if (group == MPI_GROUP_NULL) detail::fail(Errc::group, verb, {}, "the handle is MPI_GROUP_NULL");
}

// Open MPI 4.1 looks at some of them only, and uses what it does not look at as an index.
void require_ranks(MPI_Group group, std::span<const int> ranks, bool nobody, const char* verb) {
  require(group, verb);
  int size = 0;
  detail::check(MPI_Group_size(group, &size), verb);
  for (const int rank : ranks) {
    if ((rank < 0 || rank >= size) && !(nobody && rank == MPI_PROC_NULL))
      detail::fail(Errc::rank, verb, {}, fmt::format("there is no rank {} in a group of {}", rank, size));
  }
}

void require_ranges(MPI_Group group, std::span<const RankRange> ranges, const char* verb) {
  require(group, verb);
  for (const RankRange& range : ranges) {
    if (range.stride == 0) detail::fail(Errc::arg, verb, {}, "a range of ranks with stride 0");
    const bool any = range.stride > 0 ? range.first <= range.last : range.first >= range.last;
    const int last = any ? range.last - (range.last - range.first) % range.stride : range.first;
    require_ranks(group, std::array{range.first, last}, false, verb);
  }
}

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
  require(group_, "Group::size");
  int value = 0;
  detail::check(MPI_Group_size(group_, &value), "Group::size");
  return value;
}

int Group::rank() const {
  require(group_, "Group::rank");
  int value = 0;
  detail::check(MPI_Group_rank(group_, &value), "Group::rank");
  return value;
}

Group Group::include(std::span<const int> ranks) const {
  require_ranks(group_, ranks, false, "Group::include");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_incl(group_, count(ranks.size()), ranks.data(), &made), "Group::include");
  return Group(made);
}

Group Group::exclude(std::span<const int> ranks) const {
  require_ranks(group_, ranks, false, "Group::exclude");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_excl(group_, count(ranks.size()), ranks.data(), &made), "Group::exclude");
  return Group(made);
}

Group Group::include_ranges(std::span<const RankRange> ranges) const {
  require_ranges(group_, ranges, "Group::include_ranges");
  auto native = triplets(ranges);
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(
      MPI_Group_range_incl(group_, count(native.size()), reinterpret_cast<int(*)[3]>(native.data()), &made),
      "Group::include_ranges");
  return Group(made);
}

Group Group::exclude_ranges(std::span<const RankRange> ranges) const {
  require_ranges(group_, ranges, "Group::exclude_ranges");
  auto native = triplets(ranges);
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(
      MPI_Group_range_excl(group_, count(native.size()), reinterpret_cast<int(*)[3]>(native.data()), &made),
      "Group::exclude_ranges");
  return Group(made);
}

Group Group::union_with(const Group& other) const {
  require(group_, "Group::union_with");
  require(other.group_, "Group::union_with");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_union(group_, other.group_, &made), "Group::union_with");
  return Group(made);
}

Group Group::intersection(const Group& other) const {
  require(group_, "Group::intersection");
  require(other.group_, "Group::intersection");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_intersection(group_, other.group_, &made), "Group::intersection");
  return Group(made);
}

Group Group::difference(const Group& other) const {
  require(group_, "Group::difference");
  require(other.group_, "Group::difference");
  MPI_Group made = MPI_GROUP_EMPTY;
  detail::check(MPI_Group_difference(group_, other.group_, &made), "Group::difference");
  return Group(made);
}

std::vector<int> Group::translate(std::span<const int> ranks, const Group& other) const {
  require_ranks(group_, ranks, true, "Group::translate");
  require(other.group_, "Group::translate");
  std::vector<int> found(ranks.size());
  detail::check(
      MPI_Group_translate_ranks(group_, count(ranks.size()), ranks.data(), other.group_, found.data()),
      "Group::translate");
  return found;
}

Comparison Group::compare(const Group& other) const {
  require(group_, "Group::compare");
  require(other.group_, "Group::compare");
  int result = MPI_UNEQUAL;
  detail::check(MPI_Group_compare(group_, other.group_, &result), "Group::compare");
  return static_cast<Comparison>(result);
}

}  // namespace manyhands::mpi
