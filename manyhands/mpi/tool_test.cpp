#include "manyhands/mpi/tool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/generalized_request.hpp"

namespace manyhands::mpi {
namespace {

TEST_CASE("the knobs of this MPI are listed with their values") {
  const auto knobs = control_variables();
  CHECK(knobs.size() > 10);
  CHECK(std::ranges::any_of(knobs, [](const ControlVariable& knob) { return !knob.value.empty(); }));
  CHECK(std::ranges::all_of(knobs, [](const ControlVariable& knob) { return !knob.name.empty(); }));
  for (const PerformanceVariable& meter : performance_variables()) CHECK(!meter.name.empty());
}

TEST_CASE("something of one's own is waited for like any request") {
  GeneralizedRequest work;
  Request<void> request = work.request();
  CHECK_FALSE(request.test());
  CHECK_THROWS_AS(static_cast<void>(work.request()), Error);
  {
    std::jthread worker([&] { work.complete(); });
    request.get();
  }
  CHECK_THROWS_AS(work.complete(), Error);

  bool cancelled = false;
  GeneralizedRequest second([&] { cancelled = true; });
  Request<void> other = second.request();
  other.cancel();
  CHECK(cancelled);
  second.complete();
  other.wait();

  Request<void> left;
  {
    GeneralizedRequest dropped;
    left = dropped.request();
  }
  left.wait();  // its owner is gone: nobody waits for ever

  GeneralizedRequest receipt;
  Request<void> told = receipt.request();
  receipt.complete({.source = 3, .tag = 4, .bytes = 16});
  told.wait();
  CHECK(told.status().source == 3);
  CHECK(told.status().tag == 4);
  CHECK(told.status().count<double>() == 2);
  CHECK_FALSE(told.status().cancelled);
}

}  // namespace
}  // namespace manyhands::mpi
