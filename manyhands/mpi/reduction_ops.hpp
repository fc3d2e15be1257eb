#pragma once
// Reductions and scans by value, and what those into memory need. Included by collectives.hpp only.

#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/mpi/collective_steps.hpp"
#include "manyhands/mpi/given.hpp"
#include "manyhands/mpi/op.hpp"
#include "manyhands/mpi/reduction_tree.hpp"

namespace manyhands::mpi::detail {

template <class R>
struct ElementIn {
  using Type = R;
};
template <Flat R>
  requires(!Plain<R> || std::ranges::range<R>)
struct ElementIn<R> {
  using Type = std::ranges::range_value_t<R>;
};
// What an operation combines in an R: the elements of a range, the value itself otherwise.
template <class R>
using ElementOf = std::remove_cv_t<typename ElementIn<std::remove_cvref_t<R>>::Type>;

template <class S>
ConstBuffer counted(const S& data, MPI_Datatype type) {
  if constexpr (std::is_same_v<S, InPlace>) {
    return in_place_buffer();
  } else if constexpr (Flat<S>) {
    return {std::ranges::data(data), static_cast<MPI_Count>(std::ranges::size(data)), type};
  } else {
    static_assert(Plain<S>, "reductions take plain values and flat ranges");
    return {&data, 1, type};
  }
}
template <class R>
Buffer counted_writable(R& data, MPI_Datatype type) {
  const Buffer buffer = as_writable(data);
  return {buffer.data, counted(std::as_const(data), type).count, type};
}

// A reduction into memory under way, with the operation that it uses.
template <class F, Plain T>
class ReductionInto final : public Yields<void> {
 public:
  explicit ReductionInto(const F& op) : op_(op), handle_(op_handle<T>(op_)), launch_(How::nonblocking) {}
  bool advance(MPI_Request& native, MPI_Status&) override {
    if (next_ == launch_.further.size()) return true;
    native = launch_.further[next_++];
    return false;
  }
  const OpHandle& handle() const noexcept { return handle_; }
  Launch& launch() noexcept { return launch_; }

