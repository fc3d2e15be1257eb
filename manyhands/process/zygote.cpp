#include "manyhands/process/zygote.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/base/own_thread.hpp"
#include "manyhands/base/stack_trace.hpp"
#include "manyhands/process/process_record.hpp"
#include "manyhands/process/worker.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::process {
namespace {

using net::FdChannel;

UniqueFd open_pidfd(pid_t pid) { return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

// ---- Messages, as plain bytes between processes of one program.

struct OpenPool {  // door; fds: the pool's channel, board, supervisor's eventfd
  std::uint32_t workers;
  ZygoteSpawn how;
};
struct StartProcess {  // door; the record holds one reference for the zygote
  shm::Offset record;
  pid_t parent;  // who asks; the process is killed when it ends
  ZygoteSpawn how;
};
struct SpawnRequest {    // pool channel, to the zygote
  std::uint32_t worker;  // or `close_pool`
};
constexpr std::uint32_t close_pool = 0xffff'ffff;  // start no more workers
struct Report {                                    // pool channel, from the zygote; fds: pidfd if started
  WorkerEvent::Kind kind;
  std::uint32_t worker;
  pid_t pid;
  std::int32_t status;
  std::uint64_t peak_memory;
};

template <class T>
ByteView bytes_of(const T& message) noexcept {
  return {reinterpret_cast<const std::byte*>(&message), sizeof message};
}
template <class T>
std::optional<T> message_as(const FdChannel::Message& message) noexcept {
  if (message.size != sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, message.bytes.data(), sizeof value);
  return value;
}

// ---- The zygote's own life.

class Zygote {
 public:
  Zygote(FdChannel door, FdChannel door_for_workers, UniqueFd program, pid_t program_pid,
         const sigset_t& program_mask)
      : door_(std::move(door)),
        door_for_workers_(std::move(door_for_workers)),
        program_(std::move(program)),
        program_pid_(program_pid),
        program_mask_(program_mask) {
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    sigset_t blocked =
        child;  // and the terminal's signals, which are the program's business; workers get them back
    for (const int signal : {SIGINT, SIGQUIT, SIGTSTP}) ::sigaddset(&blocked, signal);
    ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
    child_signals_ = UniqueFd(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  }

  [[noreturn]] void run() {
    for (;;) {
      std::vector<pollfd> fds{
          {program_.get(), POLLIN, 0}, {child_signals_.get(), POLLIN, 0}, {door_.fd(), POLLIN, 0}};
      for (const auto& pool : pools_) fds.push_back({pool.channel.fd(), POLLIN, 0});
      const std::size_t pools_end = fds.size();
      for (const auto& [pid, pidfd] : strangers_) fds.push_back({pidfd.get(), POLLIN, 0});
      if (::poll(fds.data(), fds.size(), -1) < 0) {
        if (errno == EINTR) continue;
        ::_exit(1);
      }
      if (fds[0].revents != 0) on_program_gone();
      if (fds[1].revents != 0) reap();
      if (fds[2].revents != 0) answer_door();
      std::size_t at = 3;
      for (auto pool = pools_.begin(); pool != pools_.end() && at < pools_end; ++at) {
        const bool open = fds[at].revents == 0 || answer(*pool);
        pool = open ? std::next(pool) : close(pool);
      }
      for (std::size_t i = pools_end; i < fds.size(); ++i) {
        if (fds[i].revents == 0) continue;
        const auto gone = std::find_if(strangers_.begin(), strangers_.end(), [&](const auto& stranger) {
          return stranger.second.get() == fds[i].fd;
        });
        kill_children_of(gone->first);
        shm::sweep(gone->first);
        strangers_.erase(gone);
      }
    }
  }

 private:
  struct Pool {
    FdChannel channel;
    UniqueFd board;
    UniqueFd supervisor;
    ZygoteSpawn how;
    bool closed = false;                // no more workers are needed
    std::vector<std::uint32_t> wanted;  // asked for and not yet started
  };
  struct Child {
    Pool* pool = nullptr;  // null: its pool was closed, or it is an mh::Process
    std::uint32_t worker = 0;
    shm::Offset record = 0;  // of an mh::Process
    pid_t parent = 0;        // of an mh::Process: who started it
  };

  // Our death takes all along that we started; so we stay as long as there are detached processes.
  void on_program_gone() {
    program_.reset();
    kill_children_of(0);
    shm::sweep();  // names in /dev/shm that the program did not live to remove
    if (children_.empty()) ::_exit(0);
  }

  // Ends the processes that `parent` started (0: all that were not detached).
  void kill_children_of(pid_t parent) {
    for (const auto& [pid, child] : children_) {
      const bool detached = child.record != 0 && shm::at<ProcessRecord>(child.record).detached.load() != 0;
      // Not reaped yet, so the pid is still its own.
      if (!detached && (parent == 0 || child.parent == parent)) ::kill(pid, SIGKILL);
    }
  }

  void start_process(const StartProcess& request) {
    if (!shm::is_block(request.record, shm::BlockKind::process)) return;
    ProcessRecord& record = shm::at<ProcessRecord>(request.record);
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) become_process(request, self);
    if (pid < 0) {
      record.status.store(errno);
      record.state.store(static_cast<std::uint32_t>(ProcessState::failed), std::memory_order_release);
      shm::futex_wake_all(record.state);
      shm::release(request.record);
      return;
    }
    children_[pid] = {.record = request.record, .parent = request.parent};
    record.pid.store(pid);  // the process itself says when it runs
    // Its parent is the program, one of our own, or a process that the user forked: that one must be watched.
    if (request.parent != program_pid_ && !children_.contains(request.parent) &&
        !strangers_.contains(request.parent)) {
      if (UniqueFd pidfd = open_pidfd(request.parent)) {
        strangers_.emplace(request.parent, std::move(pidfd));
      } else {
        kill_children_of(request.parent);  // gone already
      }
    }
  }

  [[noreturn]] void become_process(const StartProcess& request, pid_t zygote) {
    leave(zygote);
    if (request.how == ZygoteSpawn::exec) {
      exec_self(fmt::format("{}{},{}", process_argument, request.record, door_for_workers_.fd()), {});
    }
    adopt_zygote_door(UniqueFd(::fcntl(door_for_workers_.fd(), F_DUPFD_CLOEXEC, 0)));
    door_for_workers_.close();
    run_process(request.record);
  }

  void answer_door() {
    FdChannel::Message message;
    while (door_.try_receive(message) == FdChannel::Received::message) {
      if (const auto start = message_as<StartProcess>(message)) {
        start_process(*start);
        continue;
      }
      const auto request = message_as<OpenPool>(message);
      if (!request || message.fds.size() != 3) continue;
      Pool& pool = pools_.emplace_back(Pool{FdChannel(std::move(message.fds[0])),
                                            std::move(message.fds[1]),
                                            std::move(message.fds[2]),
                                            request->how,
                                            false,
                                            {}});
      for (std::uint32_t worker = 0; worker < request->workers; ++worker) {
        // A fork takes longer than a program may take to find that it has nothing to do: look before each.
        read_requests(pool);
        spawn(pool, worker);
      }
    }
  }

  // Takes what the pool asks for; false if the pool is gone.
  static bool read_requests(Pool& pool) {
    FdChannel::Message message;
    for (;;) {
      const auto received = pool.channel.try_receive(message);
      if (received == FdChannel::Received::closed) return false;
      if (received == FdChannel::Received::nothing) return true;
      const auto request = message_as<SpawnRequest>(message);
      if (request && request->worker == close_pool) pool.closed = true;
      if (request && request->worker != close_pool) pool.wanted.push_back(request->worker);
    }
  }

  bool answer(Pool& pool) {
    const bool open = read_requests(pool);
    for (const auto worker : std::exchange(pool.wanted, {})) spawn(pool, worker);
    return open;
  }

  // The pool's process is gone, or done with the pool.
  std::list<Pool>::iterator close(std::list<Pool>::iterator pool) {
    for (auto& [pid, child] : children_) {
      if (child.pool != &*pool) continue;
      ::kill(pid, SIGKILL);  // not reaped yet, so the pid is still its own
      child.pool = nullptr;
    }
    return pools_.erase(pool);
  }

  void spawn(Pool& pool, std::uint32_t worker) {
    if (pool.closed) {
      report(pool,
             {.kind = WorkerEvent::Kind::exited, .worker = worker, .pid = 0, .status = 0, .peak_memory = 0});
      return;
    }
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) become_worker(pool, worker, self);
    if (pid < 0) {
      report(
          pool,
          {.kind = WorkerEvent::Kind::failed, .worker = worker, .pid = 0, .status = errno, .peak_memory = 0});
      return;
    }
    children_[pid] = {.pool = &pool, .worker = worker};
    const UniqueFd pidfd = open_pidfd(pid);
    const int fd = pidfd.get();
    report(pool,
           {.kind = WorkerEvent::Kind::started, .worker = worker, .pid = pid, .status = 0, .peak_memory = 0},
           std::span(&fd, pidfd ? 1U : 0U));
  }

  // What every child of ours does first.
  void leave(pid_t zygote) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != zygote) ::_exit(1);  // the zygote died before the line above
    ::sigprocmask(SIG_SETMASK, &program_mask_, nullptr);
    pools_.clear();  // their channels must close when their processes die, whatever workers still run
    strangers_.clear();
    door_.close();
    program_.reset();
    child_signals_.reset();
  }

  [[noreturn]] void become_worker(Pool& pool, std::uint32_t worker, pid_t zygote) {
    UniqueFd board = std::move(pool.board);
    UniqueFd supervisor = std::move(pool.supervisor);
    const ZygoteSpawn how = pool.how;
    leave(zygote);
    if (how == ZygoteSpawn::exec) {
      exec_self(fmt::format("{}{},{},{},{}", worker_argument, board.get(), supervisor.get(),
                            door_for_workers_.fd(), worker),
                {board.get(), supervisor.get()});
    }
    adopt_zygote_door(UniqueFd(::fcntl(door_for_workers_.fd(), F_DUPFD_CLOEXEC, 0)));
    door_for_workers_.close();
    run_worker(shm::Segment::attach(std::move(board)),
               {.worker = worker, .supervisor_fd = supervisor.release()});
  }

  // Starts the program anew with one argument, which mh::init understands; it keeps door, shared memory and
  // `fds`.
  [[noreturn]] void exec_self(std::string argument, std::initializer_list<int> fds) const {
    for (const int fd : fds) ::fcntl(fd, F_SETFD, 0);
    ::fcntl(door_for_workers_.fd(), F_SETFD, 0);
    ::fcntl(shm::heap_fd(), F_SETFD, 0);
    ::setenv(shm::heap_variable, fmt::format("{}", shm::heap_fd()).c_str(), 1);
    std::string name = "manyhands-worker";
    char* const argv[] = {name.data(), argument.data(), nullptr};
    ::execv("/proc/self/exe", argv);
    ::_exit(127);
  }

  void reap() {
    signalfd_siginfo ignored;
    while (::read(child_signals_.get(), &ignored, sizeof ignored) > 0) {
    }
    for (;;) {
      int status = 0;
      rusage usage{};
      const pid_t pid = ::wait4(-1, &status, WNOHANG | WUNTRACED, &usage);
      if (pid <= 0) return;
      const auto found = children_.find(pid);
      if (found == children_.end()) continue;
      const Child child = found->second;
      if (!WIFSTOPPED(status)) {
        children_.erase(found);
        kill_children_of(pid);
        shm::sweep(pid);  // what it held in shared memory
      }
      if (child.record != 0 && !WIFSTOPPED(status)) {
        record_end(child.record, status, static_cast<std::uint64_t>(usage.ru_maxrss) * 1024);
        shm::release(child.record);
      }
      if (!program_ && children_.empty()) ::_exit(0);
      if (child.pool == nullptr) continue;
      report(*child.pool,
             {.kind = WIFSTOPPED(status) ? WorkerEvent::Kind::stopped : WorkerEvent::Kind::exited,
              .worker = child.worker,
              .pid = pid,
              .status = WIFSTOPPED(status) ? WSTOPSIG(status) : status,
              .peak_memory = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024});
    }
  }

  static void report(const Pool& pool, const Report& report, std::span<const int> fds = {}) {
    static_cast<void>(pool.channel.send(bytes_of(report), fds));  // if the pool is gone, poll() will say so
  }

  FdChannel door_;
  FdChannel door_for_workers_;
  UniqueFd program_;  // pidfd; none once it is gone
  pid_t program_pid_;
  sigset_t program_mask_;
  UniqueFd child_signals_;
  std::list<Pool> pools_;
  std::map<pid_t, Child> children_;
  std::map<pid_t, UniqueFd> strangers_;  // processes that the user forked and that started an mh::Process
};

