#include "manyhands/process/worker.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

#include "manyhands/base/child_process.hpp"
#include "manyhands/base/forks.hpp"
#include "manyhands/base/stack_trace.hpp"
#include "manyhands/base/streams.hpp"
#include "manyhands/process/board.hpp"
#include "manyhands/process/crash.hpp"
#include "manyhands/process/errors.hpp"
#include "manyhands/process/idle.hpp"
#include "manyhands/process/message.hpp"
#include "manyhands/process/placement.hpp"
#include "manyhands/process/surroundings.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/task/state.hpp"
#include "manyhands/task/this_task.hpp"
#include "manyhands/wire/call.hpp"
#include "manyhands/wire/packet.hpp"
#include "manyhands/wire/remote_error.hpp"

namespace manyhands::process {
namespace {

constexpr std::uint64_t result_cache_bytes = std::uint64_t{160} << 20;

// The board as a worker has it mapped. A process that a task forks has a private copy of it from its birth
// on: whatever it goes on to do there, results and journal of the worker stay the worker's.
struct BoardMapping {
  std::byte* data = nullptr;
  std::size_t size = 0;
  int fd = -1;
};
BoardMapping own_board;

void keep_copies_apart(const shm::Segment& board) {
  own_board = {board.data(), board.size(), board.fd()};
  ::pthread_atfork(nullptr, nullptr, [] {
    void* const mapped = ::mmap(own_board.data, own_board.size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, own_board.fd, 0);
    if (mapped == MAP_FAILED) ::_exit(child_failed);
  });
}

// Ends a process that a task forked and let return into the worker's loop: there is one worker of a number.
class CopyGuard {
 public:
  void end_copy() const noexcept {
    if (forks() == forks_) return;
    constexpr std::string_view line =
        "manyhands: a task forked a process that did not end by _exit(); it is ended\n";
    static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
    ::_exit(child_failed);
  }

 private:
  int forks_ = forks();
};

class Worker {
 public:
  Worker(shm::Segment& segment, const WorkerBirth& birth)
      : segment_(segment),
        view_(segment.data()),
        birth_(birth),
        slot_(view_.slot(birth.worker)),
        searcher_(view_, birth.worker),
        ring_(view_.ring(birth.worker)),
        arena_(segment, view_.layout().worker_region(birth.worker), view_.board().region_size,
               result_cache_bytes) {}

  void run();

 private:
  class CallReply;
  class MapIo;

  bool initialize();
  void limit_memory() const;
  bool step();
  bool run_one_call();
  bool run_one_chunk();
  void run_cell(Cell& cell, std::uint32_t index, std::uint32_t generation);
  void run_chunk(const ChunkClaim& claim);
  const wire::RangeRunner& runner_of(const ChunkClaim& claim);
  bool must_retire(std::uint64_t next_tasks) const noexcept;
  void next_turn() noexcept;

  // What the race detector has to know.
  void comes_after_submission() const noexcept;
  void comes_before_results() const noexcept;

  void send(ResultHeader header, ByteView message, std::span<const ByteView> buffers);
  void send_error(ResultHeader header, const std::exception_ptr& exception);
  bool out_of_memory(const std::exception_ptr& exception) const;
  std::exception_ptr memory_limit_error() const;
  void wake_supervisor_if_wanted();

