#pragma once
// The fields of an aggregate: how many, of which types, and references to them. Used by the codec only.
//
// Boost.PFR knows how to take a struct apart once the number of its fields is known. The counting is ours,
// because PFR's stops the compilation where we need an answer "no" (bases, references), miscounts C arrays,
// and tries 8 * sizeof(T) initialisers on types without a default constructor. Not supported, as in PFR:
// bit-fields.

#include <boost/pfr/detail/core17_generated.hpp>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace manyhands::wire::fields {

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wmissing-braces"
#pragma clang diagnostic ignored "-Wmissing-field-initializers"
#pragma clang diagnostic ignored "-Wundefined-internal"
#endif

inline constexpr std::size_t max_fields = 100;          // as many as PFR can bind
inline constexpr std::size_t max_initialisers = 65536;  // C arrays count by elements here

// Initialises anything that is not a reference to a non-const; never defined.
struct Any {
  template <class T>
  operator T() const;
};
template <std::size_t>
using AnyAt = Any;

// Initialises references to const only: nowhere else is a const T deduced.
struct AnyConstReference {
  template <class T>
    requires std::is_const_v<T>
  operator T&() const;
};

// Initialises bases of D only.
template <class D>
struct AnyBase {
  template <class B>
    requires(std::is_base_of_v<B, D> && !std::is_same_v<B, D>)
  operator B() const;
};

template <class T, std::size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { T{AnyAt<I>{}...}; };
}

// T{before initialisers, {}, after initialisers}
template <class T, std::size_t... I, std::size_t... J>
constexpr bool takes_empty_between(std::index_sequence<I...>, std::index_sequence<J...>) {
  return requires { T{AnyAt<I>{}..., {}, AnyAt<J>{}...}; };
}

// As above, with a reference to const in place of the {}.
template <class T, std::size_t... I, std::size_t... J>
constexpr bool takes_reference_between(std::index_sequence<I...>, std::index_sequence<J...>) {
  return requires { T{AnyAt<I>{}..., AnyConstReference{}, AnyAt<J>{}...}; };
}

// The largest n in [low, high) with ok(n), for ok that holds at low, fails at high, and changes once.
template <std::size_t Low, std::size_t High, class Ok>
constexpr std::size_t last_good(Ok ok) {
  if constexpr (Low + 1 == High) {
    return Low;
  } else {
    constexpr std::size_t middle = Low + (High - Low) / 2;
    if constexpr (decltype(ok(std::integral_constant<std::size_t, middle>{}))::value) {
      return last_good<middle, High>(ok);
    } else {
      return last_good<Low, middle>(ok);
    }
  }
}

template <std::size_t Low, std::size_t Step, class Ok>
constexpr std::size_t gallop(Ok ok) {
  if constexpr (Low + Step > max_initialisers) {
    return max_initialisers;
  } else if constexpr (decltype(ok(std::integral_constant<std::size_t, Low + Step>{}))::value) {
    return gallop<Low + Step, Step * 2>(ok);
  } else {
    return last_good<Low, Low + Step>(ok);
  }
}

// The least number of initialisers that T accepts: 0 unless a field has no default; max_fields + 1 if none.
template <class T, std::size_t N = 0>
constexpr std::size_t fewest() {
  if constexpr (N > max_fields || takes<T>(std::make_index_sequence<N>{})) {
    return N;
  } else {
    return fewest<T, N + 1>();
  }
}

template <class T>
constexpr std::size_t most() {
  constexpr std::size_t least = fewest<T>();
  if constexpr (least > max_fields) {
    return 0;
  } else {
    return gallop<least, 1>([](auto n) {
      return std::bool_constant<takes<T>(std::make_index_sequence<decltype(n)::value>{})>{};
    });
  }
}