 private:
  F op_;
  OpHandle handle_;
  Launch launch_;
  std::size_t next_ = 0;
};

// reduce and reduce_scatter as calls like allreduce, which has no argument of its own.
struct ReduceTo {
  int root;
  void operator()(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op,
                  Launch& launch) const {
    reduce(state, send, recv, op, root, launch);
  }
};
// The same within one group, where the root gets as many as it gives.
struct ReduceHere {
  int root;
  void operator()(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op,
                  Launch& launch) const {
    if (state.rank == root) require_alike(state, "reduce", send, recv.count);
    reduce(state, send, recv, op, root, launch);
  }
};
template <class Counts>
struct ReduceScatterBy {
  Counts counts;
  void operator()(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op,
                  Launch& launch) const {
    reduce_scatter(state, send, recv, counts, op, launch);
  }
};

// Holds a T, or refers to it.
template <class T, class F, class Held = T>
class ReduceDirect final : public Steps<T> {
 public:
  static constexpr bool one_step = true;
  ReduceDirect(CommState& state, Kind kind, Root root, const T& value, const F& op)
      : Steps<T>(state),
        kind_(kind),
        root_(root.root),
        op_(op),
        handle_(op_handle<ElementOf<T>>(op_)),
        mine_(value) {
    if (kind == Kind::reduce) require_root(state, "reduce", root_);
    const bool gets = kind != Kind::reduce || this->is(root_);
    if constexpr (Resizable<T>) {
      if (gets) result_.resize(std::ranges::size(mine_));
    }
    static_cast<void>(gets);
  }
  T take() override { return std::move(result_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    CommState& state = this->state();
    const ConstBuffer from = counted(mine_, handle_.type());
    Buffer to = counted_writable(result_, handle_.type());
    to.count = from.count;
    switch (kind_) {
      case Kind::reduce:
        reduce(state, from, to, handle_.op(), root_, launch);
        break;
      case Kind::allreduce:
        allreduce(state, from, to, handle_.op(), launch);
        break;
      case Kind::scan:
        scan(state, from, to, handle_.op(), launch);
        break;
      case Kind::exscan:
        exscan(state, from, to, handle_.op(), launch);
        break;
    }
    return true;
  }
  Kind kind_;
  int root_;
  F op_;
  OpHandle handle_;
  Held mine_;
  T result_{};
};

// The element-wise reduction of ranges, of which each rank gets its part.
template <Plain T, class F>
class ReduceScatterParts final : public Steps<std::vector<T>> {
 public:
  static constexpr bool one_step = true;
  ReduceScatterParts(CommState& state, std::vector<T> values, std::vector<MPI_Count> counts, const F& op)
      : Steps<std::vector<T>>(state),
        op_(op),
        handle_(op_handle<T>(op_)),
        values_(std::move(values)),
        counts_(std::move(counts)) {
    require_counts(state, "reduce_scatter", counts_, static_cast<MPI_Count>(values_.size()));
    mine_.resize(static_cast<std::size_t>(counts_[static_cast<std::size_t>(state.rank)]));
  }
  std::vector<T> take() override { return std::move(mine_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    reduce_scatter(this->state(), counted(values_, handle_.type()), counted_writable(mine_, handle_.type()),
                   counts_, handle_.op(), launch);
    return true;
  }
  F op_;
  OpHandle handle_;
  std::vector<T> values_;
  std::vector<MPI_Count> counts_;
  std::vector<T> mine_;
};

// Objects, and text as a whole, of the nonblocking forms: all are gathered where the result is wanted, and
// combined there in the order of the ranks. (A tree would need a rank that waits for messages to go on by
// itself.)
template <class T, class F>
class ReduceObject final : public Steps<T> {
 public:
  ReduceObject(CommState& state, Kind kind, Root root, const T& value, const F& op)
      : Steps<T>(state), kind_(kind), root_(root.root), op_(op) {
    static_assert(Combines<T, F>, "an operation is called as f(const T&, const T&) and returns a T");
    if (kind == Kind::reduce) require_root(state, "reduce", root_);
    mine_.add(value);
    all_.counts().resize(this->ranks());
  }
  T take() override {
    const auto ranks = this->ranks();
    const auto me = static_cast<std::size_t>(this->state().rank);
    if (kind_ == Kind::reduce && !this->is(root_)) return T{};
    const std::size_t last = kind_ == Kind::scan ? me + 1 : kind_ == Kind::exscan ? me : ranks;
    if (last == 0) return T{};
    std::vector<T> values = all_.template unpack<T>(this->state());
    T result = std::move(values[0]);
    for (std::size_t i = 1; i < last; ++i) result = op_(std::as_const(result), std::as_const(values[i]));
    return result;
  }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state();
    const ConstBuffer send{mine_.bytes().data(), static_cast<MPI_Count>(mine_.bytes().size()), MPI_BYTE};
    if (i == 0) {
      allgather(state, {mine_.counts().data(), 1, MPI_COUNT}, {all_.counts().data(), 1, MPI_COUNT}, launch);
    } else if (i == 1) {
      if (kind_ != Kind::reduce || this->is(root_)) all_.make_room();
      const Buffer recv{all_.bytes().data(), 0, MPI_BYTE};
      if (kind_ == Kind::reduce) {
        gatherv(state, send, recv, {all_.counts(), {}}, root_, width_of(sum(all_.counts())), launch);
      } else {
        allgatherv(state, send, recv, {all_.counts(), {}}, launch);
      }
    }
    return i < 2;
  }
  Kind kind_;
  int root_;
  F op_;
  PackedParts mine_;
  PackedParts all_;
};

template <class T>
concept ReducedByMpi = Direct<T> && !std::is_same_v<T, std::string>;

// A range whose elements MPI cannot combine, and F can: of text, of bools in bits, of ranges, of objects. (A
// type that F combines as a whole as well counts as a range, as those of plain elements do.)
template <class T, class F>
concept ReducedByElement =
    !ReducedByMpi<T> && !std::is_same_v<T, std::string> && std::ranges::random_access_range<T> &&
    std::ranges::sized_range<T> && Combines<std::ranges::range_value_t<T>, F>;

// f for the elements of two ranges of one length.
template <class F>
struct ByElement {
  ByElement(const F& op) : f(op) {}  // NOLINT(google-explicit-constructor): stands for it
  F f;
  template <class T>
  T operator()(const T& a, const T& b) const {
    if (std::ranges::size(a) != std::ranges::size(b))
      fail(Errc::count, "reduction", {},
           "the ranges that two ranks gave have different lengths, " + std::to_string(std::ranges::size(a)) +
               " and " + std::to_string(std::ranges::size(b)));
    using Element = std::ranges::range_value_t<T>;
    T result(a);
    for (std::size_t i = 0; i < std::ranges::size(a); ++i) {
      const auto at = static_cast<std::ranges::range_difference_t<T>>(i);
      const Element& left = std::ranges::begin(a)[at];
      const Element& right = std::ranges::begin(b)[at];
      std::ranges::begin(result)[at] = static_cast<Element>(f(left, right));
    }
    return result;
  }
};

template <class T, class F>
using WholeOp = std::conditional_t<ReducedByElement<T, F>, ByElement<F>, F>;

template <class T, class F>
using ReductionOf =
    std::conditional_t<ReducedByMpi<T>, ReduceDirect<T, F, Given<T>>, ReductionTree<T, WholeOp<T, F>>>;
template <class T, class F>
using StartedReductionOf =
    std::conditional_t<ReducedByMpi<T>, ReduceDirect<T, F>, ReduceObject<T, WholeOp<T, F>>>;

}  // namespace manyhands::mpi::detail
