#pragma once
// gather and allgather by value: plain, flat of any length, and objects. Included by collectives.hpp only.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "manyhands/mpi/collective_steps.hpp"
#include "manyhands/mpi/ragged.hpp"

namespace manyhands::mpi::detail {

enum class Gathered { root, all };

template <Plain T, Gathered G>
class GatherPlain final : public Steps<std::vector<T>> {
 public:
  static constexpr bool one_step = true;
  GatherPlain(CommState& state, Root root, const T& value)
      : Steps<std::vector<T>>(state), root_(root.root), mine_(value) {
    require_root(state, "gather", root_);
    if (G == Gathered::all || this->is(root_)) all_.resize(this->ranks());
  }
  GatherPlain(CommState& state, const T& value) : GatherPlain(state, Root{}, value) {}
  std::vector<T> take() override {
    if constexpr (std::is_same_v<T, bool>) {
      return {all_.begin(), all_.end()};
    } else {
      return std::move(all_);
    }
  }

 private:
  // A vector<bool> has no memory to gather into; MPI's bool is a byte.
  using Element = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    if constexpr (G == Gathered::all) {
      allgather(this->state(), as_buffer(mine_), elements(all_.data(), 1), launch);
    } else {
      gather(this->state(), as_buffer(mine_), elements(all_.data(), 1), root_, launch);
    }
    return true;
  }
  int root_;
  Element mine_;
  std::vector<Element> all_;
};
// Parts of any length: all ranks learn all lengths, so that all know the form in which the parts go. Holds
// this rank's part, or is a span of it.
template <Plain T, Gathered G, class Held = std::vector<T>>
class GatherFlat final : public Steps<Ragged<T>> {
 public:
  template <class Range>
  GatherFlat(CommState& state, Root root, const Range& range)
      : Steps<Ragged<T>>(state),
        root_(root.root),
        mine_(std::ranges::begin(range), std::ranges::end(range)),
        size_(static_cast<MPI_Count>(mine_.size())),
        counts_(this->ranks()) {
    require_root(state, "gather", root_);
  }
  template <class Range>
  GatherFlat(CommState& state, const Range& range) : GatherFlat(state, Root{}, range) {}
  Ragged<T> take() override { return std::move(all_); }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state();
    if (i == 0) {
      allgather(state, {&size_, 1, MPI_COUNT}, {counts_.data(), 1, MPI_COUNT}, launch);
    } else if (i == 1) {
      units_ = in_units<T>(counts_);
      const ConstBuffer send = elements(std::as_const(mine_).data(), size_);
      if (G == Gathered::all || this->is(root_)) all_ = Ragged<T>(counts_);
      const Buffer recv = elements(all_.values().data(), 0);
      if constexpr (G == Gathered::all) {
        allgatherv(state, send, recv, {units_, {}}, launch);
      } else {
        gatherv(state, send, recv, {units_, {}}, root_, width_of(sum(units_)), launch);
      }
    }
    return i < 2;
  }
  int root_;
  Held mine_;
  MPI_Count size_;
  std::vector<MPI_Count> counts_;
  std::vector<MPI_Count> units_;
  Ragged<T> all_;
};

template <class T, Gathered G>
class GatherObject final : public Steps<std::vector<T>> {
 public:
  GatherObject(CommState& state, Root root, const T& value) : Steps<std::vector<T>>(state), root_(root.root) {
    require_root(state, "gather", root_);
    mine_.add(value);
    all_.counts().resize(this->ranks());
  }
  GatherObject(CommState& state, const T& value) : GatherObject(state, Root{}, value) {}
  std::vector<T> take() override {
    if (G == Gathered::root && !this->is(root_)) return {};
    return all_.template unpack<T>(this->state());
  }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state();
    const ConstBuffer send{mine_.bytes().data(), static_cast<MPI_Count>(mine_.bytes().size()), MPI_BYTE};
    if (i == 0) {
      allgather(state, {mine_.counts().data(), 1, MPI_COUNT}, {all_.counts().data(), 1, MPI_COUNT}, launch);
    } else if (i == 1) {
      if (G == Gathered::all || this->is(root_)) all_.make_room();
      const Buffer recv{all_.bytes().data(), 0, MPI_BYTE};
      if constexpr (G == Gathered::all) {
        allgatherv(state, send, recv, {all_.counts(), {}}, launch);
      } else {
        gatherv(state, send, recv, {all_.counts(), {}}, root_, width_of(sum(all_.counts())), launch);
      }
    }
    return i < 2;
  }
  int root_;
  PackedParts mine_;
  PackedParts all_;
};

// Op refers to the value, Started holds what it needs.
template <class T, Gathered G>
struct GatherValue {
  using Op = GatherObject<T, G>;
  using Started = Op;
};
template <Plain T, Gathered G>
struct GatherValue<T, G> {
  using Op = GatherPlain<T, G>;
  using Started = Op;
};
// Text is gathered as texts: its characters side by side would be of no use.
template <class T, Gathered G>
  requires(Flat<T> && !Plain<T> && !std::is_same_v<T, std::string>)
struct GatherValue<T, G> {
  using E = std::ranges::range_value_t<T>;
  using Op = GatherFlat<E, G, std::span<const E>>;
  using Started = GatherFlat<E, G>;
};
template <class T>
using GatherOf = typename GatherValue<T, Gathered::root>::Op;
template <class T>
using StartedGatherOf = typename GatherValue<T, Gathered::root>::Started;
template <class T>
using AllgatherOf = typename GatherValue<T, Gathered::all>::Op;
template <class T>
using StartedAllgatherOf = typename GatherValue<T, Gathered::all>::Started;

}  // namespace manyhands::mpi::detail