// How many initialisers the field that begins at initialiser I takes: 1, or the elements of a C array.
template <class T, std::size_t I, std::size_t Total>
constexpr std::size_t width() {
  constexpr std::size_t rest = Total - I - 1;
  constexpr auto ok = [](auto n) {
    return std::bool_constant<takes_empty_between<T>(std::make_index_sequence<I>{},
                                                     std::make_index_sequence<decltype(n)::value>{})>{};
  };
  using Zero = std::integral_constant<std::size_t, 0>;
  using Rest = std::integral_constant<std::size_t, rest>;
  if constexpr (decltype(ok(Rest{}))::value || !decltype(ok(Zero{}))::value) {
    return 1;
  } else {
    return rest + 1 - last_good<0, rest>(ok);
  }
}

struct Count {
  std::size_t fields = 0;
  bool has_arrays = false;
  bool known = false;
};

template <class T, std::size_t I, std::size_t Total>
constexpr Count count_from(Count sofar) {
  if constexpr (I >= Total) {
    return sofar;
  } else {
    constexpr std::size_t here = width<T, I, Total>();
    return count_from<T, I + here, Total>({sofar.fields + 1, sofar.has_arrays || here > 1, true});
  }
}

template <class T>
constexpr Count count() {
  if constexpr (std::is_empty_v<T>) {
    return {0, false, true};
  } else {
    constexpr std::size_t total = most<T>();
    if constexpr (total == 0 || total >= max_initialisers) {
      return {};
    } else {
      constexpr Count counted = count_from<T, 0, total>({});
      return counted.fields > max_fields ? Count{} : counted;
    }
  }
}

template <class T>
inline constexpr Count count_of = count<T>();

// A boost::pfr::detail::sequence_tuple::tuple<Fields&...> of references into `value`.
template <class T>
constexpr auto tie(T& value) noexcept {
  return boost::pfr::detail::tie_as_tuple(
      value, boost::pfr::detail::size_t_<count_of<std::remove_const_t<T>>.fields>{});
}

template <std::size_t I, class Tuple>
constexpr auto& get(const Tuple& tuple) noexcept {
  return boost::pfr::detail::sequence_tuple::get<I>(tuple);
}

// List<Fields...> of an aggregate.
template <class... T>
struct List {
  static constexpr std::size_t size = sizeof...(T);
};
template <class... T>
List<T...> list_of(const boost::pfr::detail::sequence_tuple::tuple<T&...>&);
template <class T>
using Fields = decltype(list_of(tie(std::declval<T&>())));

template <class... T>
constexpr bool any_const(List<T...>) {
  return (std::is_const_v<T> || ...);
}

// An aggregate with a base and something behind it.
template <class T>
constexpr bool base_and_more() {
  if constexpr (std::is_aggregate_v<T>) {
    return requires { T{AnyBase<T>{}, {}}; };
  } else {
    return false;
  }
}

template <class T, std::size_t... I>
constexpr bool any_reference(std::index_sequence<I...>) {
  return (takes_reference_between<T>(std::make_index_sequence<I>{},
                                     std::make_index_sequence<sizeof...(I) - I - 1>{}) ||
          ...);
}

// Whether a T that cannot be assigned to is so for the sake of a member's type (a Value's), and not for a
// const or reference member: then it can be put together from its members all the same.
template <class T>
constexpr bool rebuildable() {
  if constexpr (!std::is_copy_constructible_v<T> || !count_of<T>.known || count_of<T>.has_arrays) {
    return false;
  } else {
    return !any_const(Fields<T>{}) && !any_reference<T>(std::make_index_sequence<count_of<T>.fields>{});
  }
}

// A struct that can be taken apart and put together. Not: unions; structs with a base class; with const or
// reference members (a reference would dangle).
template <class T>
constexpr bool reflectable() {
  if constexpr (!std::is_class_v<T> || !std::is_aggregate_v<T>) {
    return false;
  } else if constexpr (std::is_polymorphic_v<T> || !std::is_move_constructible_v<T> ||
                       !std::is_destructible_v<T>) {
    return false;
  } else if constexpr (requires { T{AnyBase<T>{}}; }) {
    return false;
  } else if constexpr (std::is_move_assignable_v<T>) {
    return count<T>().known;
  } else {
    return rebuildable<T>();
  }
}

#ifdef __clang__
#pragma clang diagnostic pop
#endif

}  // namespace manyhands::wire::fields
