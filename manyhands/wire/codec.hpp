#pragma once
// Values <-> bytes: pack() and unpack() for everything that is Packable.
//
// Users: every part that sends a value to another process. Out of the box: numbers, bool, enums, strings,
// paths, chrono, complex, optional, variant, tuple, pair, unique_ptr, the standard containers, and structs of
// all these, with nothing to register; anything else by a Codec of its own. How each lies in the message:
// docs/wire.md.
//
// Memory while unpacking is bounded by the message: each element takes at least one byte of it, a container
// reserves at most 16 times the bytes left (or 64 KiB) ahead of its elements, and Limits::max_bytes bounds
// the sum.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "manyhands/base/bytes.hpp"
#include "manyhands/wire/kind.hpp"
#include "manyhands/wire/reader.hpp"
#include "manyhands/wire/records.hpp"
#include "manyhands/wire/writer.hpp"

#define MH_PACKABLE_OR_REMEDY(T)                                                                        \
  static_assert(!::manyhands::wire::detail::loses_members<T>,                                           \
                "this type derives from a container and has members of its own, which would be lost: "  \
                "make the container a member, or specialise manyhands::wire::Codec<T>");                \
  static_assert(::manyhands::wire::Packable<T> || ::manyhands::wire::detail::loses_members<T>,          \
                "this type cannot travel between processes: make it an aggregate of packable members, " \
                "or specialise manyhands::wire::Codec<T>")

namespace manyhands::wire {
namespace detail {

template <class T>
void pack_value(Writer& writer, const T& value);
template <class T>
T unpack_value(Reader& reader);

// ---- Contiguous arrays whose bytes travel as they are.

template <class T>
concept Contiguous = requires(T& t, const T& c) {
  { t.data() } -> std::same_as<typename T::value_type*>;
  { c.data() } -> std::same_as<const typename T::value_type*>;
};

enum class Bulk : std::uint8_t { no, binary, typed_array, records };

template <class E>
constexpr Bulk bulk_of() {
  using Leaf = typename LeafOf<E>::type;
  if constexpr (std::is_same_v<E, std::byte>) {
    return Bulk::binary;
  } else if constexpr (dtype_of<Leaf>().kind != 0 && LeafOf<E>::count > 0 && LeafOf<E>::rank < max_rank) {
    return Bulk::typed_array;
  } else if constexpr (is_plain<E>()) {
    return Bulk::records;
  } else {
    return Bulk::no;
  }
}

// The element type's bulk form, for a container C that keeps its elements side by side.
template <class C, class E>
inline constexpr Bulk bulk_in = Bulk::no;
template <class C, class E>
  requires(is_array<C> || Contiguous<C>)
inline constexpr Bulk bulk_in<C, E> = bulk_of<E>();

template <class E>
void pack_bulk(Writer& writer, const E* elements, std::size_t count) {
  const ByteView data{reinterpret_cast<const std::byte*>(elements), count * sizeof(E)};
  constexpr Bulk bulk = bulk_of<E>();
  if constexpr (bulk == Bulk::binary) {
    writer.binary(data);
  } else if constexpr (bulk == Bulk::typed_array) {
    std::size_t shape[LeafOf<E>::rank + 1] = {count};
    LeafOf<E>::shape(shape + 1);
    writer.typed_array(dtype_of<typename LeafOf<E>::type>(), shape, data);
  } else {
    writer.records(record_type<E>().description, count, data);
  }
}

// The bytes of `count` elements of E.
struct Elements {
  std::size_t count;
  ByteView data;
};

// The next value's, which is a typed array of {dtype, [n, inner...]}: WireError otherwise.
Elements typed_elements(Reader& reader, Dtype dtype, const std::size_t* inner, std::size_t inner_rank);

template <class E>
Elements read_bulk(Reader& reader) {
  constexpr Bulk bulk = bulk_of<E>();
  if constexpr (bulk == Bulk::binary) {
    const ByteView bytes = reader.binary();
    return {bytes.size(), bytes};
  } else if constexpr (bulk == Bulk::typed_array) {
    std::size_t inner[LeafOf<E>::rank + 1] = {};
    LeafOf<E>::shape(inner);
    return typed_elements(reader, dtype_of<typename LeafOf<E>::type>(), inner, LeafOf<E>::rank);
  } else {
    const RecordType& type = record_type<E>();
    const RecordsView view = reader.records(type.description, sizeof(E));
    if (!type.bool_offsets.empty()) check_bools(type, view.data);
    return {view.count, view.data};
  }
}

// Reads elements of E from bytes of any alignment.
template <class E>
struct Unaligned {
  using iterator_category = std::random_access_iterator_tag;
  using value_type = E;
  using difference_type = std::ptrdiff_t;
  using pointer = const E*;
  using reference = E;
  const std::byte* at;

