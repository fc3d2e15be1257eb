#include "manyhands/process/process.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <list>

#include "manyhands/base/child_process.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/mutex.hpp"
#include "manyhands/base/pidfd.hpp"
#include "manyhands/base/streams.hpp"
#include "manyhands/process/errors.hpp"
#include "manyhands/process/init.hpp"
#include "manyhands/process/interrupt.hpp"
#include "manyhands/process/message.hpp"
#include "manyhands/process/other_threads.hpp"
#include "manyhands/process/process_record.hpp"
#include "manyhands/process/zygote.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/shm/schedule.hpp"

namespace manyhands {
namespace process {

namespace {

// The records of the processes that this one started, for active_children().
struct Children {
  Mutex reaping;  // between waitpid and the note of what it said
  Mutex mutex;
  std::list<shm::BlockPtr> records MH_GUARDED_BY(mutex);
  std::uint64_t started MH_GUARDED_BY(mutex) = 0;
};
Children& children() {
  static Children* const instance =
      new Children;  // never destroyed: a global Process may end after it would be
  return *instance;
}

void end_unborn();

// What a process was called with goes with its record at the latest.
const bool tidies = [] {
  shm::also_sweep(&end_unborn);
  shm::on_last_release(shm::BlockKind::process, [](shm::Offset offset) {
    auto& record = shm::at<ProcessRecord>(offset);
    if (const shm::Offset call = record.call.exchange(0); call != 0) shm::release(call);
    if (record.surroundings != 0) shm::release(record.surroundings);
  });
  return true;
}();

ProcessRecord& record_at(const shm::BlockPtr& block) { return shm::at<ProcessRecord>(block->offset()); }
ProcessState state_of(const ProcessRecord& record) {
  return static_cast<ProcessState>(record.state.load(std::memory_order_acquire));
}
bool has_ended(const ProcessRecord& record) { return state_of(record) >= ProcessState::ended; }

// How a process ended whose status this one could not wait for, as waitpid tells it. Where the system does
// not know: as the process has noted it, if it came to that.
int status_without_wait(const ProcessRecord& record, const UniqueFd& pidfd) noexcept {
  if (const auto status = status_of_reaped(pidfd)) return *status;
  constexpr int killed = SIGKILL;
  const std::int32_t code = record.exit_code.load();
  return code >= 0 ? (code & 0xff) << 8 : killed;
}

// A forked child is reaped by its parent; the zygote reaps its own.
void reap(const shm::BlockPtr& block) {
  ProcessRecord& record = record_at(block);
  if (record.is_fork == 0 || has_ended(record) || record.parent != ::getpid()) return;
  const MutexLock lock(children().reaping);
  if (has_ended(record)) return;
  int status = 0;
  const pid_t pid = record.pid.load();
  const pid_t reaped = ::waitpid(pid, &status, WNOHANG);
  if (reaped == 0 || (reaped < 0 && errno != ECHILD)) return;
  const UniqueFd pidfd(std::exchange(record.fork_pidfd, -1));
  // ECHILD: somebody else's waitpid(-1), or a SIGCHLD that is ignored, has taken the status.
  record_end(block->offset(), reaped == pid ? status : status_without_wait(record, pidfd), 0);
  shm::sweep(pid);  // what it held, as the zygote does for its own
}

void forget_ended_children() {
  Children& all = children();
  const MutexLock lock(all.mutex);
  all.records.remove_if([](const shm::BlockPtr& block) {
    reap(block);
    return has_ended(record_at(block)) || record_at(block).parent != ::getpid();  // before a fork
  });
}

// Processes that were asked for and never forked: their zygote is gone, and what waits for them shall know
// it.
void end_unborn() {
  forget_ended_children();  // reaps forks
  Children& all = children();
  const MutexLock lock(all.mutex);
  for (const auto& block : all.records) {
    ProcessRecord& record = record_at(block);
    if (record.is_fork == 0 && record.pid.load() == 0 && !has_ended(record) && !zygote_lives())
      record_end(block->offset(), SIGKILL, 0);
  }
}

std::uint64_t next_number() {
  Children& all = children();
  const MutexLock lock(all.mutex);
  return ++all.started;
}

// ---- A process of its own.

class RealProcess final : public ProcessLife {
 public:
  RealProcess(shm::BlockPtr block, Start start) : block_(std::move(block)), start_(start) {}
  ~RealProcess() override {
    if (!has_ended(record())) return;  // detached
    const MutexLock lock(children().mutex);
    children().records.remove(block_);
  }
  RealProcess(const RealProcess&) = delete;
  RealProcess& operator=(const RealProcess&) = delete;

