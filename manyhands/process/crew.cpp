#include "manyhands/process/crew.hpp"

#include <fmt/core.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "manyhands/base/cores.hpp"
#include "manyhands/base/forks.hpp"
#include "manyhands/base/log.hpp"
#include "manyhands/process/errors.hpp"
#include "manyhands/process/fork_spawner.hpp"
#include "manyhands/process/idle.hpp"
#include "manyhands/process/zygote.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/wire/packet.hpp"

namespace manyhands::process {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t largest_region = std::uint64_t{4}
                                         << 30;  // ThreadSanitizer leaves little address space
#else
constexpr std::uint64_t largest_region = std::uint64_t{64} << 30;
#endif
constexpr std::uint64_t smallest_region = std::uint64_t{64} << 20;
constexpr std::uint64_t address_space = std::uint64_t{32} << 40;  // that one pool may reserve
constexpr std::uint64_t smallest_limited_region = std::uint64_t{8} << 20;
constexpr std::uint64_t argument_cache_bytes = std::uint64_t{256} << 20;
constexpr std::size_t copy_step = std::size_t{256} << 10;  // input bytes that are published at a time
constexpr std::int64_t spin_ns = 50'000;                   // about what it costs to wake a sleeping process

// Address space for the board. A limit on it (ulimit -v) is meant for the program: then a pool takes a
// thirty-second of it, so that several fit, or what it needs at least.
std::pair<shm::Segment, Layout> reserve_board(std::uint32_t workers) {
  std::uint64_t region = largest_region;
  std::uint64_t allowed = address_space;
  rlimit limit{};
  const bool limited = ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  if (limited) allowed = limit.rlim_cur / 32;
  const std::uint64_t smallest = limited ? smallest_limited_region : smallest_region;
  while (region * (workers + 1) > allowed && region / 2 >= smallest) region /= 2;
  for (;; region /= 2) {
    const Layout layout(workers, region, limited ? max_chunks_if_limited : max_chunks);
    try {
      return {shm::Segment::create(layout.size()), layout};
    } catch (const SystemError&) {
      if (region / 2 < smallest) throw;
    }
  }
}

}  // namespace

std::exception_ptr Outcome::exception() const {
  if (error) return error;
  return payload.read(
      [this](wire::Reader& reader) { return wire::to_exception(wire::unpack<ErrorRecord>(reader), place); });
}

std::shared_ptr<Crew> Crew::start(const CrewOptions& options) {
  auto crew = std::make_shared<Crew>(options);
  crew->start_workers();
  return crew;
}

Crew::Crew(const CrewOptions& options)
    : options_(options),
      initializer_named_(options.initializer_named),
      owner_pid_(::getpid()),
      owner_forks_(forks()),
      memory_(nullptr),
      view_(nullptr, Layout(0, 0)),
      supervisor_fd_([] {
        fill_standard_descriptors();
        return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
      }()),
      spin_cores_(cpu_count()),
      arena_([this] {
        auto [segment, layout] = reserve_board(options_.workers);
        memory_ = std::make_shared<shm::Segment>(std::move(segment));
        view_ = BoardView(memory_->data(), layout);
        view_.board().workers = options_.workers;
        view_.board().max_chunks = layout.max_chunks();
        view_.board().region_size =
            layout.parent_region() == 0 ? 0 : layout.worker_region(0) - layout.parent_region();
        return shm::Arena(*memory_, layout.parent_region(), view_.board().region_size, argument_cache_bytes);
      }()),
      calls_(cell_count),
      maps_(job_count),
      states_(options.workers) {
  if (!supervisor_fd_) throw_errno("create the eventfd of a pool");
  create_board();
}

