#pragma once
// Descriptions of element types: the Dtype of a number, and the text that names the layout of a plain struct.
//
// A description lists each field's type and offset in bytes and the size of the whole, e.g. "{f8@0,i4@8}16"
// for struct { double a; int b; }; arrays append their length ("f4[3]"), structs nest. Two programs can
// exchange records if and only if their descriptions are equal, whatever the structs are called.

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/base/bytes.hpp"
#include "manyhands/wire/kind.hpp"

namespace manyhands::wire::detail {

// The innermost element of nested arrays, and how many of it one T holds.
template <class T>
struct LeafOf {
  using type = T;
  static constexpr std::size_t rank = 0;
  static constexpr std::size_t count = 1;
  static void shape(std::size_t*) {}
};
template <class T>
  requires is_array<T>
struct LeafOf<T> {
  using Inner = LeafOf<typename ArrayTraits<T>::Element>;
  using type = typename Inner::type;
  static constexpr std::size_t rank = Inner::rank + 1;
  static constexpr std::size_t count = Inner::count * ArrayTraits<T>::size;
  static void shape(std::size_t* out) {
    *out = ArrayTraits<T>::size;
    Inner::shape(out + 1);
  }
};

// The Dtype of a number, bool, enum or complex; kind 0 for anything else.
template <class T>
constexpr Dtype dtype_of() {
  constexpr Kind kind = kind_of<T>;
  if constexpr (kind == Kind::boolean) {
    return {'b', sizeof(T)};
  } else if constexpr (kind == Kind::integer) {
    return {std::is_signed_v<T> || std::is_same_v<T, char> ? 'i' : 'u',
            sizeof(T)};  // char alike on every machine
  } else if constexpr (kind == Kind::real || kind == Kind::long_double) {
    return {'f', sizeof(T)};
  } else if constexpr (kind == Kind::complex) {
    return {'c', sizeof(T)};
  } else if constexpr (kind == Kind::enumeration) {
    return dtype_of<std::underlying_type_t<T>>();
  } else {
    return {};
  }
}

// A record type as the codec needs it at run time.
struct RecordType {
  std::string description;
  std::size_t size = 0;
  std::vector<std::size_t> bool_offsets;  // bytes that must be 0 or 1: any other value of a bool is undefined

  void begin_struct() { description += '{'; }
  void field(std::size_t offset);
  void end_struct(std::size_t size_bytes);
  void number(Dtype dtype, std::size_t offset);
  void array(std::size_t length);
  // Bools of the element just described, which lies `stride` bytes before its next sibling, for the length -
  // 1 others.
  void repeat_bools(std::size_t from, std::size_t length, std::size_t stride);
};

// Appends the description of `sample`, which lies `offset` bytes into the record.
template <class T>
void describe(RecordType& out, const T& sample, std::size_t offset) {
  if constexpr (is_array<T>) {
    const std::size_t bools = out.bool_offsets.size();
    if constexpr (ArrayTraits<T>::size == 0) {
      describe(out, typename ArrayTraits<T>::Element{}, offset);
      out.bool_offsets.resize(bools);
    } else {
      describe(out, sample[0], offset);
      out.repeat_bools(bools, ArrayTraits<T>::size, sizeof(sample[0]));
    }
    out.array(ArrayTraits<T>::size);
  } else if constexpr (kind_of<T> == Kind::aggregate) {
    const auto at = [&](const auto& field) {
      return static_cast<std::size_t>(reinterpret_cast<const char*>(&field) -
                                      reinterpret_cast<const char*>(&sample));
    };
    out.begin_struct();
    const auto all = fields::tie(sample);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((describe(out, fields::get<I>(all), offset + at(fields::get<I>(all))),
        out.field(at(fields::get<I>(all)))),
       ...);
    }(std::make_index_sequence<fields::count_of<T>.fields>{});
    out.end_struct(sizeof(T));
  } else {
    out.number(dtype_of<T>(), offset);
  }
}

// Built once for each T.
template <class T>
const RecordType& record_type() {
  static const RecordType type = [] {
    RecordType built;
    built.size = sizeof(T);
    const T sample{};
    describe(built, sample, 0);
    return built;
  }();
  return type;
}

// Throws WireError if a bool of the records in `data` is neither 0 nor 1.
void check_bools(const RecordType& type, ByteView data);
// As above, for a typed array of bools.
void check_bools(ByteView data);

// From 4 MiB on, asks the kernel for huge pages for the whole pages of [begin, begin + size): fewer page
// faults while fresh memory is written first. Advice only; never fails.
void advise_huge_pages(void* begin, std::size_t size) noexcept;

}  // namespace manyhands::wire::detail