  bool join(const Deadline& deadline, const std::source_location& where) override {
    // First until its main thread is known: a Lock may make the two wait for each other.
    if (!wait(deadline, [this] { return state_of(record()) != ProcessState::starting; })) return false;
    if (!has_ended(record())) {
      shm::WaitScope waiting(block_->offset(), shm::intern(where),
                             {.bounded = deadline.bounded(), .for_thread = record().thread.load()});
      const auto done = [&] {
        if (has_ended(record())) return true;
        waiting.look();
        return false;
      };
      if (!wait(deadline, done)) return false;
    }
    if (state_of(record()) == ProcessState::failed)
      throw SystemError(fmt::format("start process '{}'", name), record().status.load());
    comes_after_end();
    return true;
  }

  pid_t pid() override {
    wait({}, [this] { return state_of(record()) != ProcessState::starting; });
    return record().pid.load();
  }

  // Blocks until it is forked, unless its zygote does not run (it was stopped). Throws SystemError if it
  // cannot be.
  void await_birth() {
    wait(Deadline(std::chrono::seconds(1)),
         [this] { return record().pid.load() != 0 || state_of(record()) != ProcessState::starting; });
    if (state_of(record()) == ProcessState::failed)
      throw SystemError(fmt::format("start process '{}'", name), record().status.load());
  }

  std::optional<int> exit_code() override {
    reap(block_);
    if (is_lost() && !shm::is_alive(record().thread.load())) record_end(block_->offset(), SIGKILL, 0);
    if (!has_ended(record())) return std::nullopt;
    comes_after_end();
    const int status = record().status.load();
    if (state_of(record()) == ProcessState::failed) return 1;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

  void signal(int number) override {
    const pid_t to = pid();
    reap(block_);
    if (has_ended(record())) return;
    // Only while it is the same process: a pidfd that was opened too late finds none, or the end in its
    // record.
    const UniqueFd pidfd = open_pidfd(to);
    if (!pidfd || has_ended(record())) return;
    send_signal(pidfd, number);
  }

  int sentinel() override {
    if (sentinel_) return sentinel_.get();
    const pid_t of = pid();
    sentinel_ = open_pidfd(of);
    if (!sentinel_ || has_ended(record())) sentinel_ = UniqueFd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!sentinel_) throw_errno(fmt::format("open a sentinel for process '{}'", name));
    return sentinel_.get();
  }

  void detach() override {
    if (start_ == Start::fork) {
      throw Error(
          fmt::format("process '{}' was started with Start::fork and cannot be detached: it is a child of "
                      "this process and ends with it; "
                      "use Start::zygote",
                      name));
    }
    static_cast<void>(pid());  // the zygote must know of it before this program may end
    record().detached.store(1);
    keep_zygote();
    const MutexLock lock(children().mutex);
    children().records.remove(block_);
  }

 private:
  ProcessRecord& record() const { return record_at(block_); }

  // Waits until done() or the deadline; in slices, to see a zygote or process that went without a word.
  template <class Done>
  bool wait(const Deadline& deadline, Done done) {
    int silent = 0;  // slices in a row in which the process was gone and nobody had said so
    for (;;) {
      reap(block_);
      const std::uint32_t seen = record().state.load(std::memory_order_acquire);
      if (done()) return true;
      if (deadline.passed()) return false;
      const InterruptGuard guard;
      const auto longest =
          start_ == Start::fork ? std::chrono::milliseconds(5) : std::chrono::milliseconds(100);
      const Deadline slice(std::min<Duration>(deadline.left(), longest));
      const auto why = shm::futex_wait(record().state, seen, slice);
      if (InterruptGuard::take()) {
        if (on_interrupt() != OnInterrupt::raise) end_by_interrupt();
        throw Interrupted(fmt::format("interrupted by Ctrl-C while waiting for process '{}'", name));
      }
      if (why != shm::WakeReason::timed_out || start_ == Start::fork) continue;
      silent = is_lost() ? silent + 1 : 0;
      if (silent >= 3) record_end(block_->offset(), SIGKILL, 0);
    }
  }

