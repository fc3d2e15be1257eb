#include "manyhands/mpi/session.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>

namespace manyhands::mpi {
namespace {

TEST_CASE("a session makes communicators from named sets of processes") {
  if (!features().sessions) {
    CHECK_THROWS_AS(Session(), Unsupported);
    if (world().rank() == 0) std::printf("skipped: %s has no sessions\n", features().library.c_str());
    return;
  }
  const Session session({.threads = ThreadLevel::multiple});
  CHECK(session.thread_level() == ThreadLevel::multiple);
  const auto names = session.psets();
  CHECK(std::ranges::count(names, "mpi://WORLD") == 1);
  CHECK(std::ranges::count(names, "mpi://SELF") == 1);
  CHECK(session.group_of("mpi://SELF").size() == 1);
  CHECK(session.group_of("mpi://WORLD") == world().group());
  CHECK(session.pset_info("mpi://WORLD").get("mpi_size") == std::to_string(world().size()));
  {
    const Comm comm = session.comm("mpi://WORLD", "manyhands.test/1");
    CHECK(comm.size() == world().size());
    CHECK(comm.rank() == world().rank());
    CHECK(comm.allreduce(comm.rank(), std::plus<>()) == comm.size() * (comm.size() - 1) / 2);
    const int next = (comm.rank() + 1) % comm.size();
    const int last = (comm.rank() + comm.size() - 1) % comm.size();
    CHECK(comm.sendrecv<std::string>(std::string("hello"), {.dest = next}, {.source = last}) == "hello");
    const Comm alone = session.comm("mpi://SELF", "manyhands.test/2");
    CHECK(alone.size() == 1);
  }
  try {
    static_cast<void>(session.group_of("mpi://nobody"));
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.code() == Errc::arg);
  }
}

}  // namespace
}  // namespace manyhands::mpi