void Crew::create_board() {
  Board& board = view_.board();
  board.cores = static_cast<std::uint32_t>(spin_cores_);
  if (shm::watching_races()) {
    order_ = shm::Block::create(1, shm::BlockKind::raw);
    board.order = order_->offset();
    comes_before_tasks();  // for the initializer
  }
  board.max_tasks_per_worker = options_.max_tasks_per_worker;
  board.memory_limit = options_.memory_limit;
  const MutexLock lock(mutex_);
  if (options_.has_initializer) {
    const ByteView call = options_.initializer_call;
    board.initializer = options_.initializer;
    board.initializer_size = wire::packet_size(call, {});
    board.initializer_block = arena_.allocate(board.initializer_size);
    wire::write_packet(view_.bytes(board.initializer_block), call, {});
  }
  free_cells_.resize(cell_count);
  for (std::uint32_t i = 0; i < cell_count; ++i)
    free_cells_[i] = cell_count - 1 - i;  // the first cells first: warm pages
  free_cell_count_.store(cell_count);
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) reset_slot(worker);
  board.inner_threads = options_.inner_threads;
  const auto places = place_workers(options_.bind, options_.workers);
  for (std::uint32_t worker = 0; worker < places.size(); ++worker) view_.slot(worker).cpus = places[worker];
}

void Crew::start_workers() {
  const MutexLock lock(mutex_);
  if (options_.start == Start::fork) {
    spawner_ = fork_workers(*memory_, supervisor_fd_.get(), options_.workers);
    for (std::uint32_t worker = 0; worker < options_.workers; ++worker) options_.turns->ask(memory_, worker);
  } else {
    const auto how = options_.start == Start::spawn ? ZygoteSpawn::exec : ZygoteSpawn::fork;
    const Surroundings surroundings = capture_surroundings();
    surroundings_ = surroundings.block;
    view_.board().surroundings = surroundings_->offset();
    spawner_ = open_zygote_pool(*memory_, supervisor_fd_.get(), options_.workers, how, surroundings);
  }
  log::debug("pool of {} workers opened", options_.workers);
}

Crew::~Crew() { terminate(); }

// ---- Sending.

// Its copy in a fork would take what the workers send to the real one.
bool Crew::is_owner() const noexcept { return forks() == owner_forks_; }

void Crew::require_owner() const {
  if (is_owner()) return;
  throw Error(fmt::format(
      "this process (pid {}) is a fork of the one (pid {}) that made the pool: only that one can use it and "
      "its results; make a pool of its own here",
      ::getpid(), owner_pid_));
}

void Crew::require_usable() const {
  if (broken_) std::rethrow_exception(broken_);
  if (closed_) throw PoolBroken("this pool is closed; it takes no more tasks");
}