// ---- The program's side. One zygote per program, hence one door per process.

std::atomic<int> door_fd{-1};
// Where the zygote wrote its token; 0 in processes started by exec, which cannot know it.
shm::Offset zygote_token = 0;

FdChannel open_door() {
  UniqueFd door(::fcntl(door_fd.load(), F_DUPFD_CLOEXEC, 0));
  if (!door)
    throw_errno("ask the zygote for a process: this program has no descriptor left for it (ulimit -n)");
  return FdChannel(std::move(door));
}

class ZygoteSpawner final : public Spawner {
 public:
  explicit ZygoteSpawner(FdChannel channel) : channel_(std::move(channel)) {}

  void spawn(std::uint32_t worker) override {
    if (!channel_.send(bytes_of(SpawnRequest{worker}))) lost_ = true;
  }

  void close() override {
    if (!channel_.send(bytes_of(SpawnRequest{close_pool}))) lost_ = true;
  }

  std::vector<WorkerEvent> events() override {
    std::vector<WorkerEvent> events;
    FdChannel::Message message;
    for (;;) {
      const auto received = lost_ ? FdChannel::Received::closed : channel_.try_receive(message);
      if (received == FdChannel::Received::nothing) return events;
      if (received == FdChannel::Received::closed) {
        if (!reported_) events.push_back({.kind = WorkerEvent::Kind::lost_all, .pidfd = {}});
        lost_ = true;
        reported_ = true;
        return events;
      }
      const auto report = message_as<Report>(message);
      if (!report) continue;
      events.push_back({.kind = report->kind,
                        .worker = report->worker,
                        .pid = report->pid,
                        .status = report->status,
                        .peak_memory = report->peak_memory,
                        .pidfd = message.fds.empty() ? UniqueFd() : std::move(message.fds[0])});
    }
  }

