#pragma once
// C++ types as MPI sees them: which are plain, which MPI datatype an element has, and datatypes made by hand.
//
// Numbers, bools, enums and complex numbers are the MPI types of the same name. Structs, arrays and pairs of
// them are plain, too, with nothing to register: they travel as their bytes (all ranks of a job run on alike
// machines), and datatype_of<T>() describes them field by field where another program has to understand them
// (files, C code).

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "manyhands/mpi/error.hpp"
#include "manyhands/mpi/lifetime.hpp"
#include "manyhands/mpi/native.hpp"
#include "manyhands/wire/codec.hpp"

namespace manyhands::mpi {
namespace detail {

template <class T>
inline constexpr bool is_plain = wire::Plain<T>;
template <class A, class B>
inline constexpr bool is_plain<std::pair<A, B>> = is_plain<A> && is_plain<B>;
template <class T, std::size_t N>
inline constexpr bool is_plain<std::array<T, N>> = is_plain<T>;

template <class T>
inline constexpr bool is_complex = false;
template <class T>
inline constexpr bool is_complex<std::complex<T>> = std::is_floating_point_v<T>;

}  // namespace detail

// The bytes of a T are its value: it travels without being packed.
template <class T>
concept Plain = detail::is_plain<std::remove_cv_t<T>>;

// Has an MPI datatype of its own, which MPI's own operations (sum, max ...) know.
template <class T>
concept Native = std::is_arithmetic_v<std::remove_cv_t<T>> || std::is_enum_v<std::remove_cv_t<T>> ||
                 detail::is_complex<std::remove_cv_t<T>>;

// Elements side by side that travel from and to where they lie: vector, array, string, span, mh::Array of
// plain types. Not a class that derives from one of these and adds members, which would be lost.
template <class R>
concept Flat =
    std::ranges::contiguous_range<R> && std::ranges::sized_range<R> && Plain<std::ranges::range_value_t<R>> &&
    !wire::detail::has_more_than_its_base<std::remove_cvref_t<R>>;

// A Flat that takes the size of what comes.
template <class R>
concept Resizable = Flat<R> && requires(R& r) { r.resize(std::size_t{1}); };

// Is packed to travel.
template <class T>
concept Packed = wire::Packable<T> && !Plain<T> && !Flat<T>;

// The MPI datatype of a Native type.
template <class T>
  requires Native<T>
MPI_Datatype native_type() noexcept {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, std::byte>) {
    return MPI_BYTE;
  } else if constexpr (std::is_enum_v<U>) {
    return native_type<std::underlying_type_t<U>>();
  } else if constexpr (std::is_same_v<U, bool>) {
    return MPI_C_BOOL;
  } else if constexpr (std::is_same_v<U, char>) {
    return MPI_CHAR;
  } else if constexpr (std::is_same_v<U, wchar_t>) {
    return MPI_WCHAR;
  } else if constexpr (std::is_same_v<U, float>) {
    return MPI_FLOAT;
  } else if constexpr (std::is_same_v<U, double>) {
    return MPI_DOUBLE;
  } else if constexpr (std::is_same_v<U, long double>) {
    return MPI_LONG_DOUBLE;
  } else if constexpr (std::is_same_v<U, std::complex<float>>) {
    return MPI_C_FLOAT_COMPLEX;
  } else if constexpr (std::is_same_v<U, std::complex<double>>) {
    return MPI_C_DOUBLE_COMPLEX;
  } else if constexpr (std::is_same_v<U, std::complex<long double>>) {
    return MPI_C_LONG_DOUBLE_COMPLEX;
  } else if constexpr (std::is_signed_v<U>) {
    return sizeof(U) == 1   ? MPI_INT8_T
           : sizeof(U) == 2 ? MPI_INT16_T
           : sizeof(U) == 4 ? MPI_INT32_T
                            : MPI_INT64_T;
  } else {
    return sizeof(U) == 1   ? MPI_UINT8_T
           : sizeof(U) == 2 ? MPI_UINT16_T
           : sizeof(U) == 4 ? MPI_UINT32_T
                            : MPI_UINT64_T;
  }
}