  CopyGuard copy_;
  shm::Segment& segment_;
  BoardView view_;
  WorkerBirth birth_;
  WorkerSlot& slot_;
  Searcher searcher_;
  shm::MessageRing ring_;
  shm::Arena arena_;
  wire::Writer writer_{out_of_band_from};
  shm::Parcel parcel_;  // the shared memory that the result being packed names
  // The map whose function was unpacked last.
  std::uint32_t runner_job_ = no_job;
  std::uint32_t runner_generation_ = 0;
  std::unique_ptr<wire::RangeRunner> runner_;
};

void Worker::run() {
  while (slot_.gate.load(std::memory_order_acquire) == 0) static_cast<void>(shm::futex_wait(slot_.gate, 0));
  if (!initialize()) return;
  slot_.phase.store(WorkerPhase::running, std::memory_order_release);
  while (view_.board().stop.load(std::memory_order_acquire) == 0) {
    if (must_retire(1)) {
      searcher_.found();
      slot_.phase.store(WorkerPhase::retired, std::memory_order_release);
      return;
    }
    if (!step()) {
      flush_standard_output();
      searcher_.wait();
    }
  }
}

void Worker::limit_memory() const {
  const auto limit = view_.board().memory_limit;
  if (limit == 0) return;
  // RLIMIT_DATA counts private writable memory, not the board: what this process has now, and the limit on
  // top.
  std::ifstream status("/proc/self/status");
  std::uint64_t now = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmData:")) now = std::stoull(line.substr(7)) * 1024;
  }
  const rlimit bound{now + limit, now + limit};
  ::setrlimit(RLIMIT_DATA, &bound);
}

bool Worker::initialize() {
  const Board& board = view_.board();
  comes_after_submission();
  try {
    limit_memory();
    if (board.initializer_block == 0) return true;
    const wire::PacketView packet({segment_.data() + board.initializer_block, board.initializer_size});
    wire::Reader reader(packet.message(), packet.buffers());
    const auto thunk =
        reinterpret_cast<wire::CallThunk>(const_cast<void*>(wire::address_of(board.initializer)));
    class NoReply final : public wire::Reply {
     public:
      wire::Writer& writer() override { return writer_; }
      void value(const wire::Writer&) override {}

     private:
      wire::Writer writer_;
    } reply;
    const ThrowTracer tracer;
    thunk(reader, reply);
    copy_.end_copy();
    flush_standard_output();
    return true;
  } catch (...) {
    send_error({.kind = ResultKind::start_failed}, std::current_exception());
    slot_.phase.store(WorkerPhase::failed_to_start, std::memory_order_release);
    return false;
  }
}

bool Worker::must_retire(std::uint64_t next_tasks) const noexcept {
  const auto limit = view_.board().max_tasks_per_worker;
  const auto run = slot_.tasks_run.load(std::memory_order_relaxed);  // our own counter
  return limit != 0 && run != 0 && run + next_tasks > limit;
}

// Between what the parent may kill this worker for, and what it may not.
void Worker::next_turn() noexcept {
  copy_.end_copy();
  const auto next = (slot_.turn.load(std::memory_order_relaxed) & ~doomed) + 1;
  if ((slot_.turn.exchange(next, std::memory_order_acq_rel) & doomed) == 0) return;
  for (;;) ::pause();  // SIGKILL is on its way
}

bool Worker::step() { return run_one_call() || run_one_chunk(); }

// ---- Calls.

bool Worker::run_one_call() {
  std::uint32_t generation = 0;
  std::uint32_t index = 0;
  const bool claimed = view_.board().queue.claim([&](shm::Ticket ticket) {
    const CellState queued{.generation = ticket.generation, .phase = CellPhase::queued};
    auto expected = queued.pack();
    index = ticket.cell;
    generation = ticket.generation;
    const CellState mine{
        .generation = ticket.generation, .phase = CellPhase::claimed, .worker = birth_.worker};
    // acquire: the call as the parent wrote it; the claim names us in the same step
    return view_.cell(ticket.cell)
        .state.compare_exchange_strong(expected, mine.pack(), std::memory_order_acq_rel);
  });
  if (!claimed) return false;
  searcher_.found();
  run_cell(view_.cell(index), index, generation);
  return true;
}

class Worker::CallReply final : public wire::Reply {
 public:
  CallReply(Worker& worker, const ResultHeader& header) : worker_(worker), header_(header) {}
  wire::Writer& writer() override {
    worker_.writer_.clear();
    static_cast<void>(worker_.parcel_.take());  // of a result that could not be packed
    return worker_.writer_;
  }
  void value(const wire::Writer& writer) override {
    header_.completed_ns = now_ns();
    flush_standard_output();
    worker_.send(header_, writer.bytes(), writer.buffers());
    worker_.writer_.clear();  // it may hold copies
  }

