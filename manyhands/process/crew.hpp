#pragma once
// Crew: the workers of one pool and the shared memory through which they work, as the parent sees them.
//
// Bytes in, bytes out: Pool (pool.hpp) puts the types around it. Calls go into cells, maps into jobs
// (board.hpp); outcomes come through the workers' rings and are handed to the PendingCall or PendingMap that
// waits for them. Whoever waits takes the results itself (poll); the supervisor thread looks after what
// nobody waits for, deaths, deadlines.
//
// Any thread. Everything the parent keeps is guarded by one mutex; no user code runs under it: outcomes are
// delivered under it as bytes, and complete() is called after it.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/base/mutex.hpp"
#include "manyhands/base/own_thread.hpp"
#include "manyhands/process/board.hpp"
#include "manyhands/process/fork_turns.hpp"
#include "manyhands/process/interrupt.hpp"
#include "manyhands/process/payload.hpp"
#include "manyhands/process/placement.hpp"
#include "manyhands/process/spawner.hpp"
#include "manyhands/process/start.hpp"
#include "manyhands/process/surroundings.hpp"
#include "manyhands/task/callback_thread.hpp"
#include "manyhands/task/state.hpp"
#include "manyhands/wire/callable.hpp"
#include "manyhands/wire/remote_error.hpp"
#include "manyhands/wire/writer.hpp"

namespace manyhands {

namespace process {

struct CrewOptions {
  std::uint32_t workers = 1;
  Start start = Start::zygote;
  std::uint64_t max_tasks_per_worker = 0;
  std::uint64_t memory_limit = 0;  // bytes
  int retries = 0;
  Bind bind = Bind::none;
  int inner_threads = -1;  // negative: not limited
  wire::Function initializer;
  std::vector<shm::BlockPtr> initializer_named = {};  // shared memory that its call names
  std::vector<std::byte> initializer_call;
  bool has_initializer = false;
  std::shared_ptr<ForkTurns> turns = {};  // with Start::fork
};

// How one run of a task ended.
struct Outcome {
  Payload payload;           // the packed value or ErrorRecord
  bool is_error = false;     // payload is an ErrorRecord
  std::exception_ptr error;  // set if the outcome was made here: WorkerDied, Cancelled, ...
  Place place;
  std::int64_t started_ns = 0;
  std::int64_t completed_ns = 0;