void Crew::submit(const wire::Function& thunk, const wire::Writer& call, const CallOptions& options,
                  std::shared_ptr<PendingCall> pending, std::vector<shm::BlockPtr> named) {
  require_owner();
  comes_before_tasks();
  for (;;) {
    {
      const MutexLock lock(mutex_);
      require_usable();
      ensure_supervisor();  // before anything is noted: it may find that no thread can be started
      if (!free_cells_.empty()) {
        const std::uint32_t index = free_cells_.back();
        Cell& cell = view_.cell(index);
        const auto state = CellState::unpack(cell.state.load(std::memory_order_relaxed));
        if (call.buffers().empty() && call.bytes().size() <= cell_inline_bytes) {
          cell.block = 0;
          cell.inline_size = static_cast<std::uint32_t>(call.bytes().size());
          if (cell.inline_size > 0) std::memcpy(cell.call.data(), call.bytes().data(), cell.inline_size);
        } else {
          cell.block_size = wire::packet_size(call.bytes(), call.buffers());
          cell.block = arena_.allocate(cell.block_size);
          wire::write_packet(view_.bytes(cell.block), call.bytes(), call.buffers());
        }
        cell.cancel.store(0, std::memory_order_relaxed);
        cell.attempt = 1;
        cell.number = next_number_;
        cell.deadline_ns = options.deadline == Deadline::never ? INT64_MAX : options.deadline.count();
        cell.seed = options.seed.value_or(0);
        cell.thunk = thunk;
        const CellState queued{.generation = state.generation, .phase = CellPhase::queued};
        // Published by the queue's release; a worker's CAS on the cell acquires.
        cell.state.store(queued.pack(), std::memory_order_release);
        if (view_.board().queue.try_push({.cell = index, .generation = state.generation})) {
          free_cells_.pop_back();
          free_cell_count_.fetch_sub(1);
          ++next_number_;
          outstanding_.fetch_add(1);
          pending->queued({.cell = index, .generation = state.generation});
          calls_[index] = {.pending = std::move(pending),
                           .named = shm::NamedBlocks(std::move(named)),
                           .retries_left = options.retries.value_or(options_.retries),
                           .has_deadline = cell.deadline_ns != INT64_MAX};
          view_.board().parent_cpu.store(::sched_getcpu(), std::memory_order_relaxed);
          wake_for_work(view_);
          if (calls_[index].has_deadline) wake_supervisor();
          return;
        }
        const CellState free{.generation = state.generation + 1};  // the queue is full of stale tickets
        cell.state.store(free.pack(), std::memory_order_release);
        if (cell.block != 0) shm::Arena::release(memory_->data(), cell.block);
      }
    }
    // Full: take results meanwhile, and go on when half of the cells are free again, or at least one after a
    // while. A queue full of stale tickets empties as workers come by; nobody tells, hence the bound.
    const auto& queue = view_.board().queue;
    wait([this] { return free_cell_count_.load() >= cell_count / 2 || !usable_.load(); },
         Deadline(std::chrono::microseconds(200)));
    wait([this] { return free_cell_count_.load() > 0 || !usable_.load(); }, {});
    wait([&] { return !queue.full() || !usable_.load(); }, Deadline(std::chrono::milliseconds(1)));
  }
}

SharedBlock Crew::make_input_block(std::uint64_t size) {
  require_owner();
  const MutexLock lock(mutex_);
  return {memory_, arena_.allocate(size), size};
}

std::uint64_t Crew::chunk_size_for(std::uint64_t items, std::size_t wanted) const noexcept {
  std::uint64_t size = std::min<std::uint64_t>(wanted, items);
  if (options_.max_tasks_per_worker != 0) size = 1;  // so that the limit is met exactly
  if (size == 0) size = items / (std::uint64_t{options_.workers} * 256);
  const std::uint64_t most = view_.layout().max_chunks();
  return std::max<std::uint64_t>({size, (items + most - 1) / most, 1});
}

std::optional<std::uint32_t> Crew::take_job() {
  for (std::uint32_t index = 0; index < job_count; ++index) {
    if (maps_[index].pending == nullptr) return index;
  }
  return std::nullopt;
}

void Crew::update_job_limit() {
  std::uint32_t limit = job_count;
  while (limit > 0 && maps_[limit - 1].pending == nullptr) --limit;
  view_.board().job_limit.store(limit, std::memory_order_release);
}

bool Crew::any_job_free() const noexcept {
  for (std::uint32_t index = 0; index < job_count; ++index) {
    if ((view_.job(index).generation.load(std::memory_order_acquire) & 1) == 0) return true;
  }
  return false;
}

