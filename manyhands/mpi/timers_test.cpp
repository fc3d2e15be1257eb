#include "manyhands/mpi/timers.hpp"

#include <doctest/doctest.h>

namespace manyhands::mpi {
namespace {

TEST_CASE("timers know their parts, and are collected from all ranks") {
  Timers timers;
  for (int i = 0; i < 3; ++i) {
    const auto step = timers.scope("step");
    const auto halo = timers.scope("halo");
    if (world().rank() == world().size() - 1) const auto extra = timers.scope("last");
  }
  CHECK(timers.seconds("step") >= timers.seconds("step/halo"));
  CHECK(timers.seconds("halo") == 0);
  const auto rows = timers.collect(world());
  if (world().rank() != 0) {
    CHECK(rows.empty());
    return;
  }
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].name == "step");
  CHECK(rows[1].name == "step/halo");
  CHECK(rows[2].name == "step/halo/last");
  for (const auto& row : rows) {
    CHECK(row.calls == 3);
    CHECK(row.min <= row.mean);
    CHECK(row.mean <= row.max);
  }
  CHECK(rows[2].slowest == world().size() - 1);
  if (world().size() > 1) CHECK(rows[2].min == 0);
}

}  // namespace
}  // namespace manyhands::mpi