  void add_poll_fds(std::vector<int>& fds) const override {
    if (!lost_) fds.push_back(channel_.fd());
  }
  bool can_respawn() const override { return !lost_; }

 private:
  FdChannel channel_;
  bool lost_ = false;      // the zygote is gone
  bool reported_ = false;  // and the pool knows
};

}  // namespace

bool have_zygote() noexcept { return door_fd.load(std::memory_order_relaxed) >= 0; }

void adopt_zygote_door(UniqueFd door) noexcept {
  const int before = door_fd.exchange(door.release());
  if (before >= 0) ::close(before);
}

void ensure_zygote() {
  bool was_killed = false;
  if (have_zygote()) {
    if (zygote_lives()) return;
    adopt_zygote_door(UniqueFd());
    was_killed = true;
  }
  if (const int others = foreign_threads(); others > 0) {
    throw Error(fmt::format(
        "worker processes cannot be started now: {} other thread{} run{} in this process, and a fork would "
        "copy the locks that they hold. {}",
        others, others == 1 ? "" : "s", others == 1 ? "s" : "",
        was_killed ? "The zygote, from which they were started, was killed, and a new one cannot be forked"
                   : "Call mh::init(argc, argv) at the start of main"));
  }
  auto [zygote_end, our_end] = FdChannel::make_pair();
  shm::ensure_heap();  // before the fork, so that all processes of the program have it
  if (zygote_token == 0)
    zygote_token = shm::allocate(sizeof(std::atomic<shm::ThreadToken>), shm::BlockKind::raw);
  auto& token = shm::at<std::atomic<shm::ThreadToken>>(zygote_token);
  token.store(0);
  const pid_t program_pid = ::getpid();
  UniqueFd program = open_pidfd(program_pid);
  if (!program) throw_errno("open a pidfd of this process");
  sigset_t mask;
  ::sigprocmask(SIG_SETMASK, nullptr, &mask);
  std::fflush(nullptr);   // what is buffered now must not be written again by a copy of the buffer
  warm_up_stack_trace();  // once for all workers
  const pid_t pid = ::fork();
  if (pid < 0) throw_errno("fork the zygote, from which worker processes are started");
  if (pid == 0) {
    const pid_t zygote = ::fork();  // a grandchild: the program's own wait() never meets it
    if (zygote != 0) ::_exit(zygote > 0 ? 0 : 1);
    ::prctl(PR_SET_NAME, "mh-zygote");
    shm::name_this_process("zygote");
    token.store(shm::this_thread_token());
    Zygote(std::move(zygote_end), std::move(our_end), std::move(program), program_pid, mask).run();
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0)
    throw Error("fork the zygote, from which worker processes are started: the second fork failed");
  adopt_zygote_door(UniqueFd(::fcntl(our_end.fd(), F_DUPFD_CLOEXEC, 0)));
}

