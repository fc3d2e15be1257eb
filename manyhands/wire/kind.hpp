#pragma once
// What kind of value a type is for the codec, and whether it can travel: the concepts Packable and Plain.
//
// Standard containers are known by their shape (their member types and functions), so that neither this
// header nor its users pay for <map>, <deque>, <chrono>, <complex>, <filesystem>, <memory>; containers of
// other libraries with the same shape work as well. A class that derives from one and adds members of its own
// has neither shape: as a container it would lose them. To teach the codec a type of one's own, specialise
// Codec.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "manyhands/wire/fields.hpp"
#include "manyhands/wire/format.hpp"

namespace manyhands::wire {

class Writer;
class Reader;

// The one customisation point. Specialise it before the type is first packed:
//   template <> struct manyhands::wire::Codec<MyType> {
//     static void pack(Writer&, const MyType&);   // writes exactly one MessagePack value
//     static MyType unpack(Reader&);              // reads it again; throws WireError
//   };
// Mostly both are one line: wire::pack(writer, std::tuple(a, b)) and wire::unpack<std::tuple<A, B>>(reader).
// What pack() writes is copied before it returns. What unpack() reads as a view (Reader::string() ...) is
// gone with the message.
template <class T>
struct Codec;

namespace detail {

enum class Kind : std::uint8_t {
  none,
  custom,  // has a Codec
  null,    // nullptr_t, monostate
  boolean,
  integer,
  real,
  long_double,
  enumeration,
  complex,
  string,
  path,
  duration,
  time_point,
  pointer,  // unique_ptr
  optional,
  variant,
  array,  // std::array, and C arrays within aggregates
  tuple,  // tuple, pair
  map,
  set,
  sequence,
  aggregate,
};

template <class T>
concept HasCodec = requires { sizeof(Codec<T>); };

template <class T>
inline constexpr bool is_string = false;
template <class Traits, class Allocator>
inline constexpr bool is_string<std::basic_string<char, Traits, Allocator>> = true;

template <class T>
inline constexpr bool is_variant = false;
template <class... T>
inline constexpr bool is_variant<std::variant<T...>> = true;

template <class T>
inline constexpr bool is_array = false;
template <class T, std::size_t N>
inline constexpr bool is_array<std::array<T, N>> = true;
template <class T, std::size_t N>
inline constexpr bool is_array<T[N]> = true;

template <class T>
struct ArrayTraits;
template <class T, std::size_t N>
struct ArrayTraits<std::array<T, N>> {
  using Element = T;
  static constexpr std::size_t size = N;
};
template <class T, std::size_t N>
struct ArrayTraits<T[N]> {
  using Element = T;
  static constexpr std::size_t size = N;
};

// unique_ptr with a deleter like default_delete (which converts from E to const E): new E may be given to it.
template <class T>
inline constexpr bool is_pointer = false;
template <template <class...> class P, template <class> class D, class E>
  requires requires(P<E, D<E>>& p) {
    typename P<E, D<E>>::deleter_type;
    p.release();
    p.get_deleter();
  } && std::is_empty_v<D<E>> && std::is_convertible_v<D<E>, D<const E>>
inline constexpr bool is_pointer<P<E, D<E>>> = !std::is_array_v<E>;

// clang-format off
template <class T>
concept PathShape = requires(const T& t) {
  typename T::string_type; T::preferred_separator; t.native(); t.filename();
} && is_string<typename T::string_type>;

template <class T>
concept DurationShape = requires(const T& t) { typename T::rep; typename T::period; { t.count() } -> std::same_as<typename T::rep>; }
  && std::is_arithmetic_v<typename T::rep>;

template <class T>
concept TimePointShape = requires(const T& t) { typename T::clock; typename T::duration; t.time_since_epoch(); }
  && DurationShape<typename T::duration>;

template <class T>
concept ComplexShape = requires(const T& t) { typename T::value_type; t.real(); t.imag(); }
  && std::is_floating_point_v<typename T::value_type> && sizeof(T) == 2 * sizeof(typename T::value_type)
  && std::is_trivially_copyable_v<T> && std::is_constructible_v<T, typename T::value_type, typename T::value_type>;

template <class T>
concept OptionalShape = requires(T& t) { typename T::value_type; { t.has_value() } -> std::same_as<bool>; t.reset(); *t; }
  && std::is_default_constructible_v<T> && requires(T& t, typename T::value_type&& v) { t.emplace(static_cast<typename T::value_type&&>(v)); };

template <class T>
concept ContainerShape = requires(T& t) {
  typename T::value_type; t.begin() == t.end(); *t.begin(); { t.size() } -> std::convertible_to<std::size_t>; t.clear();
} && std::is_default_constructible_v<T> && !std::is_same_v<T, typename T::value_type>;

template <class T>
concept MapShape = ContainerShape<T> && requires { typename T::key_type; typename T::mapped_type; };

template <class T>
concept SetShape = ContainerShape<T> && !MapShape<T> && requires { typename T::key_type; };

template <class T>
concept SequenceShape = ContainerShape<T> && !MapShape<T> && !SetShape<T>
  && requires(T& t, typename T::value_type&& v) { t.push_back(static_cast<typename T::value_type&&>(v)); };
// clang-format on

// ---- A class that derives from one of the standard's, with members of its own: they would be lost.

template <class M>
struct DeclaredIn {};
template <class R, class C>
struct DeclaredIn<R (C::*)() const> {
  using type = C;
};
template <class R, class C>
struct DeclaredIn<R (C::*)() const noexcept> {
  using type = C;
};

// The class that declares the function by which a type is known for its shape; void if that cannot be told.
template <class T>
constexpr auto shape_owner() {
  if constexpr (requires { typename DeclaredIn<decltype(&T::size)>::type; }) {
    return DeclaredIn<decltype(&T::size)>{};
  } else if constexpr (requires { typename DeclaredIn<decltype(&T::has_value)>::type; }) {
    return DeclaredIn<decltype(&T::has_value)>{};
  } else if constexpr (requires { typename DeclaredIn<decltype(&T::time_since_epoch)>::type; }) {
    return DeclaredIn<decltype(&T::time_since_epoch)>{};
  } else if constexpr (requires { typename DeclaredIn<decltype(&T::native)>::type; }) {
    return DeclaredIn<decltype(&T::native)>{};
  } else if constexpr (requires { typename DeclaredIn<decltype(&T::count)>::type; }) {
    return DeclaredIn<decltype(&T::count)>{};
  } else {
    return std::type_identity<void>{};
  }
}

template <class T>
constexpr bool in_std() {
  constexpr std::string_view text = __PRETTY_FUNCTION__;
  constexpr std::size_t at = text.find("T = ");
  return at != text.npos && text.substr(at + 4).starts_with("std::");
}

template <class T>
constexpr bool adds_members() {
  if constexpr (!std::is_class_v<T> || in_std<T>()) {
    return false;
  } else {
    using Owner = typename decltype(shape_owner<T>())::type;
    if constexpr (std::is_void_v<Owner> || std::is_same_v<Owner, T>) {
      return false;
    } else if constexpr (in_std<Owner>()) {
      return sizeof(T) > sizeof(Owner);
    } else {
      return fields::base_and_more<T>();  // elsewhere the owner may be a base of what holds the elements
    }
  }
}

// T is known for the shape of a base (a container, an optional ...), and has members beside it.
template <class T>
inline constexpr bool has_more_than_its_base = adds_members<T>();
template <class T>
inline constexpr bool loses_members = has_more_than_its_base<T> && !HasCodec<T>;

// The elements of a container or range lie in it and are not made when one looks.
template <class C>
inline constexpr bool elements_stay = [] {
  using Iterator = decltype(std::declval<C&>().begin());
  return std::is_lvalue_reference_v<decltype(*std::declval<Iterator&>())> && std::forward_iterator<Iterator>;
}();

template <class T>
constexpr Kind find_kind() {
  if constexpr (!std::is_object_v<T> || std::is_const_v<T> || std::is_volatile_v<T>) {
    return Kind::none;
  } else if constexpr (is_array<T>) {
    return Kind::array;
  } else if constexpr (std::is_array_v<T> || std::is_pointer_v<T>) {
    return Kind::none;
  } else if constexpr (HasCodec<T>) {
    return Kind::custom;
  } else if constexpr (std::is_same_v<T, bool>) {
    return Kind::boolean;
  } else if constexpr (std::is_integral_v<T>) {
    return sizeof(T) <= 8 ? Kind::integer : Kind::none;
  } else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
    return Kind::real;
  } else if constexpr (std::is_same_v<T, long double>) {
    return Kind::long_double;
  } else if constexpr (std::is_enum_v<T>) {
    return sizeof(T) <= 8 ? Kind::enumeration : Kind::none;
  } else if constexpr (std::is_null_pointer_v<T> || std::is_same_v<T, std::monostate>) {
    return Kind::null;
  } else if constexpr (!std::is_class_v<T> || std::is_abstract_v<T>) {
    return Kind::none;
  } else if constexpr (is_string<T>) {
    return Kind::string;
  } else if constexpr (is_variant<T>) {
    return Kind::variant;
  } else if constexpr (is_pointer<T>) {
    return Kind::pointer;
  } else if constexpr (has_more_than_its_base<T>) {
    return Kind::none;
  } else if constexpr (PathShape<T>) {
    return Kind::path;
  } else if constexpr (DurationShape<T>) {
    return Kind::duration;
  } else if constexpr (TimePointShape<T>) {
    return Kind::time_point;
  } else if constexpr (ComplexShape<T>) {
    return Kind::complex;
  } else if constexpr (requires { std::tuple_size<T>::value; }) {
    return Kind::tuple;
  } else if constexpr (OptionalShape<T>) {
    return Kind::optional;
  } else if constexpr (MapShape<T>) {
    return Kind::map;
  } else if constexpr (SetShape<T>) {
    return Kind::set;
  } else if constexpr (SequenceShape<T>) {
    return Kind::sequence;
  } else if constexpr (fields::reflectable<T>()) {
    return Kind::aggregate;
  } else {
    return Kind::none;
  }
}

template <class T>
inline constexpr Kind kind_of = find_kind<T>();

// ---- Packable: every part of T travels. Path holds the aggregates around T, so that a tree of nodes may
// hold nodes.

template <class... T>
struct Path {};
template <class T, class P>
inline constexpr bool is_on = false;
template <class T, class... U>
inline constexpr bool is_on<T, Path<U...>> = (std::is_same_v<T, U> || ...);
template <class T, class P>
struct Longer;
template <class T, class... U>
struct Longer<T, Path<U...>> {
  using type = Path<T, U...>;
};

template <class T, class P>
constexpr bool travels();

template <class P, class... T>
constexpr bool all_travel(fields::List<T...>) {
  return (travels<T, P>() && ...);
}
template <class P, class T, std::size_t... I>
constexpr bool elements_travel(std::index_sequence<I...>) {
  return (travels<std::tuple_element_t<I, T>, P>() && ...);
}
template <class P, class... T>
constexpr bool alternatives_travel(const std::variant<T...>*) {
  return (travels<T, P>() && ...);
}

template <class T>
concept CodecWorks = requires(Writer& writer, Reader& reader, const T& value) {
  Codec<T>::pack(writer, value);
  { Codec<T>::unpack(reader) } -> std::same_as<T>;
};

template <class T>
using PointeeOf = std::remove_reference_t<decltype(*std::declval<T&>())>;

template <class T, class P>
constexpr bool travels() {
  constexpr Kind kind = kind_of<T>;
  if constexpr (kind == Kind::none) {
    return false;
  } else if constexpr (kind == Kind::custom) {
    return CodecWorks<T>;
  } else if constexpr (kind == Kind::pointer) {
    return !std::is_polymorphic_v<PointeeOf<T>> && travels<PointeeOf<T>, P>();
  } else if constexpr (kind == Kind::optional || kind == Kind::sequence || kind == Kind::set) {
    return travels<typename T::value_type, P>();
  } else if constexpr (kind == Kind::array) {
    return travels<typename ArrayTraits<T>::Element, P>();
  } else if constexpr (kind == Kind::map) {
    return travels<typename T::key_type, P>() && travels<typename T::mapped_type, P>();
  } else if constexpr (kind == Kind::tuple) {
    return elements_travel<P, T>(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (kind == Kind::variant) {
    return alternatives_travel<P>(static_cast<const T*>(nullptr));
  } else if constexpr (kind == Kind::aggregate) {
    if constexpr (is_on<T, P>) {
      return true;
    } else if constexpr (fields::count_of<T>.has_arrays && !std::is_default_constructible_v<T>) {
      return false;  // C arrays are filled in place
    } else {
      return all_travel<typename Longer<T, P>::type>(fields::Fields<T>{});
    }
  } else {
    return true;
  }
}

// ---- Plain: the bytes are the value.

template <class T>
constexpr bool is_plain();

template <class... T>
constexpr bool all_plain(fields::List<T...>) {
  return (is_plain<T>() && ...);
}

template <class T>
constexpr bool is_plain() {
  constexpr Kind kind = kind_of<T>;
  if constexpr (kind == Kind::array) {
    return is_plain<typename ArrayTraits<T>::Element>();
  } else if constexpr (kind == Kind::aggregate) {
    if constexpr (std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>) {
      return all_plain(fields::Fields<T>{});
    } else {
      return false;
    }
  } else {
    return kind == Kind::boolean || kind == Kind::integer || kind == Kind::real ||
           kind == Kind::long_double || kind == Kind::enumeration || kind == Kind::complex;
  }
}

}  // namespace detail

// A range whose elements lie in memory as long as it does: a container, or a view of an array.
template <class R>
concept HoldsElements =
    std::ranges::contiguous_range<R> ||
    (detail::ContainerShape<std::remove_cvref_t<R>> && detail::elements_stay<std::remove_reference_t<R>>);

// T, without const and reference, can be packed and unpacked. False, not an error, for whatever means
// something in one process only (pointers, references, lambdas, std::function, mutexes, threads, streams) and
// for what contains it; and for views (string_view, span), which would dangle once unpacked.
template <class T>
concept Packable =
    !std::is_array_v<std::remove_cvref_t<T>> && detail::travels<std::remove_cvref_t<T>, detail::Path<>>();

// The bytes of a T are its value in any process: numbers, bool, enums, complex, and trivially copyable
// structs and arrays of such. Padding travels as it lies in memory.
template <class T>
concept Plain = !std::is_array_v<std::remove_cv_t<T>> && detail::is_plain<std::remove_cv_t<T>>();

}  // namespace manyhands::wire
