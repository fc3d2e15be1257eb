#pragma once
// given(value): a value as the verbs that take `const T& value` hand it on.
//
// Such a verb may be called on what a user adds up in a loop. If it gave the variable's address away, or were
// inlined and did so there, the variable would have to live in memory in all of the user's function: each
// addition of the loop would wait for a store and a load, since whatever else the loop writes might lie there
// (a stencil with a sum takes twice as long with g++ 12). So these verbs are always inlined, hand small plain
// values on as copies, and do their work out of line.

#include <cstddef>
#include <type_traits>

#include "manyhands/mpi/datatype.hpp"

namespace manyhands::mpi::detail {

template <class T>
concept SmallPlain =
    Plain<T> && !std::is_array_v<T> && std::is_trivially_copy_constructible_v<T> && sizeof(T) <= 64;

template <class T>
using Given = std::conditional_t<SmallPlain<T>, std::remove_cv_t<T>, const T&>;

template <class T>
[[gnu::always_inline]] inline Given<T> given(const T& value) noexcept {
  return value;
}
// The same in the place of std::forward<T>(value).
template <class T>
[[gnu::always_inline]] inline decltype(auto) given_on(std::remove_reference_t<T>& value) noexcept {
  using U = std::remove_cvref_t<T>;
  if constexpr (SmallPlain<U>) {
    return U(value);
  } else {
    return static_cast<T&&>(value);
  }
}

}  // namespace manyhands::mpi::detail
