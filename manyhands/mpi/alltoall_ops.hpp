#pragma once
// alltoall by value: plain, parts of any length, and objects. Included by collectives.hpp only.

#include <algorithm>
#include <utility>
#include <vector>

#include "manyhands/mpi/collective_steps.hpp"
#include "manyhands/mpi/ragged.hpp"

namespace manyhands::mpi::detail {

// Holds the items, or refers to them.
template <Plain T, class Held = std::vector<T>>
class AlltoallPlain final : public Steps<std::vector<T>> {
 public:
  static constexpr bool one_step = true;
  AlltoallPlain(CommState& state, const std::vector<T>& items) : Steps<std::vector<T>>(state), sent_(items) {
    require_items(state, "alltoall", items.size());
    all_.resize(items.size());
  }
  std::vector<T> take() override { return std::move(all_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    alltoall(this->state(), elements(std::as_const(sent_).data(), 1), elements(all_.data(), 1), launch);
    return true;
  }
  Held sent_;
  std::vector<T> all_;
};

// Parts of any length, held or referred to. With its length each rank sends how much it sends in all: if that
// is so much on one of them that some rank could receive more than MPI can count, all take the wide form.
template <Plain T, class Held = Ragged<T>>
class AlltoallParts {
 public:
  AlltoallParts(CommState& state, Held sent) : sent_(std::forward<Held>(sent)) {
    require_items(state, "alltoall", sent_.parts());
    const auto all = static_cast<MPI_Count>(sent_.values().size());
    for (const MPI_Count count : sent_.counts()) announced_.insert(announced_.end(), {count, all});
    heard_.resize(announced_.size());
  }
  bool step(CommState& state, int i, Launch& launch) {
    if (i == 0) {
      alltoall(state, {announced_.data(), 2, MPI_COUNT}, {heard_.data(), 2, MPI_COUNT}, launch);
    } else if (i == 1) {
      std::vector<MPI_Count> counts;
      MPI_Count most = 0;
      for (std::size_t rank = 0; rank < heard_.size() / 2; ++rank) {
        counts.push_back(heard_[2 * rank]);
        most = std::max(most, heard_[2 * rank + 1]);
      }
      got_ = Ragged<T>(counts);
      send_units_ = in_units<T>(sent_.counts());
      recv_units_ = in_units<T>(counts);
      const Width width = width_of(most * Unit<T>::per_element * state.size);
      alltoallv(state, elements(std::as_const(sent_.values()).data(), 0), {send_units_, {}},
                elements(got_.values().data(), 0), {recv_units_, {}}, width, launch);
    }
    return i < 2;
  }
  Ragged<T>& got() noexcept { return got_; }

 private:
  Held sent_;
  Ragged<T> got_;
  std::vector<MPI_Count> announced_;
  std::vector<MPI_Count> heard_;
  std::vector<MPI_Count> send_units_;
  std::vector<MPI_Count> recv_units_;
};

template <class Items, Plain T, class Held = Ragged<T>>
class AlltoallRagged final : public Steps<Items> {
 public:
  AlltoallRagged(CommState& state, const Items& items)
      : Steps<Items>(state), parts_(state, static_cast<Held>(items)) {}
  Items take() override {
    if constexpr (std::is_same_v<Items, Ragged<T>>) {
      return std::move(parts_.got());
    } else {
      return parts_.got().to_vectors();
    }
  }

 private:
  bool step(int i, Launch& launch) override { return parts_.step(this->state(), i, launch); }
  AlltoallParts<T, Held> parts_;
};

template <class T>
class AlltoallObject final : public Steps<std::vector<T>> {
 public:
  AlltoallObject(CommState& state, const std::vector<T>& items)
      : Steps<std::vector<T>>(state), parts_(state, pack(items)) {}
  std::vector<T> take() override {
    std::vector<T> values;
    const Ragged<std::byte>& got = parts_.got();
    for (std::size_t i = 0; i < got.parts(); ++i)
      values.push_back(unpack_object<T>(got[i], {.comm = this->state().comm, .source = static_cast<int>(i)}));
    return values;
  }

 private:
  static Ragged<std::byte> pack(const std::vector<T>& items) {
    Ragged<std::byte> parts;
    for (const T& item : items) {
      PackedParts one;
      one.add(item);
      parts.push_back(one.bytes());
    }
    return parts;
  }
  bool step(int i, Launch& launch) override { return parts_.step(this->state(), i, launch); }
  AlltoallParts<std::byte> parts_;
};

// Op refers to the items, Started holds what it needs.
template <class Items>
struct AlltoallItems {
  static_assert(sizeof(Items) == 0, "alltoall takes a std::vector with one item for each rank, or a Ragged");
};
template <class T>
struct AlltoallItems<std::vector<T>> {
  using Op = AlltoallObject<T>;
  using Started = Op;
};
template <Plain T>
  requires(!std::is_same_v<T, bool>)
struct AlltoallItems<std::vector<T>> {
  using Op = AlltoallPlain<T, const std::vector<T>&>;
  using Started = AlltoallPlain<T>;
};
template <Plain T>
  requires(!std::is_same_v<T, bool>)
struct AlltoallItems<std::vector<std::vector<T>>> {
  using Op = AlltoallRagged<std::vector<std::vector<T>>, T>;
  using Started = Op;
};
template <class T>
struct AlltoallItems<Ragged<T>> {
  using Op = AlltoallRagged<Ragged<T>, T, const Ragged<T>&>;
  using Started = AlltoallRagged<Ragged<T>, T>;
};
template <class Items>
using AlltoallOf = typename AlltoallItems<Items>::Op;
template <class Items>
using StartedAlltoallOf = typename AlltoallItems<Items>::Started;

}  // namespace manyhands::mpi::detail
