#pragma once
// Ragged<T>: one sequence of T per rank, of different lengths, in one piece of memory.
//
// What the collectives with different counts (MPI's v-variants) take and give: r[i] is a span over the part
// of rank i.

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "manyhands/mpi/datatype.hpp"

namespace manyhands::mpi {

namespace detail {
// Throws Error (count) unless the counts are not negative and add up to `total`.
void require_total(std::span<const MPI_Count> counts, std::size_t total);
}  // namespace detail

// Parts 0 ... parts()-1; part i is values()[offset(i), offset(i + 1)). A value.
template <Plain T>
class Ragged {
 public:
  using value_type = T;

  Ragged() = default;
  // Parts of these lengths, value-initialised.
  explicit Ragged(std::span<const MPI_Count> counts) {
    for (const MPI_Count count : counts) offsets_.push_back(offsets_.back() + count);
    values_.resize(static_cast<std::size_t>(offsets_.back()));
  }
  // `values` cut into parts of these lengths, one behind the other, without a copy. Throws Error (count)
  // unless they are as many as the lengths say.
  Ragged(std::vector<T> values, std::span<const MPI_Count> counts) : values_(std::move(values)) {
    for (const MPI_Count count : counts) offsets_.push_back(offsets_.back() + count);
    detail::require_total(counts, values_.size());
  }
  explicit Ragged(const std::vector<std::vector<T>>& parts) {
    std::size_t all = 0;
    for (const auto& part : parts) all += part.size();
    values_.reserve(all);
    offsets_.reserve(parts.size() + 1);
    for (const auto& part : parts) {
      values_.insert(values_.end(), part.begin(), part.end());
      offsets_.push_back(static_cast<MPI_Count>(values_.size()));
    }
  }

  std::size_t parts() const noexcept { return offsets_.size() - 1; }
  // Of a temporary, a vector of its own: a span would refer to what is gone.
  std::span<T> operator[](std::size_t part) & noexcept {
    return {values_.data() + offsets_[part], static_cast<std::size_t>(count(part))};
  }
  std::span<const T> operator[](std::size_t part) const& noexcept {
    return {values_.data() + offsets_[part], static_cast<std::size_t>(count(part))};
  }
  std::vector<T> operator[](std::size_t part) const&& {
    return std::vector<T>(values_.data() + offsets_[part], values_.data() + offsets_[part + 1]);
  }
  MPI_Count count(std::size_t part) const noexcept { return offsets_[part + 1] - offsets_[part]; }
  std::vector<MPI_Count> counts() const {
    std::vector<MPI_Count> all(parts());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = count(i);
    return all;
  }
  // All elements, part after part. Of a temporary they are moved out:
  //   for (double x : comm.allgather(mine).values()) ...
  std::vector<T>& values() & noexcept { return values_; }
  const std::vector<T>& values() const& noexcept { return values_; }
  std::vector<T> values() && { return std::move(values_); }
  std::vector<std::vector<T>> to_vectors() const {
    std::vector<std::vector<T>> all;
    for (std::size_t i = 0; i < parts(); ++i) all.emplace_back((*this)[i].begin(), (*this)[i].end());
    return all;
  }
  void push_back(std::span<const T> part) {
    values_.insert(values_.end(), part.begin(), part.end());
    offsets_.push_back(static_cast<MPI_Count>(values_.size()));
  }
  friend bool operator==(const Ragged&, const Ragged&) = default;

 private:
  std::vector<T> values_;
  std::vector<MPI_Count> offsets_ = {0};  // ascending; one more than parts
};

}  // namespace manyhands::mpi
