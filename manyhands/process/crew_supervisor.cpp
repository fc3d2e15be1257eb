// The part of Crew that looks after the workers: deaths, deadlines, replacements, the end.

#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>
#include <utility>

#include "manyhands/base/log.hpp"
#include "manyhands/base/pidfd.hpp"
#include "manyhands/process/crew.hpp"
#include "manyhands/process/errors.hpp"
#include "manyhands/process/idle.hpp"
#include "manyhands/process/worker.hpp"
#include "manyhands/process/zygote.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands::process {
namespace {

// A worker that cannot be started is tried again after 10 ms, 20 ms, ... 640 ms. If all have failed as often
// in a row, and none lives, the pool gives up.
constexpr int failed_starts_allowed = 7;
constexpr std::int64_t first_pause_ns = 10'000'000;

// How often the kernel's OOM killer struck on this machine.
std::uint64_t machine_oom_kills() {
  std::ifstream file("/proc/vmstat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("oom_kill ")) return std::stoull(line.substr(9));
  }
  return 0;
}

// The stack that a dead worker's crash handler left, as places in this program. A worker that was started by
// exec has its modules elsewhere: there only the main program's frames are known, by the distance of a
// function that both have.
std::vector<wire::Function> crash_stack(const WorkerSlot& slot) {
  std::vector<wire::Function> stack;
  auto frames =
      std::min<std::size_t>(slot.crash_frames.load(std::memory_order_acquire), slot.crash_stack.size());
  if (frames < slot.crash_stack.size()) frames -= std::min<std::size_t>(frames, slot.outer_frames.load());
  const auto here = reinterpret_cast<std::uint64_t>(&run_worker);
  const auto distance = here - slot.anchor.load();
  const wire::Function anchor = wire::function_at(reinterpret_cast<const void*>(here));
  for (std::size_t i = 0; i < frames; ++i) {
    try {
      const auto address = reinterpret_cast<std::uint64_t>(slot.crash_stack[i]) + distance;
      const wire::Function frame = wire::function_at(reinterpret_cast<const void*>(address));
      if (distance == 0 || frame.module == anchor.module) stack.push_back(frame);
    } catch (const WireError&) {
      // an address in no module of this process: nothing to name
    }
  }
  return stack;
}

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    return known.what();
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

std::string seconds_text(std::int64_t ns) { return fmt::format("{:g} s", static_cast<double>(ns) / 1e9); }

}  // namespace

void Crew::ensure_supervisor() {
  if (supervisor_.running() || closed_) return;
  oom_kills_ = machine_oom_kills();
  supervisor_ = OwnThread([this] { supervise(); });
}

void Crew::wake_supervisor() noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(supervisor_fd_.get(), &one, sizeof one));
}

void Crew::supervise() {
  while (!supervisor_quits_.load()) {
    Completions done;
    std::vector<int> fds;
    std::int64_t timeout_ns = INT64_MAX;
    {
      const MutexLock lock(mutex_);
      view_.board().supervisor_armed.store(
          1);  // before the look at the rings: see Worker::wake_supervisor_if_wanted
      pump(done);
      take_events(done);
      timeout_ns = std::min(enforce_deadlines(), start_again());
      spawner_->add_poll_fds(fds);
    }
    complete(done);
    std::vector<pollfd> polled{{supervisor_fd_.get(), POLLIN, 0}};
    for (const int fd : fds) polled.push_back({fd, POLLIN, 0});
    timespec timeout{.tv_sec = timeout_ns / 1'000'000'000, .tv_nsec = timeout_ns % 1'000'000'000};
    static_cast<void>(
        ::ppoll(polled.data(), polled.size(), timeout_ns == INT64_MAX ? nullptr : &timeout, nullptr));
    std::uint64_t ignored = 0;
    static_cast<void>(!::read(supervisor_fd_.get(), &ignored, sizeof ignored));
  }
}