  // Requires an error of either kind.
  std::exception_ptr exception() const;
};

struct CallHandle {
  std::uint32_t cell = 0;
  std::uint32_t generation = 0;
};

// Who waits for a call.
class PendingCall {
 public:
  virtual ~PendingCall() = default;
  virtual void queued(
      CallHandle handle) = 0;                 // under the crew's mutex: under this handle it can be cancelled
  virtual void deliver(Outcome outcome) = 0;  // under the mutex, once
  virtual void complete() = 0;                // outside of it, after deliver()
};

struct MapHandle {
  std::uint32_t job = no_job;
  std::uint32_t generation = 0;
  const std::byte* output = nullptr;  // the array of plain results; valid until deliver_end()
};

// How one chunk of a map was run.
struct ChunkRun {
  std::uint64_t first;
  std::uint64_t count;
  std::int64_t started_ns;
  std::int64_t completed_ns;
  std::uint32_t worker;
  std::uint32_t attempt;
};

// Who waits for a map.
class PendingMap {
 public:
  virtual ~PendingMap() = default;
  virtual void deliver_item(std::uint64_t item, Payload payload) = 0;  // under the mutex, packed results only
  virtual bool has_item(std::uint64_t item) const = 0;                 // under the mutex
  // Under the mutex, once: all items are there, or `failure` says why not.
  virtual void deliver_end(std::optional<Outcome> failure, SharedBlock output,
                           std::vector<ChunkRun> chunks) = 0;
  virtual void complete() = 0;  // outside of the mutex, after deliver_end()
};

// A map as the pool asks for it. Spans are borrowed until start_map returns.
struct MapRequest {
  wire::Function thunk = {};
  ByteView state = {};  // f's, packed
  std::span<const ByteView> state_buffers = {};
  std::uint64_t items = 0;
  ByteView plain_input = {};      // plain items, or
  SharedBlock packed_input = {};  // made by make_input_block(): an array of PackedItem, then their packets
  std::uint64_t output_size = 0;  // bytes of one plain result; 0: results are packed
  // Plain items that lie in an Array: the first one's place in the program's heap.
  shm::Offset input_place = 0;
  shm::Offset output_place = 0;           // the same for plain results
  std::vector<shm::BlockPtr> named = {};  // shared memory that function, items and results name
  MapOptions options = {};
};

class Crew : public std::enable_shared_from_this<Crew> {
 public:
  // Makes the shared memory and has the workers started; does not wait for them. Throws Error and
  // SystemError.
  static std::shared_ptr<Crew> start(const CrewOptions& options);
  explicit Crew(const CrewOptions& options);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Sends a call, whose message names the blocks `named`; blocks while all cells are taken. Throws
  // PoolBroken, InitializerFailed, ResourceExhausted.
  void submit(const wire::Function& thunk, const wire::Writer& call, const CallOptions& options,
              std::shared_ptr<PendingCall> pending, std::vector<shm::BlockPtr> named = {})
      MH_EXCLUDES(mutex_);
  MapHandle start_map(MapRequest request, std::shared_ptr<PendingMap> pending) MH_EXCLUDES(mutex_);
  // A block for packed items, to be filled by the caller and passed to start_map. Throws ResourceExhausted.
  SharedBlock make_input_block(std::uint64_t size) MH_EXCLUDES(mutex_);

  // Returns whether the call will have no result.
  bool cancel(CallHandle handle, const CancelOptions& options) MH_EXCLUDES(mutex_);
  bool cancel(MapHandle handle, const CancelOptions& options) MH_EXCLUDES(mutex_);

  // Takes the results that are there. Does not block.
  void poll() MH_EXCLUDES(mutex_);
  // Blocks until done() or the deadline, taking results meanwhile; `idle()` is called before it would go to
  // sleep and returns true if it did something useful instead. Returns done().
  bool wait(const std::function<bool()>& done, const Deadline& deadline,
            const std::function<bool()>& idle = {}) MH_EXCLUDES(mutex_);

  // Items of a running map that are done, and whether the chunk with `item` is.
  std::uint64_t items_done(MapHandle handle) const noexcept;
  bool item_done(MapHandle handle, std::uint64_t item, std::uint64_t chunk_size) const noexcept;
  // Asks for a wake at the end of each chunk (+1) or no longer (-1).
  void watch_items(MapHandle handle, int change) noexcept;

  void want_results(int change) noexcept;
  void run_callback(std::function<void()> callback);

  // Nothing more will be submitted: once all is done, the workers end.
  void seal() noexcept;
  bool idle() const noexcept { return outstanding_.load() == 0; }
  // Waits for all that was submitted, then ends the workers.
  void close() MH_EXCLUDES(mutex_);
  // Drops what is queued, kills what runs, ends the workers.
  void terminate() MH_EXCLUDES(mutex_);

  std::uint32_t workers() const noexcept { return options_.workers; }
  const CrewOptions& options() const noexcept { return options_; }
  wire::Reach reach() const noexcept { return reach_of(options_.start); }
  std::vector<int> pids() MH_EXCLUDES(mutex_);  // of the workers that run now, by number; 0: none
  // Items per chunk: as wanted (0: about 256 chunks per worker), and never more than Board::max_chunks
  // chunks.
  std::uint64_t chunk_size_for(std::uint64_t items, std::size_t wanted) const noexcept;