bool zygote_lives() noexcept {
  if (zygote_token == 0) return true;
  const auto token = shm::at<std::atomic<shm::ThreadToken>>(zygote_token).load();
  return token == 0 || shm::is_alive(token);
}

void ask_zygote_for(shm::Offset record, ZygoteSpawn how) {
  const FdChannel door = open_door();
  shm::add_ref(record);  // the zygote's
  try {
    if (door.send(bytes_of(StartProcess{record, ::getpid(), how}))) return;
  } catch (...) {
    shm::release(record);
    throw;
  }
  shm::release(record);
  adopt_zygote_door(UniqueFd());  // the next process may start a new one
  throw Error("the zygote, from which processes are started, is gone; someone killed it");
}

std::unique_ptr<Spawner> open_zygote_pool(const shm::Segment& board, int supervisor_fd, std::uint32_t workers,
                                          ZygoteSpawn how) {
  ensure_zygote();
  auto [ours, theirs] = FdChannel::make_pair();
  const FdChannel door = open_door();
  const int fds[] = {theirs.fd(), board.fd(), supervisor_fd};
  if (!door.send(bytes_of(OpenPool{workers, how}), fds)) {
    adopt_zygote_door(UniqueFd());  // the next pool may start a new one
    throw Error("the zygote, from which worker processes are started, is gone; someone killed it");
  }
  return std::make_unique<ZygoteSpawner>(std::move(ours));
}

}  // namespace manyhands::process