// ---- What the spawner tells.

void Crew::take_events(Completions& done) {
  for (WorkerEvent& event : spawner_->events()) {
    switch (event.kind) {
      case WorkerEvent::Kind::started:
        on_started(event);
        break;
      case WorkerEvent::Kind::exited:
        on_exited(event, done);
        break;
      case WorkerEvent::Kind::stopped:
        // Others must not rely on it. Taken from its sleep, it looks for work itself when it goes on.
        wake_after_loss(view_, event.worker);
        log::warn("worker {} (pid {}) was stopped by {}; it goes on with SIGCONT", event.worker, event.pid,
                  signal_text(event.status));
        break;
      case WorkerEvent::Kind::failed:
        on_failed_start(event.worker, SystemError("start a worker process", event.status).what(), done);
        break;
      case WorkerEvent::Kind::lost_all:
        on_lost_all(done);
        break;
    }
  }
}

void Crew::on_started(WorkerEvent& event) {
  WorkerState& state = states_[event.worker];
  state.pid = event.pid;
  state.pidfd = std::move(event.pidfd);
  state.gone = false;
  log::debug("worker {} (pid {}) started", event.worker, event.pid);
  if (state.kill_reason != KillReason::none) kill_worker(event.worker, state.kill_reason);
}

void Crew::on_exited(const WorkerEvent& event, Completions& done) {
  const std::uint32_t worker = event.worker;
  WorkerState& state = states_[worker];
  log::debug("worker {} (pid {}) ended: {}", worker, event.pid, end_text(event.status));
  pump(done);  // what it had published before its end counts
  if (const auto thread = view_.slot(worker).thread.exchange(0); order_ != nullptr && thread != 0) {
    shm::race::joined(thread);
    shm::race::released(order_->offset(), shm::race::Part::second);
  }
  const WorkerPhase phase = view_.slot(worker).phase.load();
  recover_calls(worker, event, done);
  recover_maps(worker, event, done);
  // A block that it was filling for a result that never came.
  if (const auto block = view_.slot(worker).block.load(); block != 0 && block != state.last_block) {
    shm::Arena::release(memory_->data(), block);
  }
  const bool died_at_start = phase == WorkerPhase::starting && !closed_ && !broken_;
  std::string reason;
  if (died_at_start) {
    const Death death{.pid = event.pid,
                      .worker = static_cast<std::int32_t>(worker),
                      .signal = WIFSIGNALED(event.status) ? WTERMSIG(event.status) : 0,
                      .exit_code = WIFEXITED(event.status) ? WEXITSTATUS(event.status) : 0,
                      .peak_memory = event.peak_memory,
                      .stack = crash_stack(view_.slot(worker)),
                      .fault_address = view_.slot(worker).fault.load()};
    reason = fmt::format("{} before it could run tasks", WorkerDied(death).what());
    if (options_.has_initializer) {
      break_pool(std::make_exception_ptr(
                     InitializerFailed(reason + ", in the pool's initializer; the pool runs no tasks")),
                 done);
    }
  }
  if (options_.turns != nullptr) options_.turns->ended(memory_, worker);
  state.pid = 0;
  state.pidfd.reset();
  state.kill_reason = KillReason::none;
  state.kill_cell = cell_count;
  state.killed_in_turn = false;
  reset_slot(worker);
  if (died_at_start && spawner_->can_respawn()) {
    on_failed_start(worker, reason, done);
  } else {
    if (phase != WorkerPhase::starting) state.failed_starts = 0;
    replace_worker(worker, done);
  }
  wake_after_loss(view_, worker);
}