 private:
  enum class KillReason : std::uint32_t { none, deadline, cancelled };  // why we killed a worker
  struct WorkerState {
    pid_t pid = 0;
    UniqueFd pidfd;
    KillReason kill_reason = KillReason::none;
    std::uint32_t kill_cell = cell_count;  // the call for whose sake; none: a map, or the end of the pool
    bool killed_in_turn = false;           // by kill_in_turn()
    std::uint64_t last_block = 0;          // the last block that came through its ring
    int failed_starts = 0;            // in a row, for want of resources or by a death before the first task
    std::int64_t start_again_ns = 0;  // when to try again to start it; 0: it runs, or is not replaced
    bool gone = false;                // and not replaced
  };
  struct CallState {
    std::shared_ptr<PendingCall> pending;  // null: the cell is free
    shm::NamedBlocks named;                // shared memory that its message names: kept until it has ended
    int retries_left = 0;
    bool has_deadline = false;
    bool cancelled = false;  // its worker is being killed for that
  };
  struct MapState {
    std::shared_ptr<PendingMap> pending;  // null: the job is free
    SharedBlock state;
    SharedBlock input;
    SharedBlock output;
    shm::NamedBlocks named;    // shared memory that its function and items name
    std::uint32_t cursor = 0;  // chunks before it are done
    int retries = 0;
    bool ended = false;    // deliver_end() was called; the job waits for its running chunks
    bool copying = false;  // start_map still writes the input
    bool has_deadline = false;
  };
  // Outcomes to complete() once the mutex is free.
  struct Completions {
    std::vector<std::shared_ptr<PendingCall>> calls;
    std::vector<std::shared_ptr<PendingMap>> maps;
    bool empty() const noexcept { return calls.empty() && maps.empty(); }
  };

  void create_board();
  void start_workers();
  void ensure_supervisor() MH_REQUIRES(mutex_);
  void require_usable() const MH_REQUIRES(mutex_);
  // Before mutex_ is taken: a fork may have come while another thread had it.
  bool is_owner() const noexcept;
  void require_owner() const;
  void complete(Completions& done) MH_EXCLUDES(mutex_);
  std::optional<std::uint32_t> take_job() MH_REQUIRES(mutex_);

  // Results.
  void pump(Completions& done) MH_REQUIRES(mutex_);
  void drain(std::uint32_t worker, Completions& done) MH_REQUIRES(mutex_);
  void handle(std::uint32_t worker, ByteView message, Completions& done) MH_REQUIRES(mutex_);
  void finish_call(std::uint32_t index, Outcome outcome, Completions& done) MH_REQUIRES(mutex_);
  void advance_job(std::uint32_t index, std::uint32_t cursor, Completions& done) MH_REQUIRES(mutex_);
  std::uint32_t scan_job(std::uint32_t index) const MH_REQUIRES(mutex_);
  void fail_map(std::uint32_t index, Outcome outcome, Completions& done) MH_REQUIRES(mutex_);
  std::vector<ChunkRun> chunk_runs(std::uint32_t index) const MH_REQUIRES(mutex_);
  void update_job_limit() MH_REQUIRES(mutex_);
  bool results_wait() const noexcept;
  bool worker_needs_this_core() const noexcept;
  bool any_job_free() const noexcept;