// Which index of an array runs fastest: the last (C, row-major), or the first (Fortran).
enum class Order : int { c = MPI_ORDER_C, fortran = MPI_ORDER_FORTRAN };

// How one dimension of an array is dealt out to the processes along it (Datatype::darray).
struct Distribution {
  enum class Kind : int {
    none = MPI_DISTRIBUTE_NONE,
    block = MPI_DISTRIBUTE_BLOCK,
    cyclic = MPI_DISTRIBUTE_CYCLIC
  };
  static constexpr int automatic = MPI_DISTRIBUTE_DFLT_DARG;

  // All of it to each.
  static constexpr Distribution none() { return {Kind::none, automatic}; }
  // One block to each, of `length` elements; by default equal ones, of which the last may be shorter.
  static constexpr Distribution block(int length = automatic) { return {Kind::block, length}; }
  // Blocks of `length` elements in turn.
  static constexpr Distribution cyclic(int length = 1) { return {Kind::cyclic, length}; }

  Kind kind = Kind::none;
  int length = automatic;
};

// How an MPI datatype was made. The names are those of MPI's constructors.
enum class Combiner : std::uint8_t {
  predefined,
  dup,
  contiguous,
  vector,
  hvector,
  indexed,
  hindexed,
  indexed_block,
  hindexed_block,
  structure,
  subarray,
  darray,
  resized,
  f90_real,
  f90_complex,
  f90_integer,
  other,
};
std::string_view name_of(Combiner combiner) noexcept;

struct DatatypeContents;

// An MPI datatype made by hand: strided, scattered and multi-dimensional data, sent from and received to
// where it lies. Value-like handle with one owner; committed. Freeing it while messages of it are under way
// is allowed. Any thread.
//
//   auto column = mpi::Datatype::vector<double>(rows, 1, columns);   // one column of a row-major matrix
//   comm.send(mpi::buffer(&matrix[0][2], 1, column), {.dest = 1});
class Datatype {
 public:
  Datatype() = default;  // none
  // Takes ownership of a raw datatype, which must be committed.
  static Datatype adopt(MPI_Datatype raw) noexcept { return Datatype(raw, true); }
  // Refers to one that another owns.
  static Datatype view(MPI_Datatype raw) noexcept { return Datatype(raw, false); }
  static Datatype from_fortran(MPI_Fint handle) { return view(MPI_Type_f2c(handle)); }
  // `count` elements of `of`, side by side; `count` may be above 2^31.
  static Datatype contiguous_of(MPI_Count count, MPI_Datatype of);

  // The makers. Lengths, strides and starts count elements of T; the h-variants' strides count bytes. A T is
  // its sizeof(T) bytes, padding included: what is sent so is received as values of T, and the other way.
  template <class T>
  static Datatype contiguous(MPI_Count count);
  // `count` blocks of `length` elements, their starts `stride` apart.
  template <class T>
  static Datatype vector(int count, int length, int stride);
  template <class T>
  static Datatype hvector(int count, int length, MPI_Aint stride_bytes);
  // Blocks of lengths[i] elements at starts[i]. Requires: as many lengths as starts.
  template <class T>
  static Datatype indexed(std::span<const int> lengths, std::span<const int> starts);
  // Blocks of `length` elements at starts[i].
  template <class T>
  static Datatype indexed_block(int length, std::span<const int> starts);
  // The box [starts, starts + shape) of an array of `full_shape`.
  template <class T>
  static Datatype subarray(std::span<const int> full_shape, std::span<const int> shape,
                           std::span<const int> starts, Order order = Order::c);
  // What rank `rank` of a grid of processes (row-major, whatever `order` says) holds of an array of
  // `full_shape`, which is dealt out dimension by dimension. Throws Error (dims, arg) for what cannot be:
  // different numbers of dimensions, a rank outside of the grid, blocks that do not reach the end, a
  // dimension that is not distributed over more than one process.
  template <class T>
  static Datatype darray(std::span<const int> full_shape, std::span<const Distribution> distributions,
                         std::span<const int> grid, int rank, Order order = Order::c);
  // Blocks of different types at byte offsets, as in a struct. Requires: equal numbers of each.
  static Datatype structure(std::span<const int> lengths, std::span<const MPI_Aint> offsets,
                            std::span<const MPI_Datatype> types);
  // The same data with another lower bound and extent in bytes: where the next element begins.
  Datatype resized(MPI_Aint lower_bound, MPI_Aint extent) const;
  Datatype dup() const;

