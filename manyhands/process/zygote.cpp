#include "manyhands/process/zygote.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "manyhands/base/child_process.hpp"
#include "manyhands/base/clock.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/forks.hpp"
#include "manyhands/base/log.hpp"
#include "manyhands/base/pidfd.hpp"
#include "manyhands/base/stack_trace.hpp"
#include "manyhands/base/streams.hpp"
#include "manyhands/process/errors.hpp"
#include "manyhands/process/fresh_start.hpp"
#include "manyhands/process/inherited.hpp"
#include "manyhands/process/other_threads.hpp"
#include "manyhands/process/zygote_messages.hpp"
#include "manyhands/process/zygote_server.hpp"

namespace manyhands::process {
namespace {

using net::FdChannel;

// One zygote per program, hence one door per process.
std::atomic<int> door_fd{-1};
std::atomic<int> door_forks{0};  // forks() of the process that got the door
std::atomic<shm::ThreadToken> zygote_thread{0};
std::atomic<bool> must_stay{false};

// Of the process that made the zygote; written under no lock: two threads that make one are refused.
struct Keeper {
  pid_t pid = 0;    // 0: there is none, or it was waited for
  pid_t owner = 0;  // who may wait for it
  std::optional<int> status;
  Credentials credentials;  // at its birth
};
Keeper& keeper() {
  static Keeper* const instance = new Keeper;  // never destroyed: it is needed when the program ends
  return *instance;
}

bool is_own_zygote() noexcept { return door_forks.load() == forks(); }

// Waits for the keeper, which ends with the zygote; false if it still runs when the deadline has passed.
bool wait_for_keeper(const Deadline& deadline) noexcept {
  Keeper& own = keeper();
  if (own.pid == 0 || own.owner != ::getpid()) return true;
  const UniqueFd pidfd = open_pidfd(own.pid);
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(own.pid, &status, WNOHANG | __WALL);
    if (ended == own.pid || (ended < 0 && errno == ECHILD)) {
      if (ended == own.pid) own.status = status;
      own.pid = 0;
      return true;
    }
    if (deadline.passed()) return false;
    pollfd polled{pidfd.get(), POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline.left()).count();
    static_cast<void>(::poll(&polled, 1, pidfd ? static_cast<int>(std::clamp<long>(left + 1, 1, 50)) : 1));
  }
}

// At the program's end: the zygote ends before it, so that the times of its children count as the program's.
void take_leave() {
  if (keeper().pid == 0 || keeper().owner != ::getpid() || must_stay.load()) return;
  const UniqueFd door(door_fd.exchange(-1));
  if (door) {
    const FdChannel channel{UniqueFd(::fcntl(door.get(), F_DUPFD_CLOEXEC, 0))};
    try {
      if (channel.try_send(bytes_of(Goodbye{})) != FdChannel::Sent::yes) return;
    } catch (...) {
      return;  // it sees the end of the program
    }
  }
  wait_for_keeper(Deadline(std::chrono::seconds(1)));
}

// A copy of this process whose end gives no signal, so that only who asks for it by number waits for it.
pid_t fork_silently() noexcept {
#if defined(__SANITIZE_THREAD__)
  return ::fork();  // the tool has to know of it
#else
  return static_cast<pid_t>(::syscall(SYS_clone, 0, nullptr, nullptr, nullptr, nullptr));
#endif
}

pid_t fork_without_handlers() noexcept {
  return static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

// What the zygote of a guest starts with; only that.
std::optional<FreshStart> fresh_start_of(const ZygoteBirth& birth) {
  if (!is_guest()) return std::nullopt;
  std::uint64_t mask = 0;
  std::memcpy(&mask, &birth.program_mask, sizeof mask);  // the kernel's 64 signals
  const int ignores = birth.program_sigchld.sa_handler == SIG_IGN ? 1 : 0;
  return FreshStart(
      fmt::format("{}{},{},{},{},{},{}", zygote_argument, birth.door.fd(), birth.door_for_workers.fd(),
                  birth.program.get(), birth.program_pid, mask, ignores),
      {birth.door.fd(), birth.door_for_workers.fd(), birth.program.get()});
}

// Its whole life: the zygote's is its status. With a fresh start the program may have other threads, whose
// locks this copy has: it calls nothing that takes one.
void run_keeper(ZygoteBirth& birth, const std::optional<FreshStart>& fresh) {
  ::prctl(PR_SET_NAME, "mh-keeper");
  struct sigaction default_action{};
  default_action.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &default_action, nullptr);
  const pid_t zygote = fresh ? fork_without_handlers() : ::fork();
  if (zygote == 0 && fresh) {
    fresh->exec();
    ::_exit(child_failed);
  }
  if (zygote == 0) run_as_child("the zygote", [&] { run_zygote(std::move(birth)); });
  if (zygote < 0) throw_errno("fork the zygote, from which worker processes are started");
#if !defined(__SANITIZE_THREAD__)
  // Nothing of the program's stays open for our sake.
  if (::syscall(SYS_close_range, 0U, ~0U, 0U) != 0) {
    for (int fd = 0; fd < 1024; ++fd) ::close(fd);
  }
  int status = 0;
  while (::waitpid(zygote, &status, 0) < 0 && errno == EINTR) {
  }
  ::_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
#endif
}

FdChannel open_door() {
  UniqueFd door(::fcntl(door_fd.load(), F_DUPFD_CLOEXEC, 0));
  if (!door)
    throw_errno("ask the zygote for a process: this program has no descriptor left for it (ulimit -n)");
  return FdChannel(std::move(door));
}

void drop_door() noexcept { adopt_zygote_door(UniqueFd()); }

// Blocks until the zygote has said that it serves; false if it ended before.
bool wait_for_birth(const FdChannel& door) {
  for (;;) {
    pollfd polled{door.fd(), POLLIN, 0};
    static_cast<void>(::poll(&polled, 1, -1));  // the other end closes when the zygote ends
    FdChannel::Message message;
    const auto received = door.try_receive(message);
    if (received == FdChannel::Received::closed) return false;
    if (received == FdChannel::Received::nothing) continue;
    if (const auto born = message_as<Born>(message)) {
      set_zygote_thread(static_cast<shm::ThreadToken>(born->thread));
      return true;
    }
  }
}

void start_zygote() {
  auto [zygote_end, our_end] = FdChannel::make_pair();
  shm::ensure_heap();  // before the fork, so that all processes of the program have it
  ZygoteBirth birth;
  birth.program_pid = ::getpid();
  birth.program = open_pidfd(birth.program_pid);
  if (!birth.program) throw_errno("open a pidfd of this process");
  ::sigaction(SIGCHLD, nullptr, &birth.program_sigchld);
  keeper().credentials = own_credentials();
  static const bool takes_leave = std::atexit(take_leave) == 0;
  static_cast<void>(takes_leave);
  if (!is_guest()) note_mappings();  // a fresh start has none of them
  flush_streams();                   // what is buffered now must not be written again by a copy of the buffer
  warm_up_stack_trace();             // once for all workers
  birth.door = std::move(zygote_end);
  birth.door_for_workers = std::move(our_end);  // and for us
  // No handler of the program's runs in a copy that is not the program.
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, nullptr, &birth.program_mask);
  const auto fresh = fresh_start_of(birth);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  const pid_t pid = fork_silently();
  const int error = errno;
  if (pid == 0) run_as_child("the zygote's keeper", [&] { run_keeper(birth, fresh); });
  ::sigprocmask(SIG_SETMASK, &birth.program_mask, nullptr);
  if (pid < 0) {
    throw SystemError("fork the zygote, from which worker processes are started", error);
  }
  keeper().pid = pid;
  keeper().owner = ::getpid();
  keeper().status.reset();
  birth.door.close();  // so that we see the end of the zygote, not of our own copy
  if (!wait_for_birth(birth.door_for_workers)) {
    wait_for_keeper({});
    throw Error("worker processes cannot be started: " + end_of_zygote() + " before it served");
  }
#if defined(__SANITIZE_THREAD__)
  wait_for_keeper({});  // which leaves at once there, and does not know how the zygote ends
  keeper().status.reset();
#endif
  must_stay.store(false);
  adopt_zygote_door(UniqueFd(::fcntl(birth.door_for_workers.fd(), F_DUPFD_CLOEXEC, 0)));
}