MapHandle Crew::start_map(MapRequest request, std::shared_ptr<PendingMap> pending) {
  require_owner();
  comes_before_tasks();
  const std::uint64_t chunk_size = chunk_size_for(request.items, request.options.chunk);
  const auto chunks = static_cast<std::uint32_t>((request.items + chunk_size - 1) / chunk_size);
  const bool in_place =
      options_.start == Start::fork && !request.packed_input;  // workers see the caller's memory
  MapHandle handle;
  std::byte* copy_to = nullptr;
  for (;;) {
    {
      const MutexLock lock(mutex_);
      require_usable();
      ensure_supervisor();
      if (const auto index = take_job()) {
        Job& job = view_.job(*index);
        MapState& map = maps_[*index];
        MapState next;
        const auto state_size = wire::packet_size(request.state, request.state_buffers);
        next.state = SharedBlock(memory_, arena_.allocate(state_size), state_size);
        wire::write_packet(next.state.data(), request.state, request.state_buffers);
        next.input = std::move(request.packed_input);
        if (!request.plain_input.empty() && !in_place) {
          next.input =
              SharedBlock(memory_, arena_.allocate(request.plain_input.size()), request.plain_input.size());
          copy_to = next.input.data();
          next.copying = true;
        }
        if (request.output_size > 0 && request.output_place == 0) {
          const auto size = request.items * request.output_size;
          next.output = SharedBlock(memory_, arena_.allocate(size), size);
        }
        next.retries = request.options.retries.value_or(options_.retries);
        next.has_deadline = request.options.deadline != Deadline::never;
        next.named = shm::NamedBlocks(std::move(request.named));
        next.pending = std::move(pending);
        map = std::move(next);

        const auto generation = job.generation.load(std::memory_order_relaxed) + 1;
        job.stop.store(0, std::memory_order_relaxed);
        job.chunks = chunks;
        job.items = request.items;
        job.deadline_ns = map.has_deadline ? request.options.deadline.count() : INT64_MAX;
        job.seed = request.options.seed.value_or(0);
        job.thunk = request.thunk;
        job.state_block = map.state.offset();
        job.state_size = map.state.size();
        job.input_block = map.input.offset();
        job.input_address = in_place ? reinterpret_cast<std::uint64_t>(request.plain_input.data()) : 0;
        job.output_block = map.output.offset();
        job.input_place = request.input_place;
        job.output_place = request.output_place;
        job.hint.store(0, std::memory_order_relaxed);
        job.ready.store(map.copying ? 0 : request.items, std::memory_order_relaxed);
        job.done_items.store(0, std::memory_order_relaxed);
        job.unfinished.store(static_cast<std::int32_t>(chunks), std::memory_order_relaxed);
        job.wake_each.store(0, std::memory_order_relaxed);
        for (std::uint32_t i = 0; i < chunks; ++i) {
          Chunk& chunk = view_.chunk(*index, i);
          chunk.begin = i * chunk_size;
          chunk.end = std::min(request.items, chunk.begin + chunk_size);
          chunk.attempt = 1;
          chunk.started_ns = 0;
          chunk.completed_ns = 0;
          chunk.owner.store(chunk_owner(generation, chunk_open), std::memory_order_relaxed);
        }
        job.generation.store(generation, std::memory_order_release);  // publishes all of the above
        update_job_limit();
        outstanding_.fetch_add(1);
        handle = {
            .job = *index, .generation = generation, .output = map.output ? map.output.data() : nullptr};
        if (!map.copying) wake_for_work(view_);
        if (map.has_deadline) wake_supervisor();
        break;
      }
    }
    wait([this] { return any_job_free() || !usable_.load(); }, {});
  }
  if (copy_to != nullptr) {
    // Outside of the mutex and piece by piece: the workers start with the first items while we copy the next.
    Job& job = view_.job(handle.job);
    const std::size_t item_size = request.plain_input.size() / request.items;
    for (std::size_t at = 0; at < request.plain_input.size();) {
      const std::size_t size = std::min(copy_step, request.plain_input.size() - at);
      std::memcpy(copy_to + at, request.plain_input.data() + at, size);
      at += size;
      job.ready.store(at / item_size, std::memory_order_release);
      wake_for_work(view_);
    }
  }
  Completions done;
  {
    const MutexLock lock(mutex_);
    maps_[handle.job].copying = false;
    if (maps_[handle.job].ended) pump(done);
  }
  complete(done);
  return handle;
}

// ---- Cancelling.

