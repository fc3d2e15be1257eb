#pragma once
// Op: how values are combined in reductions: the standard function objects, mpi::min and max, and any
// callable.
//
//   comm.allreduce(x, std::plus<>());                                     // MPI_SUM
//   comm.allreduce(part, [](const Part& a, const Part& b) { return a.score > b.score ? a : b; });
//   comm.allreduce(mpi::located(x, comm.rank()), mpi::maxloc);            // {value, rank} of the largest
//
// A callable T(const T&, const T&) must be associative; it is called with the operands in the order of the
// ranks. One that is commutative as well may be wrapped in mpi::commutative(f), which leaves the MPI more
// freedom. If it throws on plain values, the job ends: MPI has no way to carry an exception. (On objects MPI
// does not call it: see collectives.hpp.)

#include <concepts>
#include <functional>
#include <memory>
#include <ranges>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "manyhands/mpi/datatype.hpp"

namespace manyhands::mpi {

struct Min {
  template <class T>
  constexpr T operator()(const T& a, const T& b) const {
    return b < a ? b : a;
  }
};
struct Max {
  template <class T>
  constexpr T operator()(const T& a, const T& b) const {
    return a < b ? b : a;
  }
};
struct LogicalXor {
  template <class T>
  constexpr T operator()(const T& a, const T& b) const {
    return static_cast<T>(static_cast<bool>(a) != static_cast<bool>(b));
  }
};
inline constexpr Min min{};
inline constexpr Max max{};
inline constexpr LogicalXor logical_xor{};

// A value and where it is: for minloc and maxloc.
template <class T>
struct Located {
  T value;
  int rank;
  friend bool operator==(const Located&, const Located&) = default;
};
template <class T>
Located<T> located(T value, int rank) {
  return {value, rank};
}
// The smaller or larger value; of equal ones that of the lowest rank.
struct MinLoc {
  template <class T>
  constexpr Located<T> operator()(const Located<T>& a, const Located<T>& b) const {
    if (a.value < b.value || (!(b.value < a.value) && a.rank <= b.rank)) return a;
    return b;
  }
};
struct MaxLoc {
  template <class T>
  constexpr Located<T> operator()(const Located<T>& a, const Located<T>& b) const {
    if (b.value < a.value || (!(a.value < b.value) && a.rank <= b.rank)) return a;
    return b;
  }
};
inline constexpr MinLoc minloc{};
inline constexpr MaxLoc maxloc{};

// f, which gives the same whatever the order of its operands.
template <class F>
struct Commutative {
  F f;
  template <class T>
  T operator()(const T& a, const T& b) const {
    return f(a, b);
  }
};
template <class F>
Commutative<F> commutative(F f) {
  return {std::move(f)};
}

// An operation of MPI's own kind: MPI_SUM, what MPI_Op_create made, one of Fortran's. A function object as
// any other here: allreduce(x, mpi::NativeOp::view(op)). One made for an MPI datatype of its own is given
// plain structs as so many bytes each. Copies refer to the same operation, which goes with the last one.
class NativeOp {
 public:
  // Raw handles in: takes ownership, or refers to one that another frees. Throws Error (op) for MPI_OP_NULL.
  static NativeOp adopt(MPI_Op raw) { return NativeOp(raw, true); }
  static NativeOp view(MPI_Op raw) { return NativeOp(raw, false); }
  static NativeOp from_fortran(MPI_Fint handle) { return view(MPI_Op_f2c(handle)); }
  // Of a function of MPI's kind; inout[i] = in[i] op inout[i].
  static NativeOp create(MPI_User_function* function, bool commutative);

  MPI_Op native() const noexcept { return op_ == nullptr ? MPI_OP_NULL : *op_; }
  MPI_Fint to_fortran() const { return MPI_Op_c2f(native()); }
  // Gives the raw handle away; who takes it frees it. This object is empty then. Throws Error (op) if it is
  // in use by others still.
  MPI_Op release();
  bool is_commutative() const;
  // a op b, by MPI.
  template <class T>
  T operator()(const T& a, const T& b) const;