  // Supervision (crew_supervisor.cpp).
  void supervise();
  void wake_supervisor() noexcept;
  void take_events(Completions& done) MH_REQUIRES(mutex_);
  void on_started(WorkerEvent& event) MH_REQUIRES(mutex_);
  void on_exited(const WorkerEvent& event, Completions& done) MH_REQUIRES(mutex_);
  void on_lost_all(Completions& done) MH_REQUIRES(mutex_);
  void recover_calls(std::uint32_t worker, const WorkerEvent& event, Completions& done) MH_REQUIRES(mutex_);
  void recover_maps(std::uint32_t worker, const WorkerEvent& event, Completions& done) MH_REQUIRES(mutex_);
  void recover_chunk(const ChunkClaim& claim, std::uint32_t worker, const WorkerEvent& event,
                     Completions& done) MH_REQUIRES(mutex_);
  bool was_running(std::uint32_t worker) const MH_REQUIRES(mutex_);
  bool others_live(std::uint32_t worker) const MH_REQUIRES(mutex_);
  void replace_worker(std::uint32_t worker, Completions& done) MH_REQUIRES(mutex_);
  void on_failed_start(std::uint32_t worker, const std::string& reason, Completions& done)
      MH_REQUIRES(mutex_);
  std::int64_t start_again() MH_REQUIRES(mutex_);
  void reset_slot(std::uint32_t worker) MH_REQUIRES(mutex_);
  Outcome loss_of(std::uint32_t worker, const WorkerEvent& event, std::int64_t task, bool in_map,
                  std::uint32_t attempt, std::int64_t deadline_ns) MH_REQUIRES(mutex_);
  void break_pool(const std::exception_ptr& reason, Completions& done) MH_REQUIRES(mutex_);
  std::int64_t enforce_deadlines() MH_REQUIRES(mutex_);
  void kill_worker(std::uint32_t worker, KillReason reason) MH_REQUIRES(mutex_);
  bool cancel_by_kill(CallHandle handle) MH_REQUIRES(mutex_);
  bool kill_in_turn(std::uint32_t worker, std::uint64_t turn, KillReason reason, std::uint32_t cell)
      MH_REQUIRES(mutex_);
  enum class Workers { finish, are_killed };
  void shut_down(Workers how) MH_EXCLUDES(mutex_);
  void stop_workers() noexcept;
  void cancel_all(Completions& done) MH_REQUIRES(mutex_);
  [[noreturn]] void give_up_interrupted();

  // What the race detector has to know.
  void comes_before_tasks() const noexcept;
  void comes_after_tasks() const noexcept;

  CrewOptions options_;
  shm::NamedBlocks initializer_named_;
  shm::BlockPtr surroundings_;  // see Board::surroundings; null: a fork's
  shm::BlockPtr order_;         // see Board::order; null: races are not watched
  pid_t owner_pid_;
  int owner_forks_;                       // forks() of that process
  std::shared_ptr<shm::Segment> memory_;  // shared with the results that lie in it
  BoardView view_;
  UniqueFd supervisor_fd_;
  int spin_cores_;

  Mutex mutex_;
  shm::Arena arena_ MH_GUARDED_BY(mutex_);  // arguments
  std::unique_ptr<Spawner> spawner_ MH_GUARDED_BY(mutex_);
  std::vector<std::uint32_t> free_cells_ MH_GUARDED_BY(mutex_);
  std::vector<CallState> calls_ MH_GUARDED_BY(mutex_);  // by cell
  std::vector<MapState> maps_ MH_GUARDED_BY(mutex_);    // by job
  std::vector<WorkerState> states_ MH_GUARDED_BY(mutex_);
  std::uint64_t next_number_ MH_GUARDED_BY(mutex_) = 0;
  std::exception_ptr broken_ MH_GUARDED_BY(mutex_);  // why no task can run any more
  bool closed_ MH_GUARDED_BY(mutex_) = false;
  std::uint64_t oom_kills_ MH_GUARDED_BY(mutex_) = 0;  // the machine's count when last looked at
  OwnThread supervisor_ MH_GUARDED_BY(mutex_);

  std::atomic<std::uint32_t> free_cell_count_{0};  // written under mutex_, for waits without it
  std::atomic<std::uint32_t> outstanding_{0};      // calls and maps not completed; written under mutex_
  std::atomic<bool> usable_{true};                 // false: broken or closed
  std::atomic<bool> sealed_{false};
  std::atomic<bool> supervisor_quits_{false};
  task::CallbackThread callbacks_;
};

}  // namespace process
}  // namespace manyhands
