#include "manyhands/process/zygote_server.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/base/child_process.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/forks.hpp"
#include "manyhands/base/log.hpp"
#include "manyhands/base/pidfd.hpp"
#include "manyhands/process/descendants.hpp"
#include "manyhands/process/errors.hpp"
#include "manyhands/process/fresh_start.hpp"
#include "manyhands/process/process_record.hpp"
#include "manyhands/process/surroundings.hpp"
#include "manyhands/process/worker.hpp"
#include "manyhands/process/zygote.hpp"
#include "manyhands/process/zygote_messages.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::process {
namespace {

using net::FdChannel;

// The program may raise its own limit later, and each pool takes descriptors of ours. Children get theirs
// back.
void raise_descriptor_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
}

// One reference to a block of shared memory that came with a message; its copies in forks have none.
class BlockReference {
 public:
  BlockReference() = default;
  explicit BlockReference(shm::Offset block) noexcept
      : block_(shm::is_block(block, shm::BlockKind::raw) ? block : 0) {}
  BlockReference(BlockReference&& other) noexcept : block_(std::exchange(other.block_, 0)) {}
  BlockReference& operator=(BlockReference&&) = delete;
  ~BlockReference() {
    if (block_ != 0 && forks() == forks_) shm::release(block_);
  }
  shm::Offset get() const noexcept { return block_; }

 private:
  shm::Offset block_ = 0;
  int forks_ = forks();
};

// How the children that one request wants are to start.
struct Start {
  ZygoteSpawn how = ZygoteSpawn::fork;
  BlockReference surroundings;
  UniqueFd directory;
  std::optional<Credentials> credentials;  // none: the zygote's own
};

class Zygote {
 public:
  explicit Zygote(ZygoteBirth birth)
      : door_(std::move(birth.door)),
        door_for_workers_(std::move(birth.door_for_workers)),
        program_(std::move(birth.program)),
        program_pid_(birth.program_pid),
        program_mask_(birth.program_mask),
        program_sigchld_(birth.program_sigchld),
        own_(own_credentials()) {
    // No signal is for the zygote: those of the terminal and of the process group are the program's business,
    // which takes us along when it ends. Workers get the program's mask back.
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
    // Inherited as ignored, it would have the kernel throw away how children ended.
    struct sigaction default_action{};
    default_action.sa_handler = SIG_DFL;
    ::sigaction(SIGCHLD, &default_action, nullptr);
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    child_signals_ = UniqueFd(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!child_signals_) throw_errno("have the ends of processes told by a descriptor");
    // What a worker has started and does not live to end becomes our child, and is ended by us.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    raise_descriptor_limit();
    door_.ask_for_senders();
  }

  void announce() const {
    const auto thread = shm::this_thread_token();
    set_zygote_thread(thread);
    static_cast<void>(door_.send(bytes_of(Born{.thread = thread})));
  }