 private:
  Worker& worker_;
  ResultHeader header_;
};

void Worker::comes_after_submission() const noexcept {
  if (shm::watching_races() && view_.board().order != 0)
    shm::race::acquired(view_.board().order, shm::race::Part::first);
}
void Worker::comes_before_results() const noexcept {
  if (shm::watching_races() && view_.board().order != 0)
    shm::race::released(view_.board().order, shm::race::Part::second);
}

void Worker::run_cell(Cell& cell, std::uint32_t index, std::uint32_t generation) {
  comes_after_submission();
  ResultHeader header{.kind = ResultKind::value,
                      .index = index,
                      .generation = generation,
                      .attempt = cell.attempt,
                      .item = 0,
                      .started_ns = now_ns(),
                      .completed_ns = 0,
                      .block = 0,
                      .block_size = 0,
                      .message = 0};
  slot_.cell.store(index + 1, std::memory_order_relaxed);
  next_turn();
  slot_.started_ns.store(header.started_ns, std::memory_order_release);
  slot_.tasks_run.fetch_add(1, std::memory_order_relaxed);
  const task::Context context{
      .stop = &cell.cancel,
      .item = nullptr,
      .index = static_cast<std::int64_t>(cell.number),
      .deadline_at_ns = cell.deadline_ns == INT64_MAX ? INT64_MAX : header.started_ns + cell.deadline_ns,
      .attempt = cell.attempt,
      .worker = static_cast<std::int32_t>(birth_.worker),
      .seed = cell.seed};
  const task::ContextScope scope(context);
  const ThrowTracer tracer;
  try {
    const auto thunk = reinterpret_cast<wire::CallThunk>(const_cast<void*>(wire::address_of(cell.thunk)));
    CallReply reply(*this, header);
    if (cell.block == 0) {
      wire::Reader reader({cell.call.data(), cell.inline_size});
      thunk(reader, reply);
    } else {
      const wire::PacketView packet({segment_.data() + cell.block, cell.block_size});
      wire::Reader reader(packet.message(), packet.buffers());
      thunk(reader, reply);
    }
  } catch (...) {
    header.kind = ResultKind::error;
    header.completed_ns = now_ns();
    flush_standard_output();
    send_error(header, std::current_exception());
  }
  // The outcome is published: the cell may be another call's by now. Only the slot is ours.
  next_turn();
  slot_.started_ns.store(0, std::memory_order_relaxed);
  slot_.cell.store(0, std::memory_order_relaxed);
}

// ---- Maps.

class Worker::MapIo final : public wire::RangeIo {
 public:
  MapIo(Worker& worker, const ChunkClaim& claim, task::Context& context)
      : worker_(worker), claim_(claim), job_(worker.view_.job(claim.job)), context_(context) {
    const Chunk& chunk = worker.view_.chunk(claim.job, claim.chunk);
    begin = first_ = chunk.begin;
    end = chunk.end;
    attempt_ = chunk.attempt;
    input = job_.input_address != 0 ? reinterpret_cast<const std::byte*>(job_.input_address)
                                    : worker.segment_.data() + job_.input_block;
    output = worker.segment_.data() + job_.output_block;
    if (job_.input_place != 0) input = shm::address_of_block(job_.input_place);
    if (job_.output_place != 0) output = shm::address_of_block(job_.output_place);
    current = &worker.slot_.item;
    stop = &job_.stop;
    watched = job_.deadline_ns != INT64_MAX;
  }

  void starting() override {
    started_ns_ = now_ns();
    context_.deadline_at_ns = started_ns_ + job_.deadline_ns;
    worker_.slot_.started_ns.store(started_ns_, std::memory_order_release);
  }
  // It ended by itself when its time was over, as stop_requested() has it do, or just before it was killed.
  void computed() override {
    if (now_ns() - started_ns_ < job_.deadline_ns) return;
    throw DeadlineExceeded(
        fmt::format("item {} ran longer than its deadline of {:g} s; worker {} (pid {}) goes on",
                    current->load(std::memory_order_relaxed), static_cast<double>(job_.deadline_ns) / 1e9,
                    worker_.birth_.worker, ::getpid()));
  }
  wire::Reader item(std::uint64_t index) override {
    PackedItem place;
    std::memcpy(&place, input + index * sizeof place, sizeof place);
    packet_.emplace(ByteView(input + place.begin, place.size));
    return wire::Reader(packet_->message(), packet_->buffers());
  }
  wire::Writer& writer() override {
    worker_.writer_.clear();
    static_cast<void>(worker_.parcel_.take());  // of a result that could not be packed
    return worker_.writer_;
  }
  void result(std::uint64_t index, const wire::Writer& writer) override {
    const auto now = now_ns();
    worker_.send(header(ResultKind::item_value, index, now), writer.bytes(), writer.buffers());
    worker_.writer_.clear();  // it may hold copies
  }
  ResultHeader header(ResultKind kind, std::uint64_t index, std::int64_t now) const {
    return {.kind = kind,
            .index = claim_.job,
            .generation = claim_.generation,
            .attempt = index == first_ ? attempt_ : 1,
            .item = index,
            .started_ns = now,
            .completed_ns = now,
            .block = 0,
            .block_size = 0,
            .message = 0};
  }