 private:
  NativeOp(MPI_Op raw, bool owned);
  void reduce_local(const void* in, void* inout, MPI_Datatype type) const;
  std::shared_ptr<MPI_Op> op_;  // shared with the requests that use it
};

// Whether f gives the same whatever the order of its operands, as far as MPI knows: T's own operations of
// MPI, min, max, and what commutative() marks.
template <class T, class F>
bool is_commutative(const F& f);

// inout[i] = op(in[i], inout[i]): one step of a reduction, here. Of plain values and flat ranges of one
// length; any callable, and a NativeOp by MPI. Throws Error (count) if the lengths differ.
template <class S, class R, class F>
void reduce_local(const S& in, R&& inout, const F& op);

namespace detail {

template <class F>
inline constexpr bool commutes = false;
template <class F>
inline constexpr bool commutes<Commutative<F>> = true;
template <>
inline constexpr bool commutes<Min> = true;
template <>
inline constexpr bool commutes<Max> = true;
template <>
inline constexpr bool commutes<MinLoc> = true;
template <>
inline constexpr bool commutes<MaxLoc> = true;

template <class F, template <class> class Op, class T>
inline constexpr bool is_either = std::is_same_v<F, Op<void>> || std::is_same_v<F, Op<T>>;

// MPI's own operation for F over T; MPI_OP_NULL if it has none.
template <class F, class T>
MPI_Op builtin_op() {
  constexpr bool number =
      Native<T> && !std::is_enum_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, wchar_t>;
  constexpr bool ordered = number && !is_complex<T>;
  constexpr bool whole = number && std::is_integral_v<T>;
  constexpr bool logical = whole || std::is_same_v<T, bool>;
  constexpr bool bits = whole || std::is_same_v<T, std::byte>;
  if constexpr (number && is_either<F, std::plus, T>) {
    return MPI_SUM;
  } else if constexpr (number && is_either<F, std::multiplies, T>) {
    return MPI_PROD;
  } else if constexpr (ordered && std::is_same_v<F, Min>) {
    return MPI_MIN;
  } else if constexpr (ordered && std::is_same_v<F, Max>) {
    return MPI_MAX;
  } else if constexpr (logical && is_either<F, std::logical_and, T>) {
    return MPI_LAND;
  } else if constexpr (logical && is_either<F, std::logical_or, T>) {
    return MPI_LOR;
  } else if constexpr (logical && std::is_same_v<F, LogicalXor>) {
    return MPI_LXOR;
  } else if constexpr (bits && is_either<F, std::bit_and, T>) {
    return MPI_BAND;
  } else if constexpr (bits && is_either<F, std::bit_or, T>) {
    return MPI_BOR;
  } else if constexpr (bits && is_either<F, std::bit_xor, T>) {
    return MPI_BXOR;
  } else {
    return MPI_OP_NULL;
  }
}

// The datatype that reductions of T use. char is text for MPI, and cannot be added.
template <Plain T>
MPI_Datatype reduction_type() {
  if constexpr (std::is_same_v<T, char>) {
    return std::is_signed_v<char> ? MPI_INT8_T : MPI_UINT8_T;
  } else if constexpr (Native<T>) {
    return native_type<T>();
  } else {
    return bytes_type<T>();
  }
}

[[noreturn]] void end_job_for_operation() noexcept;

// inout[i] = f(in[i], inout[i])
template <class F, class T>
void combine(const F& f, const void* in, void* inout, int count) noexcept {
  try {
    const T* const left = static_cast<const T*>(in);
    T* const right = static_cast<T*>(inout);
    for (int i = 0; i < count; ++i) right[i] = static_cast<T>(f(left[i], right[i]));
  } catch (...) {
    end_job_for_operation();
  }
}

template <class F, class T>
void stateless_operation(void* in, void* inout, int* count, MPI_Datatype*) {
  combine<F, T>(F(), in, inout, *count);
}

int state_key_of_types();

template <class F, class T>
void stateful_operation(void* in, void* inout, int* count, MPI_Datatype* type) {
  void* f = nullptr;
  int found = 0;
  MPI_Type_get_attr(*type, state_key_of_types(), static_cast<void*>(&f), &found);
  combine<F, T>(*static_cast<const F*>(f), in, inout, *count);
}

MPI_Op make_kept_op(MPI_User_function* function, bool commutative);  // freed when MPI ends

// An operation and the datatype to use it with. Refers to `f` if it has state: the type carries its address,
// since MPI tells an operation nothing else.
class OpHandle {
 public:
  OpHandle(MPI_Op op, MPI_Datatype type) noexcept : op_(op), type_(type) {}
  OpHandle(MPI_User_function* function, bool commutative, MPI_Datatype type, const void* f);
  OpHandle(OpHandle&& other) noexcept
      : op_(other.op_), type_(other.type_), owned_(std::exchange(other.owned_, false)) {}
  OpHandle& operator=(OpHandle&&) = delete;
  ~OpHandle();
  MPI_Op op() const noexcept { return op_; }
  MPI_Datatype type() const noexcept { return type_; }

 private:
  MPI_Op op_;
  MPI_Datatype type_;
  bool owned_ = false;
};

template <class T, class F>
concept Combines = requires(const F& f, const T& a, const T& b) {
  { f(a, b) } -> std::convertible_to<T>;
};

template <Plain T, class F>
OpHandle op_handle(const F& f) {
  static_assert(Combines<T, F>, "an operation is called as f(const T&, const T&) and returns a T");
  if constexpr (std::is_same_v<F, NativeOp>) return OpHandle(f.native(), reduction_type<T>());
  if (const MPI_Op builtin = builtin_op<F, T>(); builtin != MPI_OP_NULL)
    return OpHandle(builtin, reduction_type<T>());
  if constexpr (std::is_empty_v<F> && std::is_default_constructible_v<F>) {
    static const MPI_Op op = make_kept_op(&stateless_operation<F, T>, commutes<F>);
    return OpHandle(op, reduction_type<T>());
  } else {
    return OpHandle(&stateful_operation<F, T>, commutes<F>, reduction_type<T>(), &f);
  }
}

}  // namespace detail

template <class T>
T NativeOp::operator()(const T& a, const T& b) const {
  static_assert(Plain<T>, "MPI's own operations combine plain values");
  T result = b;
  reduce_local(&a, &result, detail::reduction_type<T>());
  return result;
}

template <class S, class R, class F>
void reduce_local(const S& in, R&& inout, const F& op) {
  if constexpr (Flat<S>) {
    const std::span left(std::ranges::data(in), std::ranges::size(in));
    const std::span right(std::ranges::data(inout), std::ranges::size(inout));
    if (left.size() != right.size())
      detail::fail(
          Errc::count, "reduce_local", {},
          std::to_string(left.size()) + " elements are to be combined with " + std::to_string(right.size()));
    for (std::size_t i = 0; i < right.size(); ++i)
      right[i] = static_cast<std::ranges::range_value_t<S>>(op(left[i], right[i]));
  } else {
    static_assert(Plain<S>, "reduce_local takes plain values and flat ranges");
    inout = static_cast<S>(op(in, inout));
  }
}

template <class T, class F>
bool is_commutative(const F& f) {
  if constexpr (std::is_same_v<F, NativeOp>) {
    return f.is_commutative();
  } else {
    return detail::commutes<F> || detail::builtin_op<F, T>() != MPI_OP_NULL;
  }
}

}  // namespace manyhands::mpi