  Datatype(Datatype&& other) noexcept
      : type_(std::exchange(other.type_, MPI_DATATYPE_NULL)), owned_(other.owned_) {}
  Datatype& operator=(Datatype&& other) noexcept;
  Datatype(const Datatype&) = delete;
  Datatype& operator=(const Datatype&) = delete;
  ~Datatype();

  MPI_Datatype native() const noexcept { return type_; }
  // Gives the raw handle away; who takes it frees it. This object is none then.
  MPI_Datatype release() noexcept { return std::exchange(type_, MPI_DATATYPE_NULL); }
  MPI_Fint to_fortran() const { return MPI_Type_c2f(type_); }
  MPI_Count size() const;    // bytes of data
  MPI_Count extent() const;  // bytes from one element to the next
  MPI_Count lower_bound() const;
  // From the first to the last byte of data, whatever bounds resized() set.
  MPI_Count true_extent() const;
  MPI_Count true_lower_bound() const;
  std::string name() const;
  void set_name(const std::string& name);

  // ---- For tools that take datatypes apart.

  // One of MPI's own: a named one, or one of Fortran's parametrised ones.
  bool is_predefined() const;
  Combiner combiner() const;
  // The arguments that it was made with, in MPI's order (MPI 3.1, 4.1.13); nothing for a predefined one.
  DatatypeContents contents() const;
  // In words, to the predefined types that it is made of: "vector(3, 1, 4) of MPI_DOUBLE".
  std::string describe() const;

 private:
  Datatype(MPI_Datatype type, bool owned) noexcept : type_(type), owned_(owned) {}
  static Datatype make_hvector(int count, int length, MPI_Aint stride_bytes, MPI_Datatype of);
  static Datatype make_vector(int count, int length, int stride, MPI_Datatype of);
  static Datatype make_indexed(std::span<const int> lengths, std::span<const int> starts, MPI_Datatype of);
  static Datatype make_indexed_block(int length, std::span<const int> starts, MPI_Datatype of);
  static Datatype make_subarray(std::span<const int> full_shape, std::span<const int> shape,
                                std::span<const int> starts, Order order, MPI_Datatype of);
  static Datatype make_darray(std::span<const int> full_shape, std::span<const Distribution> distributions,
                              std::span<const int> grid, int rank, Order order, MPI_Datatype of);

  MPI_Datatype type_ = MPI_DATATYPE_NULL;
  bool owned_ = false;
};

// What a datatype was made with. A value but for the types, which are its own (or predefined).
struct DatatypeContents {
  Combiner combiner = Combiner::predefined;
  std::vector<int> integers;
  std::vector<MPI_Aint> addresses;
  std::vector<Datatype> types;
};

