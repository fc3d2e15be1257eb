#include "manyhands/process/fork_spawner.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "manyhands/base/child_process.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/pidfd.hpp"
#include "manyhands/base/stack_trace.hpp"
#include "manyhands/base/streams.hpp"
#include "manyhands/process/board.hpp"
#include "manyhands/process/descendants.hpp"
#include "manyhands/process/other_threads.hpp"
#include "manyhands/process/worker.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::process {
namespace {

class ForkSpawner final : public Spawner {
 public:
  ~ForkSpawner() override {
    for (auto& child : children_) {
      if (child.pid == 0) continue;
      end(child);
      while (::waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
  }

  void fork_one(const shm::Segment& board, int supervisor_fd, std::uint32_t worker) {
    board_ = board.data();
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) {
      run_as_child("a worker", [&] {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != self) ::_exit(1);
        run_worker(shm::Segment::attach(UniqueFd(::fcntl(board.fd(), F_DUPFD_CLOEXEC, 0))),
                   {.worker = worker, .supervisor_fd = supervisor_fd});
      });
    }
    if (pid < 0) throw_errno("fork a worker process");
    Child child{.pid = pid, .pidfd = open_pidfd(pid)};
    started_.push_back({.kind = WorkerEvent::Kind::started,
                        .worker = worker,
                        .pid = pid,
                        .pidfd = UniqueFd(::fcntl(child.pidfd.get(), F_DUPFD_CLOEXEC, 0))});
    children_.push_back(std::move(child));
  }

  void kill(std::uint32_t worker) override {
    if (worker < children_.size() && children_[worker].pid != 0) end(children_[worker]);
  }

  void spawn(std::uint32_t worker) override {
    throw Error(fmt::format(
        "worker {} of a pool with Start::fork cannot be replaced: it was a copy of a moment that is over",
        worker));
  }

  std::vector<WorkerEvent> events() override {
    std::vector<WorkerEvent> events = std::move(started_);
    started_.clear();
    for (std::uint32_t worker = 0; worker < children_.size(); ++worker) {
      Child& child = children_[worker];
      if (child.pid == 0) continue;
      int status = 0;
      rusage usage{};
      pid_t pid = ::wait4(child.pid, &status, WNOHANG | WUNTRACED, &usage);
      if (pid < 0 && errno == ECHILD) {
        // Its end was taken by a waitpid(-1) of the program's, or is not kept where SIGCHLD is ignored.
        pid = child.pid;
        status = status_of_reaped(child.pidfd).value_or(status_on_board(worker));
      }
      if (pid <= 0) continue;
      const bool stopped = WIFSTOPPED(status);
      events.push_back({.kind = stopped ? WorkerEvent::Kind::stopped : WorkerEvent::Kind::exited,
                        .worker = worker,
                        .pid = pid,
                        .status = stopped ? WSTOPSIG(status) : status,
                        .peak_memory = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024});
      if (stopped) continue;
      child = {};
      shm::sweep();  // what it held in shared memory, and what processes that its tasks forked did
    }
    return events;
  }

  void add_poll_fds(std::vector<int>& fds) const override {
    for (const auto& child : children_) {
      if (child.pid != 0) fds.push_back(child.pidfd.get());
    }
  }
  bool can_respawn() const override { return false; }

 private:
  struct Child {
    pid_t pid = 0;  // 0: reaped
    UniqueFd pidfd;
  };

  // With what its tasks have started. By its pidfd: its number may be another's by now, if somebody else
  // waited for it.
  static void end(const Child& child) {
    kill_descendants(child.pid);
    if (child.pidfd) {
      send_signal(child.pidfd, SIGKILL);
    } else {
      ::kill(child.pid, SIGKILL);
    }
  }
  // Where the system does not know: an orderly end is noted on the board; whatever else ended it is told as
  // SIGKILL.
  int status_on_board(std::uint32_t worker) const noexcept {
    const auto phase = BoardView(board_).slot(worker).phase.load();
    return phase == WorkerPhase::retired || BoardView(board_).board().stop.load() != 0 ? 0 : SIGKILL;
  }

  std::byte* board_ = nullptr;
  std::vector<Child> children_;  // by worker
  std::vector<WorkerEvent> started_;
};

}  // namespace

std::unique_ptr<Spawner> fork_workers(const shm::Segment& board, int supervisor_fd, std::uint32_t workers) {
  if (const int others = threads_that_forbid_fork(); others > 0) {
    throw Error(fmt::format(
        "a pool with Start::fork forks this process at each call, but {}, whose locks a copy would hold for "
        "ever. Use Start::zygote, or make the call before other threads run (those of a ThreadPool stay once "
        "they have been used)",
        describe_other_threads(others)));
  }
  flush_streams();
  warm_up_stack_trace();
  auto spawner = std::make_unique<ForkSpawner>();
  for (std::uint32_t worker = 0; worker < workers; ++worker) spawner->fork_one(board, supervisor_fd, worker);
  return spawner;
}

}  // namespace manyhands::process