bool Crew::cancel(CallHandle handle, const CancelOptions& options) {
  if (!is_owner()) return false;
  Completions done;
  bool cancelled = false;
  {
    const MutexLock lock(mutex_);
    pump(done);
    Cell& cell = view_.cell(handle.cell);
    if (calls_[handle.cell].pending != nullptr &&
        CellState::unpack(cell.state.load()).generation == handle.generation) {
      const CellState queued{.generation = handle.generation, .phase = CellPhase::queued};
      auto expected = queued.pack();
      // Claimed by nobody, not even by a worker: its ticket in the queue is stale from here on.
      const CellState taken{.generation = handle.generation, .phase = CellPhase::claimed, .worker = 0xffff};
      if (cell.state.compare_exchange_strong(expected, taken.pack())) {
        finish_call(handle.cell,
                    {.error = std::make_exception_ptr(Cancelled("the task was cancelled before it started"))},
                    done);
        cancelled = true;
      } else {
        cell.cancel.store(1);
        if (options.kill) cancelled = cancel_by_kill(handle);
      }
    }
  }
  complete(done);
  return cancelled;
}

// For a call that a worker has claimed. It may be about to begin, or just ending: then the next look decides.
bool Crew::cancel_by_kill(CallHandle handle) {
  for (;;) {
    const auto state = CellState::unpack(view_.cell(handle.cell).state.load(std::memory_order_acquire));
    if (state.generation != handle.generation || state.phase != CellPhase::claimed) return false;
    const WorkerSlot& slot = view_.slot(std::min(state.worker, options_.workers - 1));
    const auto turn = slot.turn.load(std::memory_order_acquire);
    const auto cell = slot.cell.load();  // in that turn, if the turn has not changed
    if ((turn & 1) != 0 && cell != handle.cell + 1) return false;  // it has ended, and another one runs
    if (!kill_in_turn(state.worker, turn, KillReason::cancelled, handle.cell)) {
      if ((turn & doomed) == 0 && states_[state.worker].kill_reason == KillReason::none) continue;
      return false;
    }
    return calls_[handle.cell].cancelled = true;
  }
}

bool Crew::cancel(MapHandle handle, const CancelOptions& options) {
  if (!is_owner()) return false;
  Completions done;
  bool cancelled = false;
  {
    const MutexLock lock(mutex_);
    pump(done);
    Job& job = view_.job(handle.job);
    MapState& map = maps_[handle.job];
    if (map.pending != nullptr && job.generation.load() == handle.generation && !map.ended) {
      if (options.kill) {
        for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
          const auto& slot = view_.slot(worker);
          const auto turn = slot.turn.load(std::memory_order_acquire);
          if (slot.job.load() == handle.job && slot.generation.load() == handle.generation)
            kill_in_turn(worker, turn, KillReason::cancelled, cell_count);
        }
      }
      fail_map(handle.job, {.error = std::make_exception_ptr(Cancelled("the map was cancelled"))}, done);
      cancelled = true;
    }
  }
  complete(done);
  return cancelled;
}

// ---- Taking results.

void Crew::comes_before_tasks() const noexcept {
  if (order_ != nullptr) shm::race::released(order_->offset(), shm::race::Part::first);
}
void Crew::comes_after_tasks() const noexcept {
  if (order_ != nullptr) shm::race::acquired(order_->offset(), shm::race::Part::second);
}

void Crew::complete(Completions& done) {
  if (done.empty()) return;
  comes_after_tasks();
  for (const auto& call : done.calls) call->complete();
  for (const auto& map : done.maps) map->complete();
  const auto count = static_cast<std::uint32_t>(done.calls.size() + done.maps.size());
  if (outstanding_.fetch_sub(count) == count && sealed_.load()) stop_workers();
  done = {};           // the results are their receivers' alone from here on
  wake_parent(view_);  // other threads may wait for what this one took
}

bool Crew::results_wait() const noexcept {
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
    if (!view_.ring(worker).empty()) return true;
  }
  const auto jobs = view_.board().job_limit.load(std::memory_order_acquire);
  for (std::uint32_t index = 0; index < jobs; ++index) {
    const Job& job = view_.job(index);
    if ((job.generation.load(std::memory_order_acquire) & 1) != 0 && job.unfinished.load() <= 0) return true;
  }
  return false;
}

