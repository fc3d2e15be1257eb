#pragma once
// Blocking reductions and scans of objects: messages up a binomial tree, and by doubling distances.
//
// No rank holds more than two values at a time, and values are combined in the order of the ranks, so that
// the operation need not be commutative. Included by reduction_ops.hpp only.
//
// Algorithms: binomial reduction as of R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective
// Communication Operations in MPICH" (2005); scan by W. D. Hillis, G. L. Steele, "Data Parallel Algorithms"
// (1986).

#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "manyhands/mpi/bcast_ops.hpp"
#include "manyhands/mpi/collective_steps.hpp"
#include "manyhands/mpi/op.hpp"
#include "manyhands/mpi/point_to_point.hpp"

namespace manyhands::mpi::detail {

enum class Kind { reduce, allreduce, scan, exscan };

// What ranks send each other: the values of some ranks combined, or why that could not be done. A rank whose
// operation throws goes on to the end, since the others wait for it.
// (A tuple: GCC 12 does not take a struct apart that holds a type of some function's.)
template <class T>
using Partial = std::tuple<std::optional<T>, int, std::string>;
inline constexpr std::size_t its_value = 0;    // places in it
inline constexpr std::size_t its_failure = 1;  // the rank whose operation threw, plus 1; 0: none did
inline constexpr std::size_t its_text = 2;     // what that said

template <class T, class F>
class ReductionTree {
 public:
  // Requires: the same kind and root on all ranks.
  ReductionTree(CommState& state, Kind kind, Root root, const T& value, const F& op)
      : state_(state),
        kind_(kind),
        root_(root.root),
        op_(op),
        inner_(internal_of(state)),
        mine_(value, 0, std::string()) {
    static_assert(Combines<T, F>, "an operation is called as f(const T&, const T&) and returns a T");
    if (kind == Kind::reduce) require_root(state, "reduce", root_);
  }

  T run() {
    switch (kind_) {
      case Kind::reduce:
        up();
        to_root();
        if (state_.rank != root_) std::get<its_value>(mine_).emplace();
        break;
      case Kind::allreduce:
        up();
        mine_ = BcastObject<Partial<T>>(state_, Root{0}, std::move(mine_)).run();
        break;
      case Kind::scan:
        double_up();
        break;
      case Kind::exscan:
        double_up();
        shift();
        break;
    }
    if (thrown_) std::rethrow_exception(thrown_);
    if (std::get<its_failure>(mine_) != 0)
      fail(Errc::op, name(), {.comm = state_.comm},
           "the operation threw on rank " + std::to_string(std::get<its_failure>(mine_) - 1) + ": " +
               std::get<its_text>(mine_));
    return std::move(*std::get<its_value>(mine_));
  }

 private:
  struct Inner final : PointToPoint {
    explicit Inner(MPI_Comm comm) : PointToPoint(comm, Ownership::viewed) {}
  };
  static constexpr int tag = 1;  // of the internal communicator

  // Rank 0 gets all values combined: in round k the ranks with bit k send what they have of 2^k ranks.
  void up() {
    for (int bit = 1; bit < state_.size; bit <<= 1) {
      if ((state_.rank & bit) != 0) {
        inner_.send(mine_, {.dest = state_.rank - bit, .tag = tag});
        return;
      }
      if (state_.rank + bit < state_.size) append(receive(state_.rank + bit));
    }
  }
  void to_root() {
    if (root_ == 0) return;
    if (state_.rank == 0) inner_.send(mine_, {.dest = root_, .tag = tag});
    if (state_.rank == root_) mine_ = receive(0);
  }
  // Rank i gets the values of ranks 0 ... i: after round k those of its last 2^(k+1).
  void double_up() {
    for (int distance = 1; distance < state_.size; distance <<= 1) {
      Partial<T> before = pass_on(distance);
      if (state_.rank >= distance) prepend(std::move(before));
    }
  }
  void shift() {
    mine_ = pass_on(1);
    if (state_.rank == 0) std::get<its_value>(mine_).emplace();
  }
  // To the rank at this distance, and from that before; empty if there is none.
  Partial<T> pass_on(int distance) {
    const int to = state_.rank + distance;
    const int from = state_.rank - distance;
    return inner_.template sendrecv<Partial<T>>(mine_,
                                                {.dest = to < state_.size ? to : proc_null, .tag = tag},
                                                {.source = from >= 0 ? from : proc_null, .tag = tag});
  }

  Partial<T> receive(int source) { return inner_.template recv<Partial<T>>({.source = source, .tag = tag}); }
  void append(Partial<T> after) { combine(mine_, after, std::move(after)); }
  void prepend(Partial<T> before) { combine(before, mine_, std::move(before)); }
  // mine_ = left op right; `other` is the one of both that came.
  void combine(const Partial<T>& left, const Partial<T>& right, Partial<T>&& other) {
    if (std::get<its_failure>(mine_) != 0) return;
    if (std::get<its_failure>(other) != 0) {
      mine_ = std::move(other);
      return;
    }
    try {
      std::get<its_value>(mine_) = op_(*std::get<its_value>(left), *std::get<its_value>(right));
    } catch (const std::exception& error) {
      failed(error.what());
    } catch (...) {
      failed("an exception that is no std::exception");
    }
  }
  void failed(const char* what) {
    thrown_ = std::current_exception();
    mine_ = Partial<T>(std::nullopt, state_.rank + 1, what);
  }
  const char* name() const noexcept {
    static constexpr const char* names[] = {"reduce", "allreduce", "scan", "exscan"};
    return names[static_cast<int>(kind_)];
  }

  CommState& state_;
  Kind kind_;
  int root_;
  F op_;
  Inner inner_;
  Partial<T> mine_;
  std::exception_ptr thrown_;
};

}  // namespace manyhands::mpi::detail