 private:
  Worker& worker_;
  const ChunkClaim& claim_;
  Job& job_;
  task::Context& context_;
  std::int64_t started_ns_ = 0;  // of the item, if watched
  std::uint64_t first_ = 0;      // the chunk's first item, which may have been tried before
  std::uint32_t attempt_ = 1;    // of it
  std::optional<wire::PacketView> packet_;
};

bool Worker::run_one_chunk() {
  const auto jobs = view_.board().job_limit.load(std::memory_order_acquire);
  for (std::uint32_t index = 0; index < jobs; ++index) {
    ChunkClaim claim{};
    if (!claim_chunk(view_, index, birth_.worker, claim)) continue;
    searcher_.found();
    run_chunk(claim);
    return true;
  }
  return false;
}

const wire::RangeRunner& Worker::runner_of(const ChunkClaim& claim) {
  if (runner_ == nullptr || runner_job_ != claim.job || runner_generation_ != claim.generation) {
    const Job& job = view_.job(claim.job);
    const auto thunk = reinterpret_cast<wire::RangeThunk>(const_cast<void*>(wire::address_of(job.thunk)));
    const wire::PacketView packet({segment_.data() + job.state_block, job.state_size});
    wire::Reader reader(packet.message(), packet.buffers());
    runner_.reset();
    runner_ = thunk(reader);
    runner_job_ = claim.job;
    runner_generation_ = claim.generation;
  }
  return *runner_;
}

void Worker::run_chunk(const ChunkClaim& claim) {
  Job& job = view_.job(claim.job);
  Chunk& chunk = view_.chunk(claim.job, claim.chunk);
  chunk.started_ns = now_ns();
  chunk.completed_ns = 0;
  chunk.worker = birth_.worker;
  slot_.chunk.store(claim.chunk, std::memory_order_relaxed);
  slot_.item.store(chunk.begin, std::memory_order_relaxed);
  slot_.generation.store(claim.generation, std::memory_order_relaxed);
  slot_.job.store(claim.job, std::memory_order_release);
  next_turn();
  slot_.tasks_run.fetch_add(chunk.end - chunk.begin, std::memory_order_relaxed);
  // this_task::index() follows the item that the loop writes into the slot.
  task::Context context{.stop = &job.stop,
                        .item = &slot_.item,
                        .index = -1,
                        .deadline_at_ns = INT64_MAX,
                        .attempt = chunk.attempt,
                        .worker = static_cast<std::int32_t>(birth_.worker),
                        .seed = job.seed};
  const task::ContextScope scope(context);
  const ThrowTracer tracer;
  comes_after_submission();
  MapIo io(*this, claim, context);
  try {
    runner_of(claim).run(io);
  } catch (...) {
    send_error(io.header(ResultKind::item_error, slot_.item.load(std::memory_order_relaxed), now_ns()),
               std::current_exception());
    job.stop.store(1, std::memory_order_relaxed);  // a hint to the others; the parent acts on the error
  }
  copy_.end_copy();
  flush_standard_output();
  slot_.started_ns.store(0, std::memory_order_relaxed);
  chunk.completed_ns = now_ns();
  job.done_items.fetch_add(std::min(slot_.item.load(std::memory_order_relaxed), chunk.end) - chunk.begin,
                           std::memory_order_relaxed);
  comes_before_results();
  job.unfinished.fetch_sub(1, std::memory_order_seq_cst);
  // The results of the chunk are in place (array) or in the ring; the parent takes the ring after it has seen
  // this.
  chunk.owner.store(chunk_owner(claim.generation, chunk_done), std::memory_order_seq_cst);
  next_turn();
  slot_.job.store(no_job, std::memory_order_release);
  // Only looks from here on: if the job is another one by now, the parent has seen the end and needs no
  // waking. Of the last two workers each has subtracted before it stored, so the later one sees 0 after both
  // stores.
  if (job.unfinished.load() <= 0 || job.wake_each.load(std::memory_order_relaxed) != 0) {
    wake_supervisor_if_wanted();
    wake_parent(view_);
  }
}

// ---- Results.

void Worker::send(ResultHeader header, ByteView message, std::span<const ByteView> buffers) {
  copy_.end_copy();
  comes_before_results();
  const std::vector<shm::BlockPtr> named = parcel_.take();
  shm::BlockPtr own;
  const bool in_block = named.empty() && (!buffers.empty() || message.size() > inline_result_limit);
  if (!named.empty()) {
    // The parent may come to it when this worker has long let go of them: the message keeps them.
    own = make_message(message, buffers, named);
    shm::add_ref(own->offset());  // the ring's
    header.message = own->offset();
    message = {};
  } else if (in_block) {
    header.block_size = wire::packet_size(message, buffers);
    header.block = arena_.allocate(header.block_size);
    slot_.block.store(header.block, std::memory_order_release);
    wire::write_packet(segment_.data() + header.block, message, buffers);
  }
  const std::size_t size = sizeof header + (in_block ? 0 : message.size());
  std::byte* space = nullptr;
  while ((space = ring_.try_reserve(size)) == nullptr) {
    // The parent is behind: its supervisor takes what is there, unless the pool stops.
    slot_.ring_full.store(1);
    wake_supervisor_if_wanted();
    wake_parent(view_);
    space = ring_.try_reserve(size);
    if (space != nullptr) break;
    static_cast<void>(shm::futex_wait(slot_.ring_full, 1));
  }
  std::memcpy(space, &header, sizeof header);
  if (!in_block && !message.empty()) std::memcpy(space + sizeof header, message.data(), message.size());
  ring_.publish();
  slot_.block.store(0, std::memory_order_release);
  wake_supervisor_if_wanted();
  wake_parent(view_);
}

void Worker::wake_supervisor_if_wanted() {
  Board& board = view_.board();
  std::atomic_thread_fence(std::memory_order_seq_cst);  // the publication comes before this look
  if (board.results_wanted.load(std::memory_order_relaxed) == 0 && !ring_.half_full()) return;
  if (board.supervisor_armed.exchange(0) == 0) return;
  const std::uint64_t one = 1;
  static_cast<void>(!::write(birth_.supervisor_fd, &one, sizeof one));
}

void Worker::send_error(ResultHeader header, const std::exception_ptr& exception) {
  auto stack = ThrowTracer::last_throw();
  if (stack.size() < max_frames)
    stack.resize(stack.size() - std::min<std::size_t>(stack.size(), slot_.outer_frames.load()));
  static_cast<void>(parcel_.take());
  wire::Writer writer;
  wire::pack(writer, wire::record_of(out_of_memory(exception) ? memory_limit_error() : exception, stack));
  send(header, writer.bytes(), {});
}

bool Worker::out_of_memory(const std::exception_ptr& exception) const {
  if (view_.board().memory_limit == 0) return false;
  try {
    std::rethrow_exception(exception);
  } catch (const std::bad_alloc& e) {
    return typeid(e) == typeid(std::bad_alloc);  // a negative array size is no lack of memory
  } catch (...) {
    return false;
  }
}

std::exception_ptr Worker::memory_limit_error() const {
  return std::make_exception_ptr(MemoryLimitExceeded(
      fmt::format("the task needed more memory than the {} MiB of the pool's memory_limit",
                  view_.board().memory_limit >> 20)));
}

}  // namespace