// What a request carries with it, and says of its sender.
template <class Request>
Request with_surroundings(Request request, const Surroundings& surroundings) {
  request.surroundings = surroundings.block->offset();
  request.same_credentials = own_credentials() == keeper().credentials ? 1 : 0;
  return request;
}

class ZygoteSpawner final : public Spawner {
 public:
  explicit ZygoteSpawner(FdChannel channel) : channel_(std::move(channel)) {}

  void spawn(std::uint32_t worker) override { ask(PoolRequest::What::spawn, worker); }
  void kill(std::uint32_t worker) override { ask(PoolRequest::What::kill, worker); }
  void close() override { ask(PoolRequest::What::close, 0); }

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
      const auto report = message_as<PoolReport>(message);
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
  void ask(PoolRequest::What what, std::uint32_t worker) {
    if (!channel_.send(bytes_of(PoolRequest{.what = what, .worker = worker}))) lost_ = true;
  }

  FdChannel channel_;
  bool lost_ = false;      // the zygote is gone
  bool reported_ = false;  // and the pool knows
};

}  // namespace

bool have_zygote() noexcept { return door_fd.load(std::memory_order_relaxed) >= 0; }

void adopt_zygote_door(UniqueFd door) noexcept {
  const int before = door_fd.exchange(door.release());
  door_forks.store(forks());
  if (before >= 0) ::close(before);
}