  // For the race detector: whatever ended it.
  void comes_after_end() const noexcept {
    if (!shm::watching_races()) return;
    shm::race::acquired(block_->offset());
    if (const auto thread = record().thread.load(); thread != 0) shm::race::joined(thread);
  }

  // The zygote is gone, which takes all processes along and tells nobody.
  bool is_lost() const {
    if (start_ == Start::fork || has_ended(record())) return false;
    const auto zygote = record().zygote.load();  // a later one may live
    return zygote != 0 ? !shm::is_alive(zygote) : !zygote_lives();
  }

  shm::BlockPtr block_;
  Start start_;
  UniqueFd sentinel_;
};

// ---- A fiber of mh::explore.

class ExploredProcess final : public ProcessLife {
 public:
  ExploredProcess(std::shared_ptr<void> call, void (*body)(void*))
      : shared_(std::make_shared<Shared>()),
        block_(shm::Block::create(sizeof(ProcessRecord), shm::BlockKind::process)) {
    shared_->call = std::move(call);
    shared_->body = body;
  }

  void start() {
    number_ = shm::current_scheduler()->start(name, &run, shared_.get());
    // Numbered within its run: the same in each.
    if (name.empty()) name = fmt::format("Process-{}", number_);
    shm::point(shm::OpKind::start, block_->offset(), std::source_location::current());
  }

  bool join(const Deadline& deadline, const std::source_location& where) override {
    shm::Scheduler* const scheduler = shm::current_scheduler();
    if (scheduler == nullptr) return true;  // the exploration is over
    const shm::Operation operation{shm::OpKind::join, block_->offset(), shm::intern(where)};
    const shm::Readiness ready{
        [](const void* self) { return static_cast<const ExploredProcess*>(self)->over(); }, this};
    if (deadline.bounded()) return scheduler->step_or_time_out(operation, ready);
    scheduler->step(operation, ready);
    return true;
  }
  pid_t pid() override { return ::getpid(); }
  std::optional<int> exit_code() override {
    return over() ? std::optional<int>(shared_->exit_code) : std::nullopt;
  }
  void signal(int) override {
    throw Error("mh::explore: a process cannot be killed there; explore what happens between living ones");
  }
  int sentinel() override {
    throw Error("mh::explore: its processes are fibers and have no sentinel; use join()");
  }
  void detach() override {}

 private:
  struct Shared : std::enable_shared_from_this<Shared> {
    std::shared_ptr<void> call;
    void (*body)(void*) = nullptr;
    int exit_code = 0;
  };
  static void run(void* self) {
    const auto shared = static_cast<Shared*>(self)->shared_from_this();  // a detached one outlives its handle
    try {
      shared->body(shared->call.get());
    } catch (...) {
      shared->exit_code = 1;
      throw;  // told with the outcome; or the scheduler's own, which ends the fiber
    }
  }
  bool over() const {
    const shm::Scheduler* const scheduler = shm::current_scheduler();
    return scheduler == nullptr || scheduler->ended(number_);
  }