  [[noreturn]] void run() {
    for (;;) {
      std::vector<pollfd> fds{
          {program_.get(), POLLIN, 0}, {child_signals_.get(), POLLIN, 0}, {door_.fd(), POLLIN, 0}};
      for (const auto& pool : pools_) {
        const int writing = pool.unsent.empty() ? 0 : POLLOUT;
        fds.push_back({pool.channel.fd(), static_cast<short>(POLLIN | writing), 0});
      }
      const std::size_t pools_end = fds.size();
      for (const auto& [pid, pidfd] : strangers_) fds.push_back({pidfd.get(), POLLIN, 0});
      if (::poll(fds.data(), fds.size(), -1) < 0) {
        if (errno == EINTR) continue;
        throw_errno("wait for requests");
      }
      if (fds[0].revents != 0) on_program_gone();
      if (fds[1].revents != 0) reap();
      if (fds[2].revents != 0) answer_door();
      std::size_t at = 3;
      for (auto pool = pools_.begin(); pool != pools_.end() && at < pools_end; ++at) {
        if ((fds[at].revents & POLLOUT) != 0) send_unsent(*pool);
        const bool open = (fds[at].revents & ~POLLOUT) == 0 || answer(*pool);
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
      leave_if_done();
    }
  }

 private:
  struct Unsent {
    PoolReport report;
    UniqueFd pidfd;
  };
  struct Pool {
    FdChannel channel;
    UniqueFd board;
    UniqueFd supervisor;
    Start start;
    bool closed = false;                // no more workers are needed
    std::vector<std::uint32_t> wanted;  // asked for and not yet started
    std::deque<Unsent> unsent;          // reports that the pool has not made room for: nobody waits for it
  };
  struct Child {
    Pool* pool = nullptr;  // null: its pool was closed, or it is an mh::Process
    std::uint32_t worker = 0;
    shm::Offset record = 0;  // of an mh::Process
    pid_t parent = 0;        // of an mh::Process: who started it
  };

  // ---- Ends.

  // Our death takes all along that we started; so we stay as long as there are detached processes.
  void on_program_gone() {
    program_.reset();
    kill_children_of(0);
    shm::sweep();  // names in /dev/shm that the program did not live to remove
  }

  void leave_if_done() {
    if (program_ || !children_.empty()) return;
    kill_orphans();
    if (condemned_.empty()) ::_exit(0);
  }

  // Ends the processes that `parent` started (0: all that were not detached).
  void kill_children_of(pid_t parent) {
    for (const auto& [pid, child] : children_) {
      const bool detached = child.record != 0 && shm::at<ProcessRecord>(child.record).detached.load() != 0;
      // Not reaped yet, so the pid is still its own.
      if (!detached && (parent == 0 || child.parent == parent)) ::kill(pid, SIGKILL);
    }
  }

  // What workers and processes had started when they ended is our child by now.
  void kill_orphans() {
    for (const pid_t pid : children_of(::getpid())) {
      if (children_.contains(pid) || condemned_.contains(pid)) continue;
      kill_descendants(pid);
      ::kill(pid, SIGKILL);
      condemned_.insert(pid);
    }
  }

  void reap() {
    signalfd_siginfo ignored;
    while (::read(child_signals_.get(), &ignored, sizeof ignored) > 0) {
    }
    bool ended = false;
    for (;;) {
      int status = 0;
      rusage usage{};
      const pid_t pid = ::wait4(-1, &status, WNOHANG | WUNTRACED, &usage);
      if (pid <= 0) break;
      const auto found = children_.find(pid);
      if (found == children_.end()) {
        if (WIFSTOPPED(status)) continue;
        if (condemned_.erase(pid) > 0) ended = true;  // it may leave orphans, too
        shm::sweep(pid);
        continue;
      }
      const Child child = found->second;
      if (!WIFSTOPPED(status)) {
        ended = true;
        children_.erase(found);
        kill_children_of(pid);
        shm::sweep(pid);  // what it held in shared memory
      }
      const auto peak_memory = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
      if (child.record != 0 && !WIFSTOPPED(status)) {
        log::debug("process {} ended: {}", pid, end_text(status));
        record_end(child.record, status, peak_memory);
        shm::release(child.record);
      }
      if (child.pool == nullptr) continue;
      report(*child.pool,
             {.kind = WIFSTOPPED(status) ? WorkerEvent::Kind::stopped : WorkerEvent::Kind::exited,
              .worker = child.worker,
              .pid = pid,
              .status = WIFSTOPPED(status) ? WSTOPSIG(status) : status,
              .peak_memory = peak_memory});
    }
    if (ended) kill_orphans();
  }

  // ---- Requests.

  // As whom the children of a request run: as its sender, who may have given up what we still have.
  std::optional<Credentials> credentials_for(const FdChannel::Message& message, bool says_same) const {
    if (!message.sender) return std::nullopt;
    // Who has our real ids could take on the others, too, if all of ours are one: then it is believed.
    const bool one_user = own_.real_user == own_.user && own_.user == own_.saved_user;
    const bool one_group = own_.real_group == own_.group && own_.group == own_.saved_group;
    if (says_same && one_user && one_group && message.sender->uid == own_.real_user &&
        message.sender->gid == own_.real_group)
      return std::nullopt;
    auto sender = credentials_of(message.sender->pid);
    if (!sender) {  // no /proc: what the kernel says with the message
      const auto [pid, uid, gid] = *message.sender;
      if (uid == own_.real_user && gid == own_.real_group) return std::nullopt;
      sender = Credentials{uid, uid, uid, gid, gid, gid, {}};
    }
    if (*sender == own_) return std::nullopt;
    return sender;
  }

  // `directory` is its place among the message's descriptors.
  template <class Request>
  Start start_of(const Request& request, FdChannel::Message& message, std::size_t directory) const {
    return {.how = request.how,
            .surroundings = BlockReference(request.surroundings),
            .directory = message.fds.size() > directory ? std::move(message.fds[directory]) : UniqueFd(),
            .credentials = credentials_for(message, request.same_credentials == 1)};
  }

  void answer_door() {
    FdChannel::Message message;
    for (;;) {
      const auto received = door_.try_receive(message);
      if (received != FdChannel::Received::message) break;
      if (message_as<Goodbye>(message)) {
        on_program_gone();
      } else if (const auto process = message_as<StartProcess>(message)) {
        start_process(*process, start_of(*process, message, 0));
      } else if (const auto pool = message_as<OpenPool>(message)) {
        open_pool(*pool, message);
      }
    }
  }

  void open_pool(const OpenPool& request, FdChannel::Message& message) {
    Start start = start_of(request, message, 3);
    if (message.fds.size() < 3) {  // we had no descriptor for all: the others close, which the pool sees
      if (!message.fds.empty()) {
        const FdChannel channel(std::move(message.fds[0]));
        for (std::uint32_t worker = 0; worker < request.workers; ++worker) {
          static_cast<void>(channel.try_send(
              bytes_of(PoolReport{.kind = WorkerEvent::Kind::failed, .worker = worker, .status = EMFILE})));
        }
      }
      return;
    }
    Pool& pool = pools_.emplace_back(Pool{FdChannel(std::move(message.fds[0])),
                                          std::move(message.fds[1]),
                                          std::move(message.fds[2]),
                                          std::move(start),
                                          false,
                                          {},
                                          {}});
    for (std::uint32_t worker = 0; worker < request.workers; ++worker) {
      // A fork takes longer than a program may take to find that it has nothing to do: look before each.
      read_requests(pool);
      spawn(pool, worker);
    }
  }

  // Takes what the pool asks for; false if the pool is gone.
  bool read_requests(Pool& pool) {
    FdChannel::Message message;
    for (;;) {
      const auto received = pool.channel.try_receive(message);
      if (received == FdChannel::Received::closed) return false;
      if (received == FdChannel::Received::nothing) return true;
      const auto request = message_as<PoolRequest>(message);
      if (!request) continue;
      switch (request->what) {
        case PoolRequest::What::spawn:
          pool.wanted.push_back(request->worker);
          break;
        case PoolRequest::What::kill:
          kill_worker(pool, request->worker);
          break;
        case PoolRequest::What::close:
          pool.closed = true;
          break;
      }
    }
  }

  void kill_worker(const Pool& pool, std::uint32_t worker) {
    for (const auto& [pid, child] : children_) {
      if (child.pool == &pool && child.worker == worker) ::kill(pid, SIGKILL);
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

  // ---- Births.

  void start_process(const StartProcess& request, Start start) {
    if (!shm::is_block(request.record, shm::BlockKind::process)) return;
    ProcessRecord& record = shm::at<ProcessRecord>(request.record);
    record.zygote.store(shm::this_thread_token());
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) run_as_child("a process", [&] { become_process(request, start, self); });
    if (pid < 0) {
      record_failure(request.record, errno);
      shm::release(request.record);
      return;
    }
    children_[pid] = {.record = request.record, .parent = request.parent};
    log::debug("process {} started for process {}", pid, request.parent);
    record.pid.store(pid);  // the process itself says when it runs
    shm::futex_wake_all(record.state);
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

  void become_process(const StartProcess& request, const Start& start, pid_t zygote) {
    leave(zygote, start);
    if (start.how == ZygoteSpawn::exec) {
      start_afresh(
          FreshStart(fmt::format("{}{},{}", process_argument, request.record, door_for_workers_.fd()),
                     {door_for_workers_.fd()}));
    }
    adopt_zygote_door(UniqueFd(::fcntl(door_for_workers_.fd(), F_DUPFD_CLOEXEC, 0)));
    door_for_workers_.close();
    run_process(request.record);
  }

  void spawn(Pool& pool, std::uint32_t worker) {
    if (pool.closed) {
      report(pool, {.kind = WorkerEvent::Kind::exited, .worker = worker});
      return;
    }
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) run_as_child("a worker", [&] { become_worker(pool, worker, self); });
    if (pid < 0) {
      report(pool, {.kind = WorkerEvent::Kind::failed, .worker = worker, .status = errno});
      return;
    }
    children_[pid] = {.pool = &pool, .worker = worker};
    report(pool, {.kind = WorkerEvent::Kind::started, .worker = worker, .pid = pid}, open_pidfd(pid));
  }

  [[noreturn]] static void start_afresh(const FreshStart& start) {
    start.exec();
    throw_errno("start this program anew for a worker (/proc/self/exe)");
  }

  // What every child of ours does first.
  void leave(pid_t zygote, const Start& start) {
    apply_surroundings(start.surroundings.get(), start.directory.get());
    if (start.credentials) adopt_credentials(*start.credentials);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);     // after the credentials, whose change clears it
    if (::getppid() != zygote) ::_exit(1);  // the zygote died before the line above
    ::sigaction(SIGCHLD, &program_sigchld_, nullptr);
    ::sigprocmask(SIG_SETMASK, &program_mask_, nullptr);
    pools_.clear();  // their channels must close when their processes die, whatever workers still run
    strangers_.clear();
    door_.close();
    program_.reset();
    child_signals_.reset();
  }

  void become_worker(Pool& pool, std::uint32_t worker, pid_t zygote) {
    UniqueFd board = std::move(pool.board);
    UniqueFd supervisor = std::move(pool.supervisor);
    const Start start = std::move(pool.start);
    leave(zygote, start);
    if (start.how == ZygoteSpawn::exec) {
      start_afresh(FreshStart(fmt::format("{}{},{},{},{}", worker_argument, board.get(), supervisor.get(),
                                          door_for_workers_.fd(), worker),
                              {board.get(), supervisor.get(), door_for_workers_.fd()}));
    }
    adopt_zygote_door(UniqueFd(::fcntl(door_for_workers_.fd(), F_DUPFD_CLOEXEC, 0)));
    door_for_workers_.close();
    run_worker(shm::Segment::attach(std::move(board)),
               {.worker = worker, .supervisor_fd = supervisor.release()});
  }

  // ---- Reports. A pool need not read them, so no send may block.

  static void report(Pool& pool, const PoolReport& report, UniqueFd pidfd = {}) {
    const bool again = report.kind == WorkerEvent::Kind::stopped && !pool.unsent.empty() &&
                       pool.unsent.back().report.kind == report.kind &&
                       pool.unsent.back().report.worker == report.worker;
    if (!again) pool.unsent.push_back({report, std::move(pidfd)});
    send_unsent(pool);
  }

  static void send_unsent(Pool& pool) {
    while (!pool.unsent.empty()) {
      if (send(pool.channel, pool.unsent.front()) == FdChannel::Sent::full) return;
      pool.unsent.pop_front();  // sent; or the pool is gone, as poll() will say
    }
  }

  static FdChannel::Sent send(const FdChannel& channel, const Unsent& unsent) {
    const int fd = unsent.pidfd.get();
    if (unsent.pidfd) {
      try {
        return channel.try_send(bytes_of(unsent.report), std::span(&fd, 1));
      } catch (const SystemError&) {  // too many descriptors under way: it can be done without
      }
    }
    return channel.try_send(bytes_of(unsent.report));
  }

  FdChannel door_;
  FdChannel door_for_workers_;
  UniqueFd program_;  // pidfd; none once it is gone
  pid_t program_pid_;
  sigset_t program_mask_;
  struct sigaction program_sigchld_;
  Credentials own_;
  UniqueFd child_signals_;
  std::list<Pool> pools_;
  std::map<pid_t, Child> children_;
  std::set<pid_t> condemned_;            // orphans that were killed and not yet reaped
  std::map<pid_t, UniqueFd> strangers_;  // processes that the user forked and that started an mh::Process
};

}  // namespace

void run_zygote(ZygoteBirth birth) {
  ::prctl(PR_SET_NAME, "mh-zygote");
  shm::name_this_process("zygote");
  Zygote zygote(std::move(birth));
  zygote.announce();
  zygote.run();
}

}  // namespace manyhands::process
