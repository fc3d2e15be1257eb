#include "manyhands/process/zygote.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <map>
#include <vector>

#include "manyhands/process/fork_spawner.hpp"
#include "tests/board_fixture.hpp"

namespace manyhands::process {
namespace {

using test::BoardFixture;

// Waits for `count` events; those that came.
std::vector<WorkerEvent> take_events(Spawner& spawner, std::size_t count) {
  std::vector<WorkerEvent> events;
  const Deadline deadline(std::chrono::seconds(20));
  while (events.size() < count && !deadline.passed()) {
    for (auto& event : spawner.events()) events.push_back(std::move(event));
    std::vector<int> fds;
    spawner.add_poll_fds(fds);
    std::vector<pollfd> polled;
    for (const int fd : fds) polled.push_back({fd, POLLIN, 0});
    if (events.size() < count) static_cast<void>(::poll(polled.data(), polled.size(), 100));
  }
  REQUIRE(events.size() == count);
  return events;
}

struct SpawnerFixture : BoardFixture {
  UniqueFd supervisor{::eventfd(0, EFD_CLOEXEC)};

  void end_workers() const {
    view.board().stop.store(1);
    for (std::uint32_t worker = 0; worker < workers; ++worker) {
      view.slot(worker).sleeping.store(0);
      shm::futex_wake(view.slot(worker).sleeping);
    }
  }

  void check_life_and_death(Spawner& spawner) const {
    auto started = take_events(spawner, 2);
    for (const auto& event : started) {
      CHECK(event.kind == WorkerEvent::Kind::started);
      CHECK(event.pid > 0);
      CHECK(event.pidfd);
    }
    ::kill(started[0].pid, SIGKILL);
    const auto died = take_events(spawner, 1);
    CHECK(died[0].kind == WorkerEvent::Kind::exited);
    CHECK(died[0].worker == started[0].worker);
    CHECK(WTERMSIG(died[0].status) == SIGKILL);
    CHECK(died[0].peak_memory > 0);
    ::kill(started[1].pid, SIGSTOP);
    const auto stopped = take_events(spawner, 1);
    CHECK(stopped[0].kind == WorkerEvent::Kind::stopped);
    CHECK(stopped[0].status == SIGSTOP);
    ::kill(started[1].pid, SIGCONT);
    end_workers();
    const auto left = take_events(spawner, 1);
    CHECK(WIFEXITED(left[0].status));
    CHECK(WEXITSTATUS(left[0].status) == 0);
  }
};

TEST_CASE_FIXTURE(SpawnerFixture, "the zygote starts workers and tells of their deaths, stops and ends") {
  const auto spawner =
      open_zygote_pool(segment, supervisor.get(), workers, ZygoteSpawn::fork, capture_surroundings());
  CHECK(spawner->can_respawn());
  check_life_and_death(*spawner);
}

TEST_CASE_FIXTURE(SpawnerFixture, "forked workers live and die the same way, and cannot be replaced") {
  const auto spawner = fork_workers(segment, supervisor.get(), workers);
  CHECK_FALSE(spawner->can_respawn());
  check_life_and_death(*spawner);
}

TEST_CASE_FIXTURE(SpawnerFixture, "a worker that was lost is spawned again on request") {
  const auto spawner =
      open_zygote_pool(segment, supervisor.get(), 1, ZygoteSpawn::fork, capture_surroundings());
  const auto first = take_events(*spawner, 1);
  ::kill(first[0].pid, SIGKILL);
  take_events(*spawner, 1);
  spawner->spawn(0);
  const auto second = take_events(*spawner, 1);
  CHECK(second[0].kind == WorkerEvent::Kind::started);
  CHECK(second[0].pid != first[0].pid);
}

TEST_CASE_FIXTURE(SpawnerFixture, "closing a pool's channel kills its workers") {
  auto spawner = open_zygote_pool(segment, supervisor.get(), 1, ZygoteSpawn::fork, capture_surroundings());
  const auto started = take_events(*spawner, 1);
  spawner.reset();
  pollfd dead{started[0].pidfd.get(), POLLIN, 0};
  CHECK(::poll(&dead, 1, 20'000) == 1);
}

}  // namespace
}  // namespace manyhands::process