// Processes, memory or descriptors may be had again in a moment: the pool does not shrink, and gives up only
// when nothing of it is left.
void Crew::on_failed_start(std::uint32_t worker, const std::string& reason, Completions& done) {
  WorkerState& state = states_[worker];
  state.gone = true;
  if (closed_ || broken_) return;
  ++state.failed_starts;
  const bool hopeless = std::all_of(states_.begin(), states_.end(), [](const WorkerState& s) {
    return s.gone && (s.start_again_ns == 0 || s.failed_starts >= failed_starts_allowed);
  });
  if (!spawner_->can_respawn() || (state.failed_starts >= failed_starts_allowed && hopeless)) {
    if (others_live(worker)) return;
    break_pool(std::make_exception_ptr(PoolBroken(fmt::format(
                   "no worker process of this pool can be started: {} ({} attempts); a new pool may "
                   "be made when the reason is gone",
                   reason, state.failed_starts))),
               done);
    return;
  }
  if (state.failed_starts == 1)
    log::warn("worker {} could not be started: {}; it is tried again", worker, reason);
  const int doublings = std::min(state.failed_starts, failed_starts_allowed) - 1;
  state.start_again_ns = now_ns() + (first_pause_ns << doublings);
  if (supervisor_.running()) wake_supervisor();
}

// Starts what on_failed_start() put off; returns how long until the next, in ns, INT64_MAX for never.
std::int64_t Crew::start_again() {
  std::int64_t next = INT64_MAX;
  const std::int64_t now = now_ns();
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
    WorkerState& state = states_[worker];
    if (state.start_again_ns == 0) continue;
    if (closed_ || broken_) {
      state.start_again_ns = 0;
    } else if (state.start_again_ns > now) {
      next = std::min(next, state.start_again_ns - now);
    } else {
      state.start_again_ns = 0;
      state.gone = false;
      spawner_->spawn(worker);
    }
  }
  return next;
}

void Crew::replace_worker(std::uint32_t worker, Completions& done) {
  states_[worker].gone = true;
  if (closed_ || broken_) return;
  if (spawner_->can_respawn()) {
    states_[worker].gone = false;
    spawner_->spawn(worker);
    return;
  }
  if (std::all_of(states_.begin(), states_.end(), [](const WorkerState& s) { return s.gone; })) {
    break_pool(std::make_exception_ptr(
                   PoolBroken("all worker processes of this pool are dead and cannot be replaced")),
               done);
  }
}

void Crew::reset_slot(std::uint32_t worker) {
  WorkerSlot& slot = view_.slot(worker);
  slot.sleeping.store(0);
  slot.phase.store(WorkerPhase::starting);
  slot.gate.store(options_.turns == nullptr ? 1 : 0);
  slot.cell.store(0);
  slot.job.store(no_job);
  slot.item.store(0);
  slot.started_ns.store(0);
  slot.turn.store(0);
  slot.block.store(0);
  slot.ring_full.store(0);
  slot.tasks_run.store(0);
  slot.crash_frames.store(0);
  slot.fault.store(0);
}

void Crew::on_lost_all(Completions& done) {
  pump(done);
  // A process that is ending closes its channels a moment before it counts as ended; who makes a pool because
  // of our error must not be sent to it.
  const Deadline patience(std::chrono::milliseconds(500));
  while (zygote_lives() && !patience.passed()) static_cast<void>(::poll(nullptr, 0, 1));
  const std::string reason =
      zygote_lives()
          ? "the zygote, from which worker processes are started, has no descriptor left for this pool "
            "(ulimit -n); end other pools first"
          : end_of_zygote() + ", and the workers with it; make a new pool";
  for (auto& state : states_) {
    state.gone = true;
    state.pid = 0;
  }
  break_pool(std::make_exception_ptr(PoolBroken(reason)), done);
}

// ---- What a dead worker leaves behind.

