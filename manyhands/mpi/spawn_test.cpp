#include "manyhands/mpi/spawn.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>

#include "manyhands/mpi/environment.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::code_of;

bool skipped() {
  if (features().spawn) return false;
  if (world().rank() == 0) std::printf("skipped: %s cannot spawn\n", features().library.c_str());
  return true;
}

std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }
std::vector<std::string> as_child() { return {"--test-case=this process was spawned", "--out=/dev/null"}; }

// The other side of the tests below.
TEST_CASE("this process was spawned") {
  auto up = parent();
  if (!up) return;
  const auto text = up->bcast(std::string(), {.root = 0});
  const auto number = up->bcast(0, {.root = 0});
  CHECK(text == "to the children");
  up->send("child " + std::to_string(world().rank()) + " of " + std::to_string(world().size()),
           {.dest = 0, .tag = number});
  const Comm all = up->merge(true);
  CHECK(all.allreduce(1, std::plus<>()) == all.size());
  up->disconnect();
}

void talk_to(Intercomm kids, int count) {
  const int me = kids.rank();
  const Root from_here{me == 0 ? root_here : proc_null};
  CHECK(kids.remote_size() == count);
  kids.bcast(std::string("to the children"), from_here);
  kids.bcast(me == 0 ? 5 : 0, from_here);
  if (me == 0) {
    for (int i = 0; i < count; ++i)
      CHECK(kids.recv<std::string>({.source = i, .tag = 5}) ==
            "child " + std::to_string(i) + " of " + std::to_string(count));
  }
  const Comm all = kids.merge(false);
  CHECK(all.size() == kids.size() + count);
  CHECK(all.rank() == me);
  CHECK(all.allreduce(1, std::plus<>()) == all.size());
  kids.disconnect();
}

TEST_CASE("spawned processes talk to those that spawned them") {
  if (parent() || skipped()) return;
  talk_to(spawn(world(), this_program(), {.count = 2, .args = as_child()}), 2);
  const SpawnCommand commands[] = {{.program = this_program(), .count = 1, .args = as_child()},
                                   {.program = this_program(), .count = 1, .args = as_child()}};
  talk_to(spawn_multiple(world(), commands), 2);
}

TEST_CASE("a program that cannot be started is an error on all ranks") {
  if (parent()) return;
  if (skipped()) {
    CHECK(code_of([] { spawn(world(), "/bin/true"); }) == Errc::unsupported);
    CHECK(code_of([] { Port(); }) == Errc::unsupported);
    CHECK(code_of([] { connect(world(), "nowhere"); }) == Errc::unsupported);
    return;
  }
  CHECK(code_of([] { spawn(world(), "./there-is-no-such-program"); }) == Errc::spawn);
  CHECK(code_of([] { spawn(world(), "there-is-no-such-program"); }) == Errc::spawn);
  CHECK(code_of([] { spawn(world(), "/tmp"); }) == Errc::spawn);
  CHECK(code_of([] { spawn(world(), this_program(), {.count = 0}); }) == Errc::spawn);
  CHECK(code_of([] { spawn(world(), this_program(), {.root = 1000}); }) == Errc::root);
  CHECK(code_of([] { spawn_multiple(world(), {}); }) == Errc::spawn);
}

TEST_CASE("two groups meet at a port") {
  if (parent() || skipped() || world().size() < 2) return;
  const bool server = world().rank() % 2 == 0;
  const Comm half = world().split(server ? 0 : 1);
  std::optional<Port> port;
  if (world().rank() == 0) port.emplace();
  const std::string name = world().bcast(port ? port->name() : std::string());
  Intercomm other = server ? accept(half, name) : connect(half, name);
  CHECK(other.remote_size() == world().size() - half.size());
  CHECK(other.allreduce(1, std::plus<>()) == other.remote_size());
  if (half.rank() == 0)
    CHECK(other.sendrecv<int>(server ? 1 : 2, {.dest = 0}, {.source = 0}) == (server ? 2 : 1));
  other.disconnect();
}

TEST_CASE("a port that is none, or another job's, is an error on all ranks at once") {
  if (parent() || skipped()) return;
  const Comm& comm = world();
  const int last = comm.size() - 1;
  for (const char* port : {"nonsense", "", "1.0:5x", "1.0", "-1.0:7"}) {
    CHECK(code_of([&] { connect(comm, port, {.root = last}); }) == Errc::port);
    CHECK(code_of([&] { accept(comm, port, {.root = last}); }) == Errc::port);
  }
  CHECK(code_of([&] { connect(comm, "nonsense", {.root = 1000}); }) == Errc::root);
  if (std::getenv("OMPI_MCA_pmix_server_uri") != nullptr) return;  // then it could be met
  const auto meets = [&] { connect(comm, "1.0:5", {.root = last}); };
  CHECK_THROWS_AS(meets(), Unsupported);
  CHECK_THROWS_WITH_AS(meets(), doctest::Contains("ompi-server"), Error);
  CHECK(code_of([&] { accept(comm, "1.0:5"); }) == Errc::port);
}

TEST_CASE("ports are found by name") {
  if (parent() || skipped()) return;
  if (world().rank() == 0) {
    const Port port;
    const std::string service = "manyhands-test-" + std::to_string(::getpid());
    publish_name(service, port.name());
    CHECK(lookup_name(service) == port.name());
    unpublish_name(service, port.name());
    CHECK(lookup_name(service) == std::nullopt);
  }
  world().barrier();
}

TEST_CASE("two processes meet through a socket") {
  if (parent() || skipped() || world().size() < 2) return;
  char folder[] = "/tmp/manyhands-join-XXXXXX";
  if (world().rank() == 0) CHECK(::mkdtemp(folder) != nullptr);
  const std::string path = world().bcast(std::string(folder)) + "/socket";
  if (world().rank() < 2) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    auto* const raw = reinterpret_cast<const sockaddr*>(&address);
    int connected = ::socket(AF_UNIX, SOCK_STREAM, 0);
    if (world().rank() == 0) {
      const int listening = std::exchange(connected, -1);
      CHECK(::bind(listening, raw, sizeof address) == 0);
      CHECK(::listen(listening, 1) == 0);
      world().send(1, {.dest = 1});
      connected = ::accept(listening, nullptr, nullptr);
      ::close(listening);
    } else {
      static_cast<void>(world().recv<int>({.source = 0}));
      CHECK(::connect(connected, raw, sizeof address) == 0);
    }
    Intercomm peer = join(connected);
    CHECK(peer.remote_size() == 1);
    CHECK(peer.sendrecv<int>(world().rank(), {.dest = 0}, {.source = 0}) == 1 - world().rank());
    peer.disconnect();
    ::close(connected);
  }
  world().barrier();
  if (world().rank() == 0) std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace manyhands::mpi
