#include "manyhands/base/cores.hpp"

#include <doctest/doctest.h>
#include <sched.h>

namespace manyhands {
namespace {

TEST_CASE("a cgroup quota is rounded up to whole cores, and no quota is no limit") {
  CHECK(detail::cores_of_quota("200000 100000") == 2);
  CHECK(detail::cores_of_quota("150000 100000") == 2);
  CHECK(detail::cores_of_quota("1000 100000") == 1);
  CHECK(detail::cores_of_quota("max 100000") == 0);
  CHECK(detail::cores_of_quota("") == 0);
  CHECK(detail::cores_of_quota("12") == 0);
  CHECK(detail::cores_of_quota("5 0") == 0);
}

TEST_CASE("a process bound to one core may use one core") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  CHECK(cpu_count() >= 1);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &before)) {
      CPU_SET(cpu, &one);
      break;
    }
  }
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(cpu_count() == 1);
  ::sched_setaffinity(0, sizeof before, &before);
}

}  // namespace
}  // namespace manyhands