Outcome Crew::loss_of(std::uint32_t worker, const WorkerEvent& event, std::int64_t task, bool in_map,
                      std::uint32_t attempt, std::int64_t deadline_ns) {
  const WorkerState& state = states_[worker];
  Outcome outcome{.payload = {},
                  .is_error = true,
                  .error = nullptr,
                  .place = {.task = task,
                            .attempt = attempt,
                            .worker = static_cast<std::int32_t>(worker),
                            .pid = event.pid,
                            .host = {}}};
  if (state.kill_reason == KillReason::deadline) {
    outcome.error = std::make_exception_ptr(DeadlineExceeded(fmt::format(
        "{} {} ran longer than its deadline of {}; its worker {} (pid {}) was killed and replaced",
        in_map ? "item" : "task", task, seconds_text(deadline_ns), worker, event.pid)));
    return outcome;
  }
  if (state.kill_reason == KillReason::cancelled) {
    outcome.error = std::make_exception_ptr(
        Cancelled("the task was cancelled while it ran; its worker was killed and replaced"));
    return outcome;
  }
  const int signal = WIFSIGNALED(event.status) ? WTERMSIG(event.status) : 0;
  bool out_of_memory = false;
  if (signal == SIGKILL) {
    const auto kills = machine_oom_kills();
    out_of_memory = kills > std::exchange(oom_kills_, kills);
  }
  outcome.error = std::make_exception_ptr(
      WorkerDied({.pid = event.pid,
                  .worker = static_cast<std::int32_t>(worker),
                  .task = task,
                  .in_map = in_map,
                  .attempt = attempt,
                  .signal = signal,
                  .exit_code = WIFEXITED(event.status) ? WEXITSTATUS(event.status) : 0,
                  .out_of_memory = out_of_memory,
                  .peak_memory = event.peak_memory,
                  .stack = crash_stack(view_.slot(worker)),
                  .fault_address = view_.slot(worker).fault.load()}));
  return outcome;
}

// Whether the dead worker had begun what its slot names, and not ended it.
bool Crew::was_running(std::uint32_t worker) const {
  const auto turn = view_.slot(worker).turn.load();
  // Killed for the sake of what it had ended by then: it found the mark when it was about to begin the next.
  const bool stopped_before = states_[worker].killed_in_turn && (turn & doomed) == 0;
  return (turn & 1) != 0 && !stopped_before;
}

void Crew::recover_calls(std::uint32_t worker, const WorkerEvent& event, Completions& done) {
  for (std::uint32_t index = 0; index < cell_count; ++index) {
    CallState& call = calls_[index];
    if (call.pending == nullptr) continue;
    Cell& cell = view_.cell(index);
    const auto state = CellState::unpack(cell.state.load(std::memory_order_acquire));
    if (state.phase != CellPhase::claimed || state.worker != worker) continue;
    // Claimed but not begun: that attempt does not count.
    const WorkerState& dead = states_[worker];
    const bool meant = dead.kill_cell == index;
    const bool begun = meant || (was_running(worker) && view_.slot(worker).cell.load() == index + 1);
    const bool own_death = dead.kill_reason == KillReason::none;
    if ((!begun || (own_death && call.retries_left > 0)) && spawner_->can_respawn() && !closed_ && !broken_) {
      if (begun) {
        --call.retries_left;
        ++cell.attempt;
      }
      const CellState queued{.generation = state.generation + 1,
                             .phase = CellPhase::queued};  // results of the old run are stale
      cell.state.store(queued.pack(), std::memory_order_release);
      if (view_.board().queue.try_push({.cell = index, .generation = queued.generation})) {
        call.pending->queued({.cell = index, .generation = queued.generation});
        log::info("task {} goes to another worker, attempt {}: worker {} (pid {}) died", cell.number,
                  cell.attempt, worker, event.pid);
        continue;
      }
    }
    finish_call(
        index,
        loss_of(worker, event, static_cast<std::int64_t>(cell.number), false, cell.attempt, cell.deadline_ns),
        done);
  }
}