void Crew::poll() {
  Completions done;
  require_owner();
  if (!mutex_.try_lock()) return;  // another thread takes them, and wakes us if something came
  const bool news = results_wait();
  pump(done);
  mutex_.unlock();
  complete(done);
  if (news) wake_parent(view_);
}

void Crew::pump(Completions& done) {
  // The ends of chunks are read before the rings: the items of a chunk that has ended are in the ring by
  // then.
  std::array<std::uint32_t, job_count> cursors{};
  const auto jobs = view_.board().job_limit.load(std::memory_order_relaxed);
  for (std::uint32_t job = 0; job < jobs; ++job) cursors[job] = scan_job(job);
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) drain(worker, done);
  for (std::uint32_t job = 0; job < jobs; ++job) advance_job(job, cursors[job], done);
}

void Crew::drain(std::uint32_t worker, Completions& done) {
  shm::MessageRing ring = view_.ring(worker);
  bool any = false;
  while (const auto message = ring.front()) {
    handle(worker, *message, done);
    ring.pop();
    any = true;
  }
  if (!any) return;
  auto& full = view_.slot(worker).ring_full;
  std::atomic_thread_fence(std::memory_order_seq_cst);  // the room comes before this look
  if (full.load(std::memory_order_relaxed) == 1 && full.exchange(0) == 1) shm::futex_wake(full);
}

void Crew::handle(std::uint32_t worker, ByteView message, Completions& done) {
  ResultHeader header;
  if (message.size() < sizeof header) return;
  std::memcpy(&header, message.data(), sizeof header);
  Outcome outcome{.payload = {},
                  .is_error = header.kind != ResultKind::value && header.kind != ResultKind::item_value,
                  .error = nullptr,
                  .place = {.task = -1,
                            .attempt = header.attempt,
                            .worker = static_cast<std::int32_t>(worker),
                            .pid = view_.slot(worker).pid.load(),
                            .host = {}},
                  .started_ns = header.started_ns,
                  .completed_ns = header.completed_ns};
  if (header.message != 0) {
    outcome.payload = Payload(shm::Block::attach(header.message, shm::BlockKind::message));
    shm::release(header.message);  // the ring's own reference
  } else if (header.block != 0) {
    states_[worker].last_block = header.block;
    outcome.payload = Payload(SharedBlock(memory_, header.block, header.block_size));
  } else {
    outcome.payload = Payload(message.subspan(sizeof header));
  }
  switch (header.kind) {
    case ResultKind::value:
    case ResultKind::error: {
      if (header.index >= cell_count || calls_[header.index].pending == nullptr) return;
      const Cell& cell = view_.cell(header.index);
      if (CellState::unpack(cell.state.load(std::memory_order_relaxed)).generation != header.generation)
        return;
      outcome.place.task = static_cast<std::int64_t>(cell.number);
      // It ended by itself when its time was over, as stop_requested() has it do, or just before it was
      // killed: it ran too long all the same.
      if (!outcome.is_error && cell.deadline_ns != INT64_MAX &&
          header.completed_ns - header.started_ns >= cell.deadline_ns) {
        outcome.is_error = true;
        outcome.error = std::make_exception_ptr(DeadlineExceeded(fmt::format(
            "task {} ran longer than its deadline of {:g} s; worker {} (pid {}) goes on", cell.number,
            static_cast<double>(cell.deadline_ns) / 1e9, worker, outcome.place.pid)));
      }
      if (calls_[header.index]
              .cancelled) {  // it ended all the same before the kill came; cancel() has said it does not
        outcome.is_error = true;
        outcome.error = std::make_exception_ptr(Cancelled("the task was cancelled while it ran"));
      }
      finish_call(header.index, std::move(outcome), done);
      return;
    }
    case ResultKind::item_value:
    case ResultKind::item_error: {
      if (header.index >= job_count) return;
      MapState& map = maps_[header.index];
      const Job& job = view_.job(header.index);
      if (map.pending == nullptr || map.ended ||
          job.generation.load(std::memory_order_relaxed) != header.generation)
        return;
      if (header.item >= job.items) return;
      if (header.kind == ResultKind::item_value) {
        map.pending->deliver_item(header.item, std::move(outcome.payload));
      } else {
        outcome.place.task = static_cast<std::int64_t>(header.item);
        fail_map(header.index, std::move(outcome), done);
      }
      return;
    }
    case ResultKind::start_failed: {
      try {
        std::rethrow_exception(outcome.exception());
      } catch (const std::exception& e) {
        try {
          std::throw_with_nested(InitializerFailed(
              fmt::format("the pool's initializer failed in worker {} (pid {}): {}; the pool runs no tasks",
                          worker, view_.slot(worker).pid.load(), e.what())));
        } catch (...) {
          break_pool(std::current_exception(), done);
        }
      } catch (...) {
        break_pool(std::make_exception_ptr(
                       InitializerFailed("the pool's initializer failed; the pool runs no tasks")),
                   done);
      }
      return;
    }
  }
}

