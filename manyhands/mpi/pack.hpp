#pragma once
// Packing in MPI's own formats: for data exchanged with C and Fortran code that calls MPI_Pack, and for
// "external32", the same bytes on every machine (big-endian).
//
//   auto bytes = mpi::pack_external(n, numbers);
//   mpi::unpack_external(bytes, n, numbers);     // a vector has its size already
//
// Plain values, flat ranges and Buffers; structs field by field. Objects are packed by wire/, and need none
// of this. Local. Up to 2 GiB: Error (count) beyond. MPICH 4.0 has no
// external32 of datatypes made by hand: Unsupported.

#include <cstddef>
#include <ranges>
#include <span>
#include <utility>
#include <vector>

#include "manyhands/mpi/communicator.hpp"
#include "manyhands/mpi/datatype.hpp"

namespace manyhands::mpi {
namespace detail {

// The data field by field, as its types are.
template <class T>
ConstBuffer described(const T& value) {
  if constexpr (BufferLike<T>) {
    return value;
  } else if constexpr (Flat<T>) {
    return {std::ranges::data(value), static_cast<MPI_Count>(std::ranges::size(value)),
            datatype_of<std::ranges::range_value_t<T>>()};
  } else {
    static_assert(Plain<T>, "only plain values, flat ranges and Buffers are packed by MPI");
    return {&value, 1, datatype_of<T>()};
  }
}
template <class T>
Buffer described_writable(T& value) {
  static_cast<void>(as_writable(value));  // compiles only if it is
  const ConstBuffer data = described(value);
  return {const_cast<void*>(data.data), data.count, data.type};
}

inline void require_comm(const Communicator& comm, const char* verb) {
  require_active(verb);
  if (!comm) fail(Errc::comm, verb, {}, "the communicator is empty");
}
// `comm` null: external32.
void pack_one(MPI_Comm comm, ConstBuffer data, std::vector<std::byte>& out);
// Unpacks from `bytes` at `at`, which moves on.
void unpack_one(MPI_Comm comm, std::span<const std::byte> bytes, std::size_t& at, Buffer data);
// Calls visit(Buffer) for the basic values that a plain value is made of, in order: some MPIs know external32
// of basic types only.
template <class T, class Visit>
void for_leaves(T& value, const Visit& visit) {
  using U = std::remove_cv_t<T>;
  if constexpr (Native<U>) {
    visit(Buffer{const_cast<U*>(&value), 1, native_type<U>()});
  } else if constexpr (std::ranges::range<U> || std::is_array_v<U>) {
    for (auto& one : value) for_leaves(one, visit);
  } else if constexpr (requires {
                         value.first;
                         value.second;
                       }) {
    for_leaves(value.first, visit);
    for_leaves(value.second, visit);
  } else {
    auto all = wire::fields::tie(value);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (for_leaves(wire::fields::get<I>(all), visit), ...);
    }(std::make_index_sequence<wire::fields::count_of<U>.fields>{});
  }
}
template <class T, class Visit>
void for_external(T& value, const Visit& visit) {
  using U = std::remove_cv_t<T>;
  if constexpr (BufferLike<U>) {
    visit(Buffer{const_cast<void*>(static_cast<const void*>(value.data)), value.count, value.type});
  } else if constexpr (Flat<U>) {
    if constexpr (Native<std::ranges::range_value_t<U>>) {
      const ConstBuffer data = described(value);
      visit(Buffer{const_cast<void*>(data.data), data.count, data.type});
    } else {
      for (auto& one : value) for_leaves(one, visit);
    }
  } else {
    static_assert(Plain<U>, "only plain values, flat ranges and Buffers are packed by MPI");
    for_leaves(value, visit);
  }
}
void require_end(std::span<const std::byte> bytes, std::size_t at, const char* verb);

}  // namespace detail

// The format of messages on `comm`: can be sent as MPI_PACKED.
template <class... T>
std::vector<std::byte> pack_native(const Communicator& comm, const T&... values) {
  detail::require_comm(comm, "pack_native");
  std::vector<std::byte> bytes;
  (detail::pack_one(comm.native(), detail::described(values), bytes), ...);
  return bytes;
}
// Throws Error (truncate) if the bytes hold less or more.
template <class... T>
void unpack_native(const Communicator& comm, std::span<const std::byte> bytes, T&&... values) {
  detail::require_comm(comm, "unpack_native");
  std::size_t at = 0;
  (detail::unpack_one(comm.native(), bytes, at, detail::described_writable(values)), ...);
  detail::require_end(bytes, at, "unpack_native");
}

// The format "external32".
template <class... T>
std::vector<std::byte> pack_external(const T&... values) {
  std::vector<std::byte> bytes;
  (detail::for_external(values, [&](const Buffer& data) { detail::pack_one(MPI_COMM_NULL, data, bytes); }),
   ...);
  return bytes;
}
template <class... T>
void unpack_external(std::span<const std::byte> bytes, T&&... values) {
  std::size_t at = 0;
  (static_cast<void>(as_writable(values)), ...);  // compiles only if they are
  (detail::for_external(values,
                        [&](const Buffer& data) { detail::unpack_one(MPI_COMM_NULL, bytes, at, data); }),
   ...);
  detail::require_end(bytes, at, "unpack_external");
}

}  // namespace manyhands::mpi