void Crew::recover_maps(std::uint32_t worker, const WorkerEvent& event, Completions& done) {
  for (std::uint32_t index = 0; index < job_count; ++index) {
    if (maps_[index].pending == nullptr) continue;
    const Job& job = view_.job(index);
    const auto generation = job.generation.load();
    const auto owner = chunk_owner(generation, worker + 1);
    for (std::uint32_t i = maps_[index].cursor; i < job.chunks; ++i) {
      if (view_.chunk(index, i).owner.load(std::memory_order_acquire) == owner) {
        recover_chunk({.job = index, .generation = generation, .chunk = i}, worker, event, done);
        break;  // a worker owns one chunk at a time
      }
    }
  }
  pump(done);
}

bool Crew::others_live(std::uint32_t worker) const {
  for (std::uint32_t other = 0; other < options_.workers; ++other) {
    if (other != worker && !states_[other].gone) return true;
  }
  return false;
}

void Crew::recover_chunk(const ChunkClaim& claim, std::uint32_t worker, const WorkerEvent& event,
                         Completions& done) {
  Job& job = view_.job(claim.job);
  MapState& map = maps_[claim.job];
  Chunk& chunk = view_.chunk(claim.job, claim.chunk);
  const WorkerSlot& slot = view_.slot(worker);
  const bool journalled = was_running(worker) && slot.job.load() == claim.job &&
                          slot.generation.load() == claim.generation && slot.chunk.load() == claim.chunk;
  std::uint64_t item = journalled ? std::clamp(slot.item.load(), chunk.begin, chunk.end) : chunk.begin;
  bool lost = journalled && item < chunk.end;  // this item was being computed
  if (lost && job.output_block == 0 && map.pending->has_item(item)) {
    ++item;  // its result had been sent
    lost = false;
  }
  const std::uint32_t attempt = item == chunk.begin ? chunk.attempt : 1;
  const bool retry =
      states_[worker].kill_reason == KillReason::none && static_cast<int>(attempt) <= map.retries;
  const bool can_go_on = spawner_->can_respawn() || others_live(worker);
  job.done_items.fetch_add(item - chunk.begin, std::memory_order_relaxed);
  if (!map.ended && item < chunk.end && (!lost || retry) && can_go_on && !closed_ && !broken_) {
    chunk.attempt = lost ? attempt + 1 : attempt;
    chunk.begin = item;
    log::info("items {} to {} of a map go to another worker, attempt {}: worker {} (pid {}) died", item,
              chunk.end, chunk.attempt, worker, event.pid);
    // Whether it had been subtracted already is not known: too small a count wakes too often, never too
    // rarely.
    reopen_chunk(view_, claim);
    return;
  }
  if (!map.ended && item < chunk.end) {
    fail_map(claim.job,
             loss_of(worker, event, static_cast<std::int64_t>(item), true, attempt, job.deadline_ns), done);
  }
  job.unfinished.fetch_sub(1);
  chunk.owner.store(chunk_owner(claim.generation, chunk_done), std::memory_order_release);
}

void Crew::break_pool(const std::exception_ptr& reason, Completions& done) {
  if (broken_) return;
  broken_ = reason;
  log::info("pool of {} workers is broken: {}", options_.workers, text_of(reason));
  usable_.store(false);
  for (std::uint32_t index = 0; index < cell_count; ++index) {
    if (calls_[index].pending != nullptr) finish_call(index, {.is_error = true, .error = reason}, done);
  }
  for (std::uint32_t index = 0; index < job_count; ++index) {
    if (maps_[index].pending != nullptr) fail_map(index, {.is_error = true, .error = reason}, done);
  }
  stop_workers();
}

void Crew::stop_workers() noexcept {
  view_.board().stop.store(1);
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
    wake_worker(view_, worker);
    auto& full = view_.slot(worker).ring_full;
    if (full.exchange(0) == 1) shm::futex_wake(full);
    auto& gate = view_.slot(worker).gate;
    if (gate.exchange(1) == 0) shm::futex_wake(gate);
  }
}

void Crew::seal() noexcept {
  sealed_.store(true);
  if (outstanding_.load() == 0) stop_workers();
}

