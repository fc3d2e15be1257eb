#include "manyhands/mpi/attributes.hpp"

#include <doctest/doctest.h>

#include "manyhands/mpi/comm.hpp"

namespace manyhands::mpi {
namespace {

TEST_CASE("datatypes and windows carry attributes") {
  struct Counted {
    int* alive;
    explicit Counted(int* a) : alive(a) { ++*alive; }
    Counted(const Counted& other) : alive(other.alive) { ++*alive; }
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --*alive; }
  };
  int alive = 0;
  const TypeAttributeKey<Counted> of_types;
  {
    const auto column = Datatype::vector<double>(3, 1, 4);
    CHECK(of_types.get(column) == nullptr);
    of_types.set(column, Counted(&alive));
    CHECK(alive == 1);
    {
      const auto copy = column.dup();
      REQUIRE(of_types.get(copy) != nullptr);
      CHECK(of_types.get(copy) != of_types.get(column));
      CHECK(alive == 2);
    }
    CHECK(alive == 1);
    of_types.erase(column);
    CHECK(alive == 0);
    of_types.set(column, Counted(&alive));
  }
  CHECK(alive == 0);
  const WindowAttributeKey<Counted> of_windows;
  {
    const Window<int> window(world(), 1);
    CHECK(of_windows.get(window) == nullptr);
    of_windows.set(window, Counted(&alive));
    of_windows.set(window, Counted(&alive));
    REQUIRE(of_windows.get(window) != nullptr);
    CHECK(of_windows.get(window)->alive == &alive);
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
}

}  // namespace
}  // namespace manyhands::mpi