void set_zygote_thread(shm::ThreadToken zygote) noexcept { zygote_thread.store(zygote); }

void ensure_zygote() {
  bool is_gone = false;
  const bool ours = is_own_zygote();
  if (have_zygote()) {
    is_gone = !zygote_lives();
    // A process that the user forked may outlive the program, as daemon() makes it: with a zygote of its own
    // it depends on nobody.
    if (!is_gone && (ours || threads_that_forbid_fork() > 0)) return;
  }
  if (const int others = is_guest() ? 0 : threads_that_forbid_fork(); others > 0) {
    throw Error(fmt::format(
        "worker processes cannot be started now: {}, and a fork would copy the locks that they hold. {}",
        describe_other_threads(others),
        is_gone ? end_of_zygote() + ", and a new one cannot be forked"
                : "Call mh::init(argc, argv) at the start of main; in a library that such a program loads, "
                  "mh::init_in_host()"));
  }
  drop_door();
  wait_for_keeper(Deadline(std::chrono::milliseconds(0)));
  start_zygote();
  log::debug("zygote started{}", is_gone ? ", in place of one that is gone" : "");
}

bool zygote_lives() noexcept {
  const shm::ThreadToken zygote = zygote_thread.load();
  return zygote == 0 || shm::is_alive(zygote);
}

std::string end_of_zygote() {
  std::string text = "the zygote, from which worker processes are started, ";
  wait_for_keeper(Deadline(std::chrono::milliseconds(200)));
  const auto& status = keeper().status;
  if (keeper().owner != ::getpid() || !status || !WIFEXITED(*status)) return text + "is gone";
  const int code = WEXITSTATUS(*status);
  if (code > 128) return text + "was killed by " + signal_text(code - 128);
  return text + fmt::format("ended with status {}", code);
}

void keep_zygote() noexcept { must_stay.store(true); }

bool is_zygote_door(int door) noexcept {
  // A pair has no name, or, since it names senders, the one that the kernel gave it: a zero and five digits.
  // What was connected to a server has the server's.
  constexpr socklen_t unnamed = sizeof(sa_family_t);
  sockaddr_un address{};
  socklen_t size = sizeof address;
  if (::getpeername(door, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      address.sun_family != AF_UNIX ||
      (size != unnamed && (size != unnamed + 6 || address.sun_path[0] != '\0')))
    return false;
  int type = 0;
  size = sizeof type;
  if (::getsockopt(door, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) return false;
  ucred maker{};
  size = sizeof maker;
  return ::getsockopt(door, SOL_SOCKET, SO_PEERCRED, &maker, &size) == 0 &&
         (maker.uid == ::geteuid() || maker.uid == 0);
}

void ask_zygote_for(shm::Offset record, ZygoteSpawn how, const Surroundings& surroundings) {
  const FdChannel door = open_door();
  const StartProcess request =
      with_surroundings(StartProcess{.record = record, .parent = ::getpid(), .how = how}, surroundings);
  const int directory = surroundings.directory.get();
  shm::add_ref(record);                // the zygote's,
  shm::add_ref(request.surroundings);  // both
  const auto take_back = [&] {
    shm::release(record);
    shm::release(request.surroundings);
  };
  try {
    if (door.send(bytes_of(request), std::span(&directory, directory >= 0 ? 1U : 0U))) return;
  } catch (...) {
    take_back();
    throw;
  }
  take_back();
  drop_door();  // the next process may start a new one
  throw Error(end_of_zygote() + "; the next process starts a new one");
}

std::unique_ptr<Spawner> open_zygote_pool(const shm::Segment& board, int supervisor_fd, std::uint32_t workers,
                                          ZygoteSpawn how, const Surroundings& surroundings) {
  ensure_zygote();
  const OpenPool request = with_surroundings(OpenPool{.workers = workers, .how = how}, surroundings);
  for (int attempt = 0;; ++attempt) {
    auto [ours, theirs] = FdChannel::make_pair();
    const FdChannel door = open_door();
    const std::array<int, 4> fds{theirs.fd(), board.fd(), supervisor_fd, surroundings.directory.get()};
    const std::size_t count = surroundings.directory ? fds.size() : fds.size() - 1;
    shm::add_ref(request.surroundings);  // the zygote's
    try {
      if (door.send(bytes_of(request), std::span(fds).first(count)))
        return std::make_unique<ZygoteSpawner>(std::move(ours));
    } catch (...) {
      shm::release(request.surroundings);
      throw;
    }
    shm::release(request.surroundings);
    // It ended a moment ago: a new one is started, or the error says why not.
    drop_door();
    if (attempt == 1) throw Error(end_of_zygote() + ", and the one after it, too");
    ensure_zygote();
  }
}

}  // namespace manyhands::process