// ---- Deadlines.

// Kills workers whose task is overdue; returns how long until the next could be, in ns, INT64_MAX for never.
std::int64_t Crew::enforce_deadlines() {
  std::int64_t shortest = INT64_MAX;  // of what may start at any time
  for (std::uint32_t index = 0; index < cell_count; ++index) {
    if (calls_[index].pending != nullptr && calls_[index].has_deadline)
      shortest = std::min(shortest, view_.cell(index).deadline_ns);
  }
  for (std::uint32_t index = 0; index < job_count; ++index) {
    if (maps_[index].pending != nullptr && maps_[index].has_deadline)
      shortest = std::min(shortest, view_.job(index).deadline_ns);
  }
  if (shortest == INT64_MAX) return INT64_MAX;
  const std::int64_t now = now_ns();
  std::int64_t next = shortest;
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
    const WorkerSlot& slot = view_.slot(worker);
    const auto turn = slot.turn.load(std::memory_order_acquire);
    const auto started = slot.started_ns.load(std::memory_order_acquire);
    if (started == 0 || states_[worker].kill_reason != KillReason::none) continue;
    std::int64_t deadline = INT64_MAX;
    const auto cell = slot.cell.load();
    if (cell != 0) {
      deadline = view_.cell(cell - 1).deadline_ns;
    } else if (const auto job = slot.job.load(); job < job_count) {
      deadline = view_.job(job).deadline_ns;
    }
    if (deadline == INT64_MAX) continue;
    if (slot.started_ns.load(std::memory_order_acquire) != started) {  // another task by now
      next = std::min(next, deadline);
    } else if (now - started >= deadline) {
      kill_in_turn(worker, turn, KillReason::deadline, cell != 0 ? cell - 1 : cell_count);
    } else {
      next = std::min(next, deadline - (now - started));
    }
  }
  return std::max<std::int64_t>(next, 100'000);
}

// Kills the worker if it is still at what it was at in `turn`, a value of its slot's; returns whether it
// does.
bool Crew::kill_in_turn(std::uint32_t worker, std::uint64_t turn, KillReason reason, std::uint32_t cell) {
  if (worker >= options_.workers || (turn & doomed) != 0) return false;
  if (!view_.slot(worker).turn.compare_exchange_strong(turn, turn | doomed)) return false;
  states_[worker].kill_cell = cell;
  states_[worker].killed_in_turn = true;
  kill_worker(worker, reason);
  return true;
}

void Crew::kill_worker(std::uint32_t worker, KillReason reason) {
  if (worker >= options_.workers) return;
  WorkerState& state = states_[worker];
  state.kill_reason = reason;
  log::info("worker {} (pid {}) is killed: its task {}", worker, state.pid,
            reason == KillReason::deadline ? "is over its deadline" : "was cancelled");
  // A worker may run a task before the news of its start has come: on_started() makes up for it.
  if (state.pid == 0 || spawner_ == nullptr) return;
  // Without a pidfd, for want of a descriptor, its parent does it; so it does where it ends what tasks
  // started, too.
  if (state.pidfd && options_.start != Start::fork) {
    send_signal(state.pidfd, SIGKILL);
  } else {
    spawner_->kill(worker);
  }
}

std::vector<int> Crew::pids() {
  require_owner();
  Completions done;
  std::vector<int> pids;
  {
    const MutexLock lock(mutex_);
    take_events(done);
    for (const auto& state : states_) pids.push_back(state.pid);
  }
  complete(done);
  return pids;
}

// ---- The end.

void Crew::close() {
  if (!is_owner()) return;  // a copy of the pool in a forked child
  wait([this] { return outstanding_.load() == 0; }, {});
  shut_down(Workers::finish);
}

void Crew::terminate() {
  if (!is_owner()) return;
  Completions done;
  {
    const MutexLock lock(mutex_);
    if (closed_ || spawner_ == nullptr) return;  // over, or never begun
    cancel_all(done);
  }
  complete(done);
  shut_down(Workers::are_killed);
}

