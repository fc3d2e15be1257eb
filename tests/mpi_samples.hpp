#pragma once
// What the tests of mpi/ share: a plain struct, samples of any plain type, and the class of an error.

#include <array>
#include <string>
#include <type_traits>

#include "manyhands/mpi/error.hpp"

namespace manyhands::mpi::test {

struct Particle {
  double x, y;
  int id;
  friend bool operator==(const Particle&, const Particle&) = default;
};

// The n-th sample of a T.
template <class T>
T value_of(int n) {
  if constexpr (std::is_same_v<T, Particle>) {
    return {n + 0.5, -n + 0.25, n};
  } else if constexpr (std::is_same_v<T, std::array<int, 3>>) {
    return {n, n + 1, n + 2};
  } else if constexpr (std::is_same_v<T, bool>) {
    return n % 2 == 0;
  } else {
    return static_cast<T>(n);
  }
}

// The class of the error that call() throws; Errc::other if it throws none.
template <class Call>
Errc code_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return Errc::other;
}

}  // namespace manyhands::mpi::test