namespace detail {

// A committed type of sizeof(T) bytes, made once for each T and freed when MPI ends.
MPI_Datatype make_bytes_type(std::size_t size);
MPI_Datatype make_struct_type(std::span<const int> lengths, std::span<const MPI_Aint> offsets,
                              std::span<const MPI_Datatype> types, std::size_t extent, const char* name);
void free_at_finalize(MPI_Datatype type);

// One MPI element per T, of opaque bytes.
template <Plain T>
MPI_Datatype bytes_type() {
  static const MPI_Datatype type = make_bytes_type(sizeof(T));
  return type;
}

template <class T>
struct FieldCount {
  using Leaf = T;
  static constexpr int value = 1;
};
template <class T, std::size_t N>
struct FieldCount<std::array<T, N>> {
  using Leaf = typename FieldCount<T>::Leaf;
  static constexpr int value = static_cast<int>(N) * FieldCount<T>::value;
};
template <class T, std::size_t N>
struct FieldCount<T[N]> {
  using Leaf = typename FieldCount<T>::Leaf;
  static constexpr int value = static_cast<int>(N) * FieldCount<T>::value;
};

template <Plain T>
MPI_Datatype reflected_type();

template <class T>
MPI_Datatype leaf_type() {
  if constexpr (Native<T>) {
    return native_type<T>();
  } else {
    return reflected_type<T>();
  }
}

template <class T>
MPI_Datatype reflect() {
  const T sample{};
  const auto offset = [&](const auto& field) {
    return static_cast<MPI_Aint>(reinterpret_cast<const char*>(&field) -
                                 reinterpret_cast<const char*>(&sample));
  };
  const auto make = [&]<class... F>(const F&... field) {
    const std::array<int, sizeof...(F)> lengths{FieldCount<F>::value...};
    const std::array<MPI_Aint, sizeof...(F)> offsets{offset(field)...};
    const std::array<MPI_Datatype, sizeof...(F)> types{leaf_type<typename FieldCount<F>::Leaf>()...};
    return make_struct_type(lengths, offsets, types, sizeof(T), typeid(T).name());
  };
  if constexpr (FieldCount<T>::value != 1 || std::is_array_v<T> ||
                !std::is_same_v<typename FieldCount<T>::Leaf, T>) {
    return make(sample);
  } else if constexpr (requires {
                         sample.first;
                         sample.second;
                       }) {
    return make(sample.first, sample.second);
  } else {
    const auto all = wire::fields::tie(sample);
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return make(wire::fields::get<I>(all)...);
    }(std::make_index_sequence<wire::fields::count_of<T>.fields>{});
  }
}

template <Plain T>
MPI_Datatype reflected_type() {
  static const MPI_Datatype type = reflect<T>();
  return type;
}

// The type that stands for a T where elements lie side by side: its fields if they fill it; where they leave
// padding, bytes, as messages of it have them.
template <Plain T>
MPI_Datatype filled_type() {
  static const MPI_Datatype type = [] {
    const MPI_Datatype fields = reflected_type<T>();
    int size = 0;
    check(MPI_Type_size(fields, &size), "datatype");
    return size == static_cast<int>(sizeof(T)) ? fields : bytes_type<T>();
  }();
  return type;
}

// How elements of T are counted in messages: as MPI elements of `type`, `per_element` of them.
template <Plain T>
struct Unit {
  using Leaf = typename FieldCount<std::remove_cv_t<T>>::Leaf;
  static constexpr MPI_Count per_element = Native<Leaf> ? FieldCount<std::remove_cv_t<T>>::value : sizeof(T);
  static MPI_Datatype type() noexcept {
    if constexpr (Native<Leaf>) {
      return native_type<Leaf>();
    } else {
      return MPI_BYTE;
    }
  }
};

}  // namespace detail

// The MPI datatype that describes a plain T field by field, found by reflection; one per T, freed when MPI
// ends. Its extent is sizeof(T), its size that of the fields: padding does not travel, so the other side of a
// message names it as well, or C's type of the same fields. Requires: active.
template <Plain T>
MPI_Datatype datatype_of() {
  detail::require_active("datatype_of");
  using U = std::remove_cv_t<T>;
  if constexpr (Native<U>) {
    return native_type<U>();
  } else {
    return detail::reflected_type<U>();
  }
}

namespace detail {

template <class T>
MPI_Datatype element_type() {
  static_assert(Plain<T>, "the elements of a datatype are plain: numbers, and structs and arrays of them");
  require_active("Datatype");
  using U = std::remove_cv_t<T>;
  if constexpr (Native<U>) {
    return native_type<U>();
  } else {
    return filled_type<U>();
  }
}

}  // namespace detail