void Crew::cancel_all(Completions& done) {
  pump(done);
  take_events(done);
  usable_.store(false);
  const auto reason = std::make_exception_ptr(Cancelled("the pool was terminated"));
  if (!broken_)
    broken_ = std::make_exception_ptr(PoolBroken("this pool was terminated; it takes no more tasks"));
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
    const auto& slot = view_.slot(worker);
    const bool busy =
        slot.cell.load() != 0 || slot.job.load() != no_job || slot.phase.load() == WorkerPhase::starting;
    if (busy) kill_worker(worker, KillReason::cancelled);
  }
  for (std::uint32_t index = 0; index < cell_count; ++index) {
    if (calls_[index].pending != nullptr) finish_call(index, {.is_error = true, .error = reason}, done);
  }
  for (std::uint32_t index = 0; index < job_count; ++index) {
    if (maps_[index].pending != nullptr) fail_map(index, {.is_error = true, .error = reason}, done);
  }
}

void Crew::shut_down(Workers how) {
  // An initializer runs in each worker, also if no task ever came.
  const bool initializers_finish = how == Workers::finish && options_.has_initializer;
  OwnThread supervisor;
  {
    const MutexLock lock(mutex_);
    if (std::exchange(closed_, true)) return;
    log::debug("pool of {} workers closes", options_.workers);
    usable_.store(false);
    supervisor = std::move(supervisor_);
    if (spawner_ != nullptr && !initializers_finish) spawner_->close();
  }
  stop_workers();
  supervisor_quits_.store(true);
  if (supervisor.running()) {
    wake_supervisor();
    supervisor.join();
  }
  // A worker leaves when it sees `stop`; one that does not (it was stopped, or hangs in a destructor) is
  // killed.
  Deadline patience(std::chrono::seconds(2));
  for (;;) {
    Completions done;
    std::vector<int> fds;
    {
      const MutexLock lock(mutex_);
      if (spawner_ == nullptr) break;
      take_events(done);
      if (std::all_of(states_.begin(), states_.end(), [](const WorkerState& s) { return s.gone; })) break;
      spawner_->add_poll_fds(fds);
      if (patience.passed()) {
        for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
          const bool initializes =
              initializers_finish && view_.slot(worker).phase.load() == WorkerPhase::starting;
          if (!initializes) kill_worker(worker, KillReason::cancelled);
        }
        patience = Deadline(std::chrono::milliseconds(100));
      }
    }
    complete(done);
    std::vector<pollfd> polled(fds.size());
    std::transform(fds.begin(), fds.end(), polled.begin(), [](int fd) { return pollfd{fd, POLLIN, 0}; });
    static_cast<void>(::poll(polled.data(), polled.size(), 50));
  }
  callbacks_.close();
  const MutexLock lock(mutex_);
  // Nobody ends the chunks that were open when all workers were lost, and who waits for them holds the crew.
  for (auto& map : maps_) map = {};
  spawner_.reset();
}

void Crew::give_up_interrupted() {
  const auto left = outstanding_.load();
  if (on_interrupt() == OnInterrupt::raise) {
    throw Interrupted(fmt::format("interrupted by Ctrl-C while waiting for {} call{} or map{}", left,
                                  left == 1 ? "" : "s", left == 1 ? "" : "s"));
  }
  const std::string line =
      fmt::format("manyhands: interrupted; {} call{} or map{} had not finished, the workers are stopped\n",
                  left, left == 1 ? "" : "s", left == 1 ? "" : "s");
  static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
  {
    const MutexLock lock(mutex_);
    for (std::uint32_t worker = 0; worker < options_.workers; ++worker)
      kill_worker(worker, KillReason::cancelled);
  }
  end_by_interrupt();
}

}  // namespace manyhands::process
