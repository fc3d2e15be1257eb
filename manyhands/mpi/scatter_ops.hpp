#pragma once
// scatter by value: one plain value, part or object for each rank, and parts that differ by one. Included by
// collectives.hpp only.

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "manyhands/mpi/collective_steps.hpp"
#include "manyhands/mpi/ragged.hpp"

namespace manyhands::mpi::detail {

template <Plain T>
class ScatterPlain final : public Steps<T> {
 public:
  static constexpr bool one_step = true;
  template <class Items>
  ScatterPlain(CommState& state, Root root, const Items& items) : Steps<T>(state), root_(root.root) {
    require_root(state, "scatter", root_);
    if (!this->is(root_)) return;
    require_items(state, "scatter", std::ranges::size(items));
    for (const T& item : items) items_.push_back({item});
  }
  T take() override { return mine_; }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    scatter(this->state(), elements(std::as_const(items_).data(), 1), as_writable(mine_), root_, launch);
    return true;
  }
  int root_;
  std::vector<std::array<T, 1>>
      items_;  // on the root; in arrays, since a vector<bool> has no memory to send from
  T mine_{};
};

// Parts of any length: {this rank's length, the length of all} first, then the parts. Holds the root's
// values, or is a span of them.
template <Plain T, class Held = std::vector<T>>
class ScatterParts : public Steps<std::vector<T>> {
 public:
  ScatterParts(CommState& state, Root root, Held values, std::vector<MPI_Count> counts)
      : Steps<std::vector<T>>(state),
        root_(root.root),
        values_(std::move(values)),
        counts_(std::move(counts)) {
    if (!this->is(root_)) return;
    const auto all = static_cast<MPI_Count>(values_.size());
    for (const MPI_Count count : counts_) announced_.insert(announced_.end(), {count, all});
  }
  std::vector<T> take() override { return std::move(mine_); }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state();
    if (i == 0) {
      scatter(state, {announced_.data(), 2, MPI_COUNT}, {size_, 2, MPI_COUNT}, root_, launch);
    } else if (i == 1) {
      mine_.resize(static_cast<std::size_t>(size_[0]));
      units_ = in_units<T>(counts_);
      scatterv(state, elements(std::as_const(values_).data(), 0), {units_, {}},
               elements(mine_.data(), size_[0]), root_, width_of(size_[1] * Unit<T>::per_element), launch);
    }
    return i < 2;
  }
  int root_;
  Held values_;                       // on the root
  std::vector<MPI_Count> counts_;     // on the root
  std::vector<MPI_Count> announced_;  // on the root
  std::vector<MPI_Count> units_;
  MPI_Count size_[2] = {};
  std::vector<T> mine_;
};

template <Plain T>
class ScatterRagged final : public ScatterParts<T> {
 public:
  template <class Items>
  ScatterRagged(CommState& state, Root root, const Items& items)
      : ScatterRagged(state, root, prepare(state, root, items)) {}

 private:
  ScatterRagged(CommState& state, Root root, Ragged<T>&& parts)
      : ScatterParts<T>(state, root, std::move(parts.values()), parts.counts()) {}
  template <class Items>
  static Ragged<T> prepare(CommState& state, Root root, const Items& items) {
    require_root(state, "scatter", root.root);
    if (state.rank != root.root) return {};
    if constexpr (std::is_same_v<Items, Ragged<T>>) {
      require_items(state, "scatter", items.parts());
      return items;
    } else {
      require_items(state, "scatter", std::ranges::size(items));
      Ragged<T> parts;
      for (const auto& item : items) parts.push_back({std::ranges::data(item), std::ranges::size(item)});
      return parts;
    }
  }
};

// Refers to the range.
template <Plain T>
class ScatterRange final : public ScatterParts<T, std::span<const T>> {
 public:
  template <class Range>
  ScatterRange(CommState& state, Root root, const Range& range)
      : ScatterParts<T, std::span<const T>>(
            (require_root(state, "scatter_range", root.root), state), root,
            {std::ranges::data(range), std::ranges::size(range)},
            near_equal(static_cast<MPI_Count>(std::ranges::size(range)), state.size)) {}
};

template <class T>
class ScatterObject final : public Steps<T> {
 public:
  template <class Items>
  ScatterObject(CommState& state, Root root, const Items& items) : Steps<T>(state), root_(root.root) {
    require_root(state, "scatter", root_);
    if (!this->is(root_)) return;
    require_items(state, "scatter", std::ranges::size(items));
    for (const auto& item : items) parts_.add(item);
    const MPI_Count all = sum(parts_.counts());
    for (const MPI_Count count : parts_.counts()) announced_.insert(announced_.end(), {count, all});
  }
  T take() override { return unpack_object<T>(mine_, {.comm = this->state().comm, .root = root_}); }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state();
    if (i == 0) {
      scatter(state, {announced_.data(), 2, MPI_COUNT}, {size_, 2, MPI_COUNT}, root_, launch);
    } else if (i == 1) {
      mine_.resize(static_cast<std::size_t>(size_[0]));
      scatterv(state, {parts_.bytes().data(), 0, MPI_BYTE}, {parts_.counts(), {}},
               {mine_.data(), size_[0], MPI_BYTE}, root_, width_of(size_[1]), launch);
    }
    return i < 2;
  }
  int root_;
  PackedParts parts_;  // on the root
  std::vector<MPI_Count> announced_;
  MPI_Count size_[2] = {};
  std::vector<std::byte> mine_;
};

template <class Items>
struct ItemsOf {
  using Item = std::ranges::range_value_t<Items>;
};
template <class T>
struct ItemsOf<Ragged<T>> {
  using Item = std::vector<T>;
};
template <class Item>
struct ScatterItem {
  using Op = ScatterObject<Item>;
};
template <Plain Item>
struct ScatterItem<Item> {
  using Op = ScatterPlain<Item>;
};
template <class Item>
  requires(Flat<Item> && !Plain<Item> && !std::is_same_v<Item, std::string>)
struct ScatterItem<Item> {
  using Op = ScatterRagged<std::ranges::range_value_t<Item>>;
};
template <class Items>
using ScatterOf = typename ScatterItem<typename ItemsOf<Items>::Item>::Op;

}  // namespace manyhands::mpi::detail