template <class T>
Datatype Datatype::contiguous(MPI_Count count) {
  return contiguous_of(count, detail::element_type<T>());
}
template <class T>
Datatype Datatype::vector(int count, int length, int stride) {
  return make_vector(count, length, stride, detail::element_type<T>());
}
template <class T>
Datatype Datatype::hvector(int count, int length, MPI_Aint stride_bytes) {
  return make_hvector(count, length, stride_bytes, detail::element_type<T>());
}
template <class T>
Datatype Datatype::indexed(std::span<const int> lengths, std::span<const int> starts) {
  return make_indexed(lengths, starts, detail::element_type<T>());
}
template <class T>
Datatype Datatype::indexed_block(int length, std::span<const int> starts) {
  return make_indexed_block(length, starts, detail::element_type<T>());
}
template <class T>
Datatype Datatype::subarray(std::span<const int> full_shape, std::span<const int> shape,
                            std::span<const int> starts, Order order) {
  return make_subarray(full_shape, shape, starts, order, detail::element_type<T>());
}
template <class T>
Datatype Datatype::darray(std::span<const int> full_shape, std::span<const Distribution> distributions,
                          std::span<const int> grid, int rank, Order order) {
  return make_darray(full_shape, distributions, grid, rank, order, detail::element_type<T>());
}

// ---- Buffers: what a call of MPI is given.

// `count` elements of `type` at `data`. Borrows.
struct Buffer {
  void* data = nullptr;
  MPI_Count count = 0;
  MPI_Datatype type = MPI_DATATYPE_NULL;
};
struct ConstBuffer {
  const void* data = nullptr;
  MPI_Count count = 0;
  MPI_Datatype type = MPI_DATATYPE_NULL;
  ConstBuffer() = default;
  ConstBuffer(const void* d, MPI_Count n, MPI_Datatype t) noexcept : data(d), count(n), type(t) {}
  ConstBuffer(const Buffer& b) noexcept : data(b.data), count(b.count), type(b.type) {}
};

// Data that lies as `type` says: mpi::buffer(&a[0][2], 1, column). Borrows data and type.
inline Buffer buffer(void* data, MPI_Count count, const Datatype& type) noexcept {
  return {data, count, type.native()};
}
inline ConstBuffer buffer(const void* data, MPI_Count count, const Datatype& type) noexcept {
  return {data, count, type.native()};
}

template <class T>
concept BufferLike =
    std::is_same_v<std::remove_cvref_t<T>, Buffer> || std::is_same_v<std::remove_cvref_t<T>, ConstBuffer>;

// What travels without packing: a plain value, a flat range, a Buffer.
template <class T>
concept Direct = BufferLike<T> || Flat<std::remove_cvref_t<T>> || Plain<std::remove_cvref_t<T>>;

template <class T>
  requires Direct<T>
ConstBuffer as_buffer(const T& value) noexcept {
  if constexpr (BufferLike<T>) {
    return value;
  } else if constexpr (Flat<T>) {
    using E = std::ranges::range_value_t<T>;
    return {std::ranges::data(value),
            static_cast<MPI_Count>(std::ranges::size(value)) * detail::Unit<E>::per_element,
            detail::Unit<E>::type()};
  } else {
    return {&value, detail::Unit<T>::per_element, detail::Unit<T>::type()};
  }
}

// The same to write into; const elements do not compile.
template <class T>
  requires Direct<T>
Buffer as_writable(T& value) noexcept {
  if constexpr (BufferLike<T>) {
    static_assert(std::is_same_v<std::remove_cv_t<T>, Buffer>, "a ConstBuffer cannot be received into");
    return value;
  } else if constexpr (Flat<T>) {
    using E = std::ranges::range_value_t<T>;
    auto* const data = std::ranges::data(value);
    static_assert(!std::is_const_v<std::remove_pointer_t<decltype(data)>>,
                  "this range cannot be received into: its elements are const");
    return {data, static_cast<MPI_Count>(std::ranges::size(value)) * detail::Unit<E>::per_element,
            detail::Unit<E>::type()};
  } else {
    static_assert(!std::is_const_v<T>, "a const value cannot be received into");
    return {&value, detail::Unit<T>::per_element, detail::Unit<T>::type()};
  }
}

}  // namespace manyhands::mpi
