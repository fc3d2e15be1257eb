#include "manyhands/task/this_task.hpp"

#include <doctest/doctest.h>

#include "manyhands/base/clock.hpp"

namespace manyhands {
namespace {

TEST_CASE("outside of a task there is none") {
  CHECK_FALSE(this_task::stop_requested());
  CHECK(this_task::index() == -1);
  CHECK(this_task::attempt() == 0);
  CHECK(this_task::worker() == -1);
}

TEST_CASE("inside, the task sees its place, and the one around it afterwards") {
  const task::Context outer{.index = 1, .worker = 5};
  const task::ContextScope outer_scope(outer);
  {
    const task::Context inner{.index = 2, .attempt = 3, .worker = 0};
    const task::ContextScope scope(inner);
    CHECK(this_task::index() == 2);
    CHECK(this_task::attempt() == 3);
    CHECK(this_task::worker() == 0);
  }
  CHECK(this_task::index() == 1);
  CHECK(this_task::worker() == 5);
}

TEST_CASE("a stop request and a passed deadline both ask the task to end") {
  std::atomic<std::uint32_t> stop{0};
  const task::Context context{.stop = &stop};
  const task::ContextScope scope(context);
  CHECK_FALSE(this_task::stop_requested());
  stop = 1;
  CHECK(this_task::stop_requested());
  const task::Context late{.deadline_at_ns = now_ns() - 1};
  const task::ContextScope late_scope(late);
  CHECK(this_task::stop_requested());
}

}  // namespace
}  // namespace manyhands