  E operator*() const {
    E element;
    std::memcpy(static_cast<void*>(&element), at, sizeof(E));
    return element;
  }
  Unaligned& operator++() { return *this += 1; }
  Unaligned& operator--() { return *this += -1; }
  Unaligned operator++(int) { return {(*this += 1).at - sizeof(E)}; }
  Unaligned& operator+=(std::ptrdiff_t n) {
    at += n * static_cast<std::ptrdiff_t>(sizeof(E));
    return *this;
  }
  friend Unaligned operator+(Unaligned a, std::ptrdiff_t n) { return a += n; }
  friend std::ptrdiff_t operator-(Unaligned a, Unaligned b) {
    return (a.at - b.at) / static_cast<std::ptrdiff_t>(sizeof(E));
  }
  friend bool operator==(Unaligned a, Unaligned b) { return a.at == b.at; }
};

// One pass over the source: fresh memory is written once, by the copy.
template <class C>
void assign_bulk(C& out, Elements elements) {
  using E = typename C::value_type;
  const std::byte* const from = elements.data.data();
  if (elements.count == 0) return;
  if constexpr (requires { out.reserve(elements.count); }) {
    out.reserve(elements.count);
    advise_huge_pages(out.data(), elements.data.size());
  }
  if (reinterpret_cast<std::uintptr_t>(from) % alignof(E) == 0) {
    const E* const first = reinterpret_cast<const E*>(from);
    out.insert(out.end(), first, first + elements.count);
  } else {
    const Unaligned<E> first{from};
    out.insert(out.end(), first, first + static_cast<std::ptrdiff_t>(elements.count));
  }
}

// ---- Containers.

// Copies what is packed meanwhile if it does not lie in the value itself, but is made on the way (Stays is
// false).
template <bool Stays>
struct Borrowed {
  explicit Borrowed(Writer& writer) noexcept : scope(writer, Writer::Buffers::copied) {}
  const Writer::Scope scope;
};
template <>
struct Borrowed<true> {
  explicit Borrowed(Writer&) noexcept {}
};

template <class C>
void pack_elements(Writer& writer, const C& container) {
  const Writer::Level level(writer);
  const Borrowed<elements_stay<const C>> borrowed(writer);
  writer.array(container.size());
  for (const auto& element : container) pack_value<typename C::value_type>(writer, element);
}

// How many elements to reserve at once, of `count` that are announced.
inline std::size_t first_reserve(const Reader& reader, std::size_t count, std::size_t element_size) {
  const std::size_t bytes = reader.left() * 16 > 65536 ? reader.left() * 16 : 65536;
  const std::size_t fit = bytes / element_size + 1;
  return count < fit ? count : fit;
}

template <class C>
C unpack_sequence(Reader& reader) {
  using E = typename C::value_type;
  C out;
  if constexpr (bulk_in<C, E> != Bulk::no) {
    if (reader.peek() != Type::array) {
      const Elements elements = read_bulk<E>(reader);
      reader.charge(elements.data.size());
      if (C* const owner = reader.owner<C>(elements.data.data(), elements.count)) [[unlikely]]
        return std::move(*owner);
      assign_bulk(out, elements);
      return out;
    }
  }
  if constexpr (std::is_same_v<E, bool>) {
    if (reader.peek() != Type::array) {
      const Elements elements = typed_elements(reader, {'b', 1}, nullptr, 0);
      reader.charge(elements.count);
      if constexpr (requires { out.reserve(elements.count); }) out.reserve(elements.count);
      for (const std::byte b : elements.data) out.push_back(b != std::byte{0});
      return out;
    }
  }
  const Reader::Level level(reader, sizeof(E));
  const std::size_t count = reader.array();
  reader.charge(count * sizeof(E));
  if constexpr (requires { out.reserve(count); }) out.reserve(first_reserve(reader, count, sizeof(E)));
  for (std::size_t i = 0; i < count; ++i) out.push_back(unpack_value<E>(reader));
  return out;
}

template <class C>
C unpack_set(Reader& reader) {
  using E = typename C::value_type;
  const Reader::Level level(reader, sizeof(E));
  const std::size_t count = reader.array();
  reader.charge(count * sizeof(E));
  C out;
  for (std::size_t i = 0; i < count; ++i) {
    if constexpr (requires(E&& e) { out.insert(static_cast<E&&>(e)).second; }) {
      if (!out.insert(unpack_value<E>(reader)).second) reader.reject("a set holds the same element twice");
    } else {
      out.insert(unpack_value<E>(reader));
    }
  }
  return out;
}

template <class C>
C unpack_map(Reader& reader) {
  using K = typename C::key_type;
  using V = typename C::mapped_type;
  const Reader::Level level(reader, sizeof(K) + sizeof(V));
  const std::size_t count = reader.map();
  reader.charge(count * (sizeof(K) + sizeof(V)));
  C out;
  for (std::size_t i = 0; i < count; ++i) {
    K key = unpack_value<K>(reader);
    V value = unpack_value<V>(reader);
    if constexpr (requires { out.emplace(std::move(key), std::move(value)).second; }) {
      if (!out.emplace(std::move(key), std::move(value)).second)
        reader.reject("a map holds the same key twice");
    } else {
      out.emplace(std::move(key), std::move(value));
    }
  }
  return out;
}

// ---- std::array and C arrays.

template <class A>
void pack_array(Writer& writer, const A& array) {
  using E = typename ArrayTraits<A>::Element;
  constexpr std::size_t size = ArrayTraits<A>::size;
  if constexpr (size > 0 && bulk_of<E>() != Bulk::no) {
    pack_bulk<E>(writer, &array[0], size);
  } else {
    const Writer::Level level(writer);
    writer.array(size);
    if constexpr (size > 0) {
      for (const E& element : array) pack_value<E>(writer, element);
    }
  }
}

// Throws WireError unless they are equal.
void expect_count(Reader& reader, std::size_t found, std::size_t size);

// Fills an existing array.
template <class A>
void fill_array(Reader& reader, A& array) {
  using E = typename ArrayTraits<A>::Element;
  constexpr std::size_t size = ArrayTraits<A>::size;
  if constexpr (size > 0 && bulk_of<E>() != Bulk::no) {
    if (reader.peek() != Type::array) {
      const Elements elements = read_bulk<E>(reader);
      expect_count(reader, elements.count, size);
      std::memcpy(static_cast<void*>(&array[0]), elements.data.data(), size * sizeof(E));
      return;
    }
  }
  const Reader::Level level(reader, sizeof(E));
  reader.array_of(size);
  if constexpr (size > 0) {
    for (E& element : array) {
      if constexpr (is_array<E>) {
        fill_array(reader, element);
      } else {
        element = unpack_value<E>(reader);
      }
    }
  }
}

template <class A, std::size_t... I>
A make_array(Reader& reader, std::index_sequence<I...>) {
  using E = typename ArrayTraits<A>::Element;
  return A{{(static_cast<void>(I), unpack_value<E>(reader))...}};
}

template <class A>
A unpack_array(Reader& reader) {
  using E = typename ArrayTraits<A>::Element;
  if constexpr (std::is_default_constructible_v<E> && (std::is_move_assignable_v<E> || std::is_array_v<E>)) {
    A out{};
    fill_array(reader, out);
    return out;
  } else {
    const Reader::Level level(reader, sizeof(A));
    reader.array_of(ArrayTraits<A>::size);
    return make_array<A>(reader, std::make_index_sequence<ArrayTraits<A>::size>{});
  }
}

// ---- Structs, tuples, variants, and what may be absent.

template <class T>
void pack_aggregate(Writer& writer, const T& value) {
  constexpr std::size_t count = fields::count_of<T>.fields;
  const Writer::Level level(writer);
  writer.array(count);
  const auto all = fields::tie(value);
  [&]<std::size_t... I, class... F>(std::index_sequence<I...>, fields::List<F...>) {
    (pack_value<F>(writer, fields::get<I>(all)), ...);
  }(std::make_index_sequence<count>{}, fields::Fields<T>{});
}

template <class F>
void unpack_into(Reader& reader, F& field) {
  if constexpr (std::is_array_v<F>) {
    fill_array(reader, field);
  } else {
    field = unpack_value<F>(reader);
  }
}

template <class T>
T unpack_aggregate(Reader& reader) {
  constexpr fields::Count count = fields::count_of<T>;
  const Reader::Level level(reader, sizeof(T));
  reader.array_of(count.fields);
  if constexpr (count.has_arrays) {
    T value{};
    const auto all = fields::tie(value);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (unpack_into(reader, fields::get<I>(all)), ...);
    }(std::make_index_sequence<count.fields>{});
    return value;
  } else {
    return [&]<class... F>(fields::List<F...>) { return T{unpack_value<F>(reader)...}; }(fields::Fields<T>{});
  }
}

// What get<>() of other types refers to is their business.
template <class T>
inline constexpr bool is_std_tuple = false;
template <class... T>
inline constexpr bool is_std_tuple<std::tuple<T...>> = true;
template <class T, class U>
inline constexpr bool is_std_tuple<std::pair<T, U>> = true;

template <class T, std::size_t... I>
void pack_tuple(Writer& writer, const T& value, std::index_sequence<I...>) {
  using std::get;
  const Writer::Level level(writer);
  const Borrowed<is_std_tuple<T>> borrowed(writer);
  writer.array(sizeof...(I));
  (pack_value<std::tuple_element_t<I, T>>(writer, get<I>(value)), ...);
}

template <class T, std::size_t... I>
T unpack_tuple(Reader& reader, std::index_sequence<I...>) {
  const Reader::Level level(reader, sizeof(T));
  reader.array_of(sizeof...(I));
  return T{unpack_value<std::tuple_element_t<I, T>>(reader)...};
}

[[noreturn]] void reject_valueless();
[[noreturn]] void reject_alternative(Reader& reader, std::size_t index, std::size_t count);

template <class V, std::size_t... I>
void pack_variant(Writer& writer, const V& value, std::index_sequence<I...>) {
  if (value.valueless_by_exception()) reject_valueless();
  const Writer::Level level(writer);
  writer.array(2);
  writer.unsigned_integer(value.index());
  static_cast<void>(
      ((value.index() == I &&
        (pack_value<std::variant_alternative_t<I, V>>(writer, *std::get_if<I>(&value)), true)) ||
       ...));
}

template <class V, std::size_t I = 0>
V unpack_alternative(Reader& reader, std::size_t index) {
  if constexpr (I + 1 < std::variant_size_v<V>) {
    if (index != I) return unpack_alternative<V, I + 1>(reader, index);
  }
  return V(std::in_place_index<I>, unpack_value<std::variant_alternative_t<I, V>>(reader));
}

template <class V>
V unpack_variant(Reader& reader) {
  const Reader::Level level(reader, sizeof(V));
  reader.array_of(2);
  const std::size_t index = reader.unsigned_integer();
  if (index >= std::variant_size_v<V>) reject_alternative(reader, index, std::variant_size_v<V>);
  return unpack_alternative<V>(reader, index);
}

// A present value that may itself be written as nil is wrapped in an array of one.
template <class T>
inline constexpr bool may_be_nil = kind_of<T> == Kind::null || kind_of<T> == Kind::optional ||
                                   kind_of<T> == Kind::pointer || kind_of<T> == Kind::custom;

template <class T>
void pack_present(Writer& writer, const T& value) {
  if constexpr (may_be_nil<T>) writer.array(1);
  pack_value<T>(writer, value);
}

template <class T>
T unpack_present(Reader& reader) {
  if constexpr (may_be_nil<T>) reader.array_of(1);
  return unpack_value<T>(reader);
}

// ---- One value of any kind.

template <class T>
inline void pack_value(Writer& writer, const T& value) {
  constexpr Kind kind = kind_of<T>;
  if constexpr (kind == Kind::custom) {
    const Writer::Level level(writer);
    const Borrowed<false> borrowed(writer);  // whatever it makes may be gone when it returns
    Codec<T>::pack(writer, value);
  } else if constexpr (kind == Kind::null) {
    writer.nil();
  } else if constexpr (kind == Kind::boolean) {
    writer.boolean(value);
  } else if constexpr (kind == Kind::integer) {
    if constexpr (std::is_signed_v<T>) {
      writer.integer(value);
    } else {
      writer.unsigned_integer(value);
    }
  } else if constexpr (kind == Kind::real) {
    writer.real(value);
  } else if constexpr (kind == Kind::long_double) {
    const Borrowed<false> borrowed(writer);  // may be a part of a complex number
    writer.typed_array(dtype_of<T>(), {}, {reinterpret_cast<const std::byte*>(&value), sizeof(T)});
  } else if constexpr (kind == Kind::enumeration) {
    pack_value<std::underlying_type_t<T>>(writer, static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (kind == Kind::complex) {
    writer.array(2);
    pack_value<typename T::value_type>(writer, value.real());
    pack_value<typename T::value_type>(writer, value.imag());
  } else if constexpr (kind == Kind::string) {
    writer.string({value.data(), value.size()});
  } else if constexpr (kind == Kind::path) {
    const Borrowed<std::is_lvalue_reference_v<decltype(value.native())>> borrowed(writer);
    const auto& native = value.native();
    writer.string({native.data(), native.size()});
  } else if constexpr (kind == Kind::duration) {
    pack_value<typename T::rep>(writer, value.count());
  } else if constexpr (kind == Kind::time_point) {
    pack_value<typename T::duration::rep>(writer, value.time_since_epoch().count());
  } else if constexpr (kind == Kind::pointer || kind == Kind::optional) {
    if (value) {
      const Writer::Level level(writer);
      const Borrowed<std::is_lvalue_reference_v<decltype(*value)>> borrowed(writer);
      pack_present<PointeeOf<T>>(writer, *value);
    } else {
      writer.nil();
    }
  } else if constexpr (kind == Kind::variant) {
    pack_variant(writer, value, std::make_index_sequence<std::variant_size_v<T>>{});
  } else if constexpr (kind == Kind::array) {
    pack_array(writer, value);
  } else if constexpr (kind == Kind::tuple) {
    pack_tuple(writer, value, std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (kind == Kind::map) {
    const Writer::Level level(writer);
    const Borrowed<elements_stay<const T>> borrowed(writer);
    writer.map(value.size());
    for (const auto& [key, mapped] : value) {
      pack_value<typename T::key_type>(writer, key);
      pack_value<typename T::mapped_type>(writer, mapped);
    }
  } else if constexpr (kind == Kind::sequence) {
    using E = typename T::value_type;
    if constexpr (bulk_in<T, E> != Bulk::no) {
      pack_bulk<E>(writer, value.data(), value.size());
      writer.owned_by(value);
    } else {
      pack_elements(writer, value);
    }
  } else if constexpr (kind == Kind::set) {
    pack_elements(writer, value);
  } else {
    static_assert(kind == Kind::aggregate);
    pack_aggregate(writer, value);
  }
}

template <class T>
inline T unpack_value(Reader& reader) {
  constexpr Kind kind = kind_of<T>;
  if constexpr (kind == Kind::custom) {
    const Reader::Level level(reader, sizeof(T));
    return Codec<T>::unpack(reader);
  } else if constexpr (kind == Kind::null) {
    reader.nil();
    return T{};
  } else if constexpr (kind == Kind::boolean) {
    return reader.boolean();
  } else if constexpr (kind == Kind::integer) {
    return reader.integral<T>();
  } else if constexpr (kind == Kind::real) {
    if constexpr (sizeof(T) == sizeof(float)) {
      return reader.real32();
    } else {
      return reader.real();
    }
  } else if constexpr (kind == Kind::long_double) {
    if (reader.peek() != Type::ext) return static_cast<T>(reader.real());
    const TypedArrayView view = reader.typed_array();
    if (view.dtype != dtype_of<T>() || view.rank != 0)
      reader.reject("expected one long double, found another array");
    T value;
    std::memcpy(&value, view.data.data(), sizeof(T));
    return value;
  } else if constexpr (kind == Kind::enumeration) {
    return static_cast<T>(unpack_value<std::underlying_type_t<T>>(reader));
  } else if constexpr (kind == Kind::complex) {
    reader.array_of(2);
    const auto real = unpack_value<typename T::value_type>(reader);
    const auto imaginary = unpack_value<typename T::value_type>(reader);
    return T(real, imaginary);
  } else if constexpr (kind == Kind::string || kind == Kind::path) {
    const std::string_view text = reader.string();
    reader.charge(text.size());
    return T(text);
  } else if constexpr (kind == Kind::duration) {
    return T(unpack_value<typename T::rep>(reader));
  } else if constexpr (kind == Kind::time_point) {
    return T(typename T::duration(unpack_value<typename T::duration::rep>(reader)));
  } else if constexpr (kind == Kind::pointer) {
    using E = PointeeOf<T>;
    if (reader.peek() == Type::nil) return reader.nil(), T{};
    const Reader::Level level(reader, sizeof(E));
    reader.charge(sizeof(E));
    return T(new E(unpack_present<E>(reader)));
  } else if constexpr (kind == Kind::optional) {
    T out;
    if (reader.peek() == Type::nil) {
      reader.nil();
    } else {
      const Reader::Level level(reader, sizeof(T));
      out.emplace(unpack_present<typename T::value_type>(reader));
    }
    return out;
  } else if constexpr (kind == Kind::variant) {
    return unpack_variant<T>(reader);
  } else if constexpr (kind == Kind::array) {
    return unpack_array<T>(reader);
  } else if constexpr (kind == Kind::tuple) {
    return unpack_tuple<T>(reader, std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (kind == Kind::map) {
    return unpack_map<T>(reader);
  } else if constexpr (kind == Kind::sequence) {
    return unpack_sequence<T>(reader);
  } else if constexpr (kind == Kind::set) {
    return unpack_set<T>(reader);
  } else {
    static_assert(kind == Kind::aggregate);
    return unpack_aggregate<T>(reader);
  }
}

// Throws WireError if bytes follow the value.
void expect_end(const Reader& reader);

}  // namespace detail

// Appends `value`, as one MessagePack value. With a threshold the Writer may borrow its large buffers, unless
// this is called by a Codec; those of a temporary are copied.
template <class T>
void pack(Writer& writer, const T& value) {
  MH_PACKABLE_OR_REMEDY(T);
  const Writer::Scope scope(writer, Writer::Buffers::borrowed);
  if constexpr (Packable<T>) detail::pack_value<T>(writer, value);
}
template <class T>
  requires(!std::is_lvalue_reference_v<T>)
void pack(Writer& writer, T&& temporary) {  // NOLINT(cppcoreguidelines-rvalue-reference-param-not-moved)
  const Writer::Scope scope(writer, Writer::Buffers::copied);
  pack<std::remove_cv_t<T>>(writer, static_cast<const T&>(temporary));
}

// Takes one value. Throws WireError if the next one in the message is no T.
template <class T>
[[nodiscard]] T unpack(Reader& reader) {
  MH_PACKABLE_OR_REMEDY(T);
  if constexpr (Packable<T>) return detail::unpack_value<T>(reader);
}

// A message of one value, everything in band.
template <class T>
[[nodiscard]] std::vector<std::byte> to_bytes(const T& value) {
  Writer writer;
  pack(writer, value);
  const ByteView bytes = writer.bytes();
  return {bytes.begin(), bytes.end()};
}

// The value of such a message. Throws WireError if it is no T, or if bytes follow it.
template <class T>
[[nodiscard]] T from_bytes(ByteView message) {
  Reader reader(message);
  T value = unpack<T>(reader);
  detail::expect_end(reader);
  return value;
}

}  // namespace manyhands::wire

#undef MH_PACKABLE_OR_REMEDY