  std::shared_ptr<Shared> shared_;
  shm::BlockPtr block_;
  std::uint32_t number_ = 0;
};

void run_forked(shm::Offset record, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  auto& watched = shm::at<ProcessRecord>(record).fork_is_watched;
  while (watched.load() == 0) shm::futex_wait(watched, 0);
  run_process(record);
}

void fork_here(const shm::BlockPtr& block, const std::string& name) {
  if (const int others = threads_that_forbid_fork(); others > 0) {
    throw Error(
        fmt::format("process '{}' with Start::fork would be a copy of this process, but {}, whose locks the "
                    "copy would hold for ever. Use Start::zygote, or start it before other threads run",
                    name, describe_other_threads(others)));
  }
  flush_streams();
  ProcessRecord& record = record_at(block);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) run_as_child("a process", [&] { run_forked(block->offset(), parent); });
  if (pid < 0) {
    const int error = errno;
    record_failure(block->offset(), error);
    throw SystemError(fmt::format("fork process '{}'", name), error);
  }
  record.fork_pidfd = open_pidfd(pid).release();
  record.pid.store(pid);
  record.fork_is_watched.store(1);
  shm::futex_wake(record.fork_is_watched);
}

}  // namespace

bool is_explored() noexcept { return shm::current_scheduler() != nullptr; }

std::unique_ptr<ProcessLife> start_fiber(const ProcessOptions& options, void (*body)(void*),
                                         std::shared_ptr<void> call) {
  auto life = std::make_unique<ExploredProcess>(std::move(call), body);
  life->name = options.name;
  life->start();
  return life;
}

std::unique_ptr<ProcessLife> start_process(const ProcessOptions& options, const PackedCall& call) {
  if (options.start == Start::spawn && !initialized()) {
    throw Error(
        "a process with Start::spawn starts this program anew, which mh::init(argc, argv) must divert: call "
        "it at the start "
        "of main");
  }
  static_cast<void>(tidies);
  if (options.start != Start::fork) ensure_zygote();
  forget_ended_children();
  shm::BlockPtr block = shm::Block::create(sizeof(ProcessRecord), shm::BlockKind::process);
  ProcessRecord& record = record_at(block);
  auto life = std::make_unique<RealProcess>(block, options.start);
  life->name = options.name.empty() ? fmt::format("Process-{}", next_number()) : options.name;
  record.parent = ::getpid();
  record.exit_code = -1;
  record.fork_pidfd = -1;
  record.is_fork = options.start == Start::fork ? 1 : 0;
  const std::string mine = this_process::name();
  std::copy_n(mine.data(), std::min(mine.size(), record.parent_name.size() - 1), record.parent_name.data());
  record.thunk = call.thunk;
  std::copy_n(life->name.data(), std::min(life->name.size(), record.name.size() - 1), record.name.data());
  {
    const shm::BlockPtr message = make_message(call.writer.bytes(), call.writer.buffers(), call.named);
    shm::add_ref(message->offset());  // the record's
    record.call.store(message->offset());
  }
  if (shm::watching_races()) shm::race::released(block->offset());
  shm::point(shm::OpKind::start, block->offset(), std::source_location::current());
  if (options.start == Start::fork) {
    fork_here(block, life->name);
  } else {
    const Surroundings surroundings = capture_surroundings();
    record.surroundings = surroundings.block->offset();
    shm::add_ref(record.surroundings);
    const auto how = options.start == Start::spawn ? ZygoteSpawn::exec : ZygoteSpawn::fork;
    ask_zygote_for(block->offset(), how, surroundings);
    life->await_birth();
  }
  const MutexLock lock(children().mutex);
  children().records.push_back(std::move(block));
  return life;
}

}  // namespace process

// ---- Process.

Process::Process(Process&& other) noexcept = default;

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    finish();
    life_ = std::move(other.life_);
  }
  return *this;
}

Process::~Process() { finish(); }

void Process::finish() noexcept {
  if (life_ == nullptr) return;
  try {
    if (std::uncaught_exceptions() > exceptions_ && !process::is_explored()) life_->signal(SIGKILL);
    life_->join({}, std::source_location::current());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "manyhands: process '%s' is killed, for it cannot be waited for: %s\n",
                 life_->name.c_str(), e.what());
    if (!process::is_explored()) end();
  }
  life_.reset();
}

void Process::end() noexcept {
  try {
    life_->signal(SIGKILL);
    // With a time limit it is no part of a circle.
    static_cast<void>(life_->join(Deadline(std::chrono::seconds(10)), std::source_location::current()));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "manyhands: process '%s' could not be ended: %s\n", life_->name.c_str(), e.what());
  }
}

process::ProcessLife& Process::life() const {
  if (life_ == nullptr)
    throw Error("this Process was moved from or detached: it stands for no process any more");
  return *life_;
}

bool Process::join(TimeLimit timeout, const std::source_location& where) {
  return life().join(Deadline(timeout), where);
}
bool Process::is_alive() const { return !life().exit_code().has_value(); }
pid_t Process::pid() const { return life().pid(); }
const std::string& Process::name() const noexcept {
  static const std::string none;
  if (life_ == nullptr) return none;
  return life_->name;
}
std::optional<int> Process::exit_code() const { return life().exit_code(); }
void Process::terminate() { life().signal(SIGTERM); }
void Process::kill() { life().signal(SIGKILL); }
int Process::sentinel() const { return life().sentinel(); }
void Process::detach() {
  life().detach();
  life_.reset();
}

std::vector<ProcessInfo> active_children() {
  process::forget_ended_children();
  std::vector<ProcessInfo> active;
  process::Children& all = process::children();
  const MutexLock lock(all.mutex);
  for (const auto& block : all.records) {
    const auto& record = process::record_at(block);
    active.push_back({.name = record.name.data(), .pid = record.pid.load()});
  }
  return active;
}

}  // namespace manyhands