void Crew::finish_call(std::uint32_t index, Outcome outcome, Completions& done) {
  CallState& call = calls_[index];
  call.pending->deliver(std::move(outcome));
  done.calls.push_back(std::move(call.pending));
  call.pending = nullptr;
  Cell& cell = view_.cell(index);
  if (cell.block != 0) shm::Arena::release(memory_->data(), std::exchange(cell.block, 0));
  const CellState free{.generation =
                           CellState::unpack(cell.state.load(std::memory_order_relaxed)).generation + 1};
  cell.state.store(free.pack(), std::memory_order_release);
  free_cells_.push_back(index);
  free_cell_count_.fetch_add(1);
}

std::uint32_t Crew::scan_job(std::uint32_t index) const {
  const Job& job = view_.job(index);
  const MapState& map = maps_[index];
  if (map.pending == nullptr) return 0;
  const auto done = chunk_owner(job.generation.load(std::memory_order_relaxed), chunk_done);
  std::uint32_t cursor = map.cursor;
  // acquire: the results of the chunk are visible
  while (cursor < job.chunks && view_.chunk(index, cursor).owner.load(std::memory_order_acquire) == done)
    ++cursor;
  return cursor;
}

void Crew::advance_job(std::uint32_t index, std::uint32_t cursor, Completions& done) {
  MapState& map = maps_[index];
  Job& job = view_.job(index);
  if (map.pending == nullptr) return;
  map.cursor = cursor;
  if (cursor < job.chunks) return;
  if (!map.ended) {
    map.ended = true;
    map.pending->deliver_end(std::nullopt, std::move(map.output), chunk_runs(index));
    done.maps.push_back(map.pending);
  }
  if (map.copying) return;  // start_map comes back to it
  job.generation.fetch_add(1, std::memory_order_release);
  map = {};
  update_job_limit();
}

void Crew::fail_map(std::uint32_t index, Outcome outcome, Completions& done) {
  MapState& map = maps_[index];
  Job& job = view_.job(index);
  if (map.ended) return;
  map.ended = true;
  map.pending->deliver_end(std::move(outcome), {}, chunk_runs(index));
  done.maps.push_back(map.pending);
  job.stop.store(1);
  const auto generation = job.generation.load(std::memory_order_relaxed);
  for (std::uint32_t i = map.cursor; i < job.chunks; ++i) {  // nobody shall start them any more
    auto open = chunk_owner(generation, chunk_open);
    if (view_.chunk(index, i).owner.compare_exchange_strong(open, chunk_owner(generation, chunk_done)))
      job.unfinished.fetch_sub(1);
  }
}

std::vector<ChunkRun> Crew::chunk_runs(std::uint32_t index) const {
  const Job& job = view_.job(index);
  std::vector<ChunkRun> runs;
  runs.reserve(job.chunks);
  for (std::uint32_t i = 0; i < job.chunks; ++i) {
    const Chunk& chunk = view_.chunk(index, i);
    const bool done =
        chunk.owner.load(std::memory_order_acquire) == chunk_owner(job.generation.load(), chunk_done);
    runs.push_back({.first = chunk.begin,
                    .count = chunk.end - chunk.begin,
                    .started_ns = done ? chunk.started_ns : 0,
                    .completed_ns = done ? chunk.completed_ns : 0,
                    .worker = done ? chunk.worker : 0,
                    .attempt = chunk.attempt});
  }
  return runs;
}