bool is_worker_of(const shm::Segment& board, std::uint64_t worker) noexcept {
  if (board.size() < sizeof(Board)) return false;
  const Board& header = BoardView(board.data()).board();
  return header.workers > worker && BoardView(board.data()).layout().size() == board.size();
}

void run_worker(shm::Segment board, const WorkerBirth& birth) {
  ::prctl(PR_SET_NAME, fmt::format("mh-worker-{}", birth.worker).c_str());
  ::signal(SIGINT, SIG_IGN);  // Ctrl-C is the parent's; it stops its workers
  if (const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC); null >= 0) {
    ::dup2(null, STDIN_FILENO);
    ::close(null);
  }
  shm::ensure_heap();  // after exec it is not there yet
  apply_locale(BoardView(board.data()).board().surroundings);
  WorkerSlot& slot = BoardView(board.data()).slot(birth.worker);
  install_crash_handler(slot);
  set_in_worker();
  keep_copies_apart(board);
  if (CPU_COUNT(&slot.cpus) > 0) ::sched_setaffinity(0, sizeof slot.cpus, &slot.cpus);
  if (const int threads = BoardView(board.data()).board().inner_threads; threads > 0)
    limit_inner_threads(threads);
  slot.pid.store(::getpid());
  slot.thread.store(shm::watching_races() ? shm::this_thread_token() : 0);
  slot.anchor.store(reinterpret_cast<std::uint64_t>(&run_worker));
  std::array<void*, max_frames> around;
  slot.outer_frames.store(static_cast<std::uint32_t>(capture_stack(around)));
  Worker(board, birth).run();
  flush_streams();
  ::_exit(0);
}

}  // namespace manyhands::process