// ---- Waiting.

bool Crew::worker_needs_this_core() const noexcept {
  const auto here = ::sched_getcpu();
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
    if (view_.slot(worker).cpu.load(std::memory_order_relaxed) == here &&
        !view_.board().idle.contains(worker))
      return true;
  }
  return false;
}

bool Crew::wait(const std::function<bool()>& done, const Deadline& deadline,
                const std::function<bool()>& idle) {
  const auto over = [&] { return done() && (comes_after_tasks(), true); };
  if (over()) return true;
  require_owner();
  std::optional<InterruptGuard> guard;  // from the first sleep on: a short wait shall cost nothing
  for (;;) {
    if (guard && InterruptGuard::take()) give_up_interrupted();
    poll();
    if (over()) return true;
    if (deadline.passed()) return false;
    if (idle && idle()) continue;
    const Board& board = view_.board();
    // Spinning pays while the workers leave a core to us.
    view_.board().parent_cpu.store(::sched_getcpu(), std::memory_order_relaxed);
    if (options_.workers - board.idle.count(options_.workers) < static_cast<std::uint32_t>(spin_cores_)) {
      const auto until = now_ns() + spin_ns;
      bool news = false;
      do {
        const int burst = worker_needs_this_core() ? 1 : 64;
        for (int i = 0; i < burst && !news; ++i) {
          news = results_wait() || done();
          shm::cpu_relax();
        }
        if (!news) ::sched_yield();  // to a worker that was woken onto this core
      } while (!news && now_ns() < until);
      if (news) continue;
    }
    auto& word = view_.board().parent_sleeping;
    word.store(1);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // before the last look: see wake_parent
    poll();
    if (over()) return true;
    if (!guard) guard.emplace();
    // Bounded only so that Ctrl-C, which any thread may get, is seen soon.
    const auto slice = std::min<Duration>(deadline.left(), std::chrono::milliseconds(100));
    static_cast<void>(shm::futex_wait(word, 1, Deadline(slice)));
  }
}

std::uint64_t Crew::items_done(MapHandle handle) const noexcept {
  const Job& job = view_.job(handle.job);
  std::uint64_t done = job.done_items.load(std::memory_order_relaxed);
  for (std::uint32_t worker = 0; worker < options_.workers; ++worker) {
    const WorkerSlot& slot = view_.slot(worker);
    if (slot.job.load() != handle.job || slot.generation.load() != handle.generation) continue;
    const auto begin =
        view_.chunk(handle.job, std::min(slot.chunk.load(), view_.layout().max_chunks() - 1)).begin;
    const auto item = slot.item.load();
    if (item > begin) done += item - begin;
  }
  return std::min(done, job.items);
}

bool Crew::item_done(MapHandle handle, std::uint64_t item, std::uint64_t chunk_size) const noexcept {
  const Chunk& chunk = view_.chunk(handle.job, static_cast<std::uint32_t>(item / chunk_size));
  const auto owner = chunk.owner.load(std::memory_order_acquire);
  if (owner != chunk_owner(handle.generation, chunk_done)) return false;
  comes_after_tasks();
  return true;
}

void Crew::watch_items(MapHandle handle, int change) noexcept {
  view_.job(handle.job).wake_each.fetch_add(static_cast<std::uint32_t>(change));
}

void Crew::want_results(int change) noexcept {
  view_.board().results_wanted.fetch_add(static_cast<std::uint32_t>(change));
  if (change > 0) wake_supervisor();
}

void Crew::run_callback(std::function<void()> callback) { callbacks_.post(std::move(callback)); }

}  // namespace manyhands::process
