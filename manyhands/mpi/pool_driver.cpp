#include "manyhands/mpi/pool_driver.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <map>
#include <unordered_map>

#include "manyhands/base/stack_trace.hpp"
#include "manyhands/mpi/environment.hpp"
#include "manyhands/task/this_task.hpp"
#include "manyhands/wire/remote_error.hpp"

namespace manyhands::mpi::detail {
namespace {

const bool deadlines_travel = register_exception<DeadlineExceeded>();

constexpr std::size_t frame_size = 8192;
constexpr int task_tag = 1;                        // frames to a rank; the rest of a message has the next tag
constexpr int result_tag = 3;                      // frames to rank 0
constexpr std::size_t batch_bytes = 6 * 1024;      // of calls that go together
constexpr std::size_t range_bytes = 1 << 20;       // of a range's items
constexpr std::int64_t answer_after_ns = 200'000;  // results are not kept back longer than about this
constexpr std::int64_t local_slice_ns = 500'000;   // rank 0 looks after the others this often
constexpr std::size_t queue_limit = 1 << 20;       // calls

enum class RecordKind : std::uint32_t { call, function, forget, range, end, value, error };

// The head of a record, and of a result. `size_bytes` of payload follow, padded to 8.
struct Header {
  RecordKind kind = RecordKind::call;
  std::uint32_t has_function = 0;
  std::uint64_t id = 0;     // of the call, or of the map
  std::uint64_t first = 0;  // item
  std::uint64_t count = 0;  // items
  std::uint64_t size_bytes = 0;
  std::int64_t deadline_ns = INT64_MAX;  // how long a call or item may take
  std::int64_t started_ns = 0;
  std::int64_t completed_ns = 0;
  wire::BuildId module;
  std::uint32_t item_size = 0;    // of plain items
  std::uint64_t offset = 0;       // of the function
  std::uint64_t result_size = 0;  // of plain results
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) % 8 == 0);

// A message under construction: its size first.
class Message {
 public:
  Message() { clear(); }
  void clear() { bytes_.assign(sizeof(std::uint64_t), std::byte{0}); }
  bool empty() const noexcept { return bytes_.size() == sizeof(std::uint64_t); }
  std::size_t size() const noexcept { return bytes_.size(); }
  // Adds a record and returns where its payload goes.
  std::byte* add(Header header, std::size_t payload) {
    header.size_bytes = payload;
    const std::size_t at = bytes_.size();
    bytes_.resize(at + sizeof header + round_up(payload, 8));
    std::memcpy(bytes_.data() + at, &header, sizeof header);
    return bytes_.data() + at + sizeof header;
  }
  void add(const Header& header, ByteView payload) {
    std::byte* const to = add(header, payload.size());
    if (!payload.empty()) std::memcpy(to, payload.data(), payload.size());
  }
  // With the size in place.
  ByteView finish() {
    const std::uint64_t size = bytes_.size();
    std::memcpy(bytes_.data(), &size, sizeof size);
    return bytes_;
  }

 private:
  std::vector<std::byte> bytes_;
};

struct Record {
  Header header;
  ByteView payload;
};

// Takes the records of a message one after the other.
class Records {
 public:
  explicit Records(ByteView message) : left_(message.subspan(sizeof(std::uint64_t))) {}
  std::optional<Record> next() {
    if (left_.empty()) return std::nullopt;
    Record record;
    if (left_.size() < sizeof record.header) throw WireError("a message of mpi::Pool ends within a record");
    std::memcpy(&record.header, left_.data(), sizeof record.header);
    const std::size_t size = record.header.size_bytes;
    if (size > left_.size() - sizeof record.header)
      throw WireError("a message of mpi::Pool ends within a payload");
    record.payload = left_.subspan(sizeof record.header, size);
    left_ = left_.subspan(std::min(left_.size(), sizeof record.header + round_up(size, 8)));
    return record;
  }

 private:
  ByteView left_;
};

std::uint64_t size_of(const std::byte* frame) {
  std::uint64_t size = 0;
  std::memcpy(&size, frame, sizeof size);
  return size;
}

// Messages under way, each with its bytes.
class Outbox {
 public:
  // Sends without waiting: a rank that computes does not take large messages, and who sends has other work.
  void post(const Comm& comm, ByteView bytes, int to, int tag) {
    Sent one;
    one.bytes.assign(bytes.begin(), bytes.end());
    const ByteView kept(one.bytes);
    one.frame = comm.isend(kept.first(std::min(kept.size(), frame_size)), {.dest = to, .tag = tag});
    if (kept.size() > frame_size)
      one.rest = comm.isend(kept.subspan(frame_size), {.dest = to, .tag = tag + 1});
    sent_.push_back(std::move(one));
  }
  // Forgets what has arrived, oldest first.
  void reap() {
    while (!sent_.empty() && sent_.front().frame.test() &&
           (!sent_.front().rest.valid() || sent_.front().rest.test()))
      sent_.pop_front();
  }
  void flush() {
    for (Backoff backoff; !sent_.empty(); backoff.pause()) reap();
  }

 private:
  struct Sent {
    Request<void> frame;
    Request<void> rest;
    std::vector<std::byte> bytes;
  };
  std::deque<Sent> sent_;
};

// ---- Running tasks, on any rank.

class Results final : public wire::Reply {
 public:
  void value(const wire::Writer&) override {}
  wire::Writer& writer() override {
    writer_.clear();
    return writer_;
  }
  ByteView bytes() const noexcept { return writer_.bytes(); }

 private:
  wire::Writer writer_;
};

// Items and results of one range, as wire's thunks see them.
class RangeOfMap final : public wire::RangeIo {
 public:
  RangeOfMap(const Header& head, ByteView payload, std::int32_t rank)
      : first_(head.first), payload_(payload), deadline_ns_(head.deadline_ns) {
    begin = head.first;
    end = head.first + head.count;
    item_ = begin;
    current = &item_;
    stop = &never_;
    watched = deadline_ns_ != INT64_MAX;
    // The thunks address by the index in the whole map.
    input = reinterpret_cast<const std::byte*>(reinterpret_cast<std::uintptr_t>(payload.data()) -
                                               first_ * head.item_size);
    plain_.resize(head.count * head.result_size);
    output = reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(plain_.data()) -
                                          first_ * head.result_size);
    if (head.item_size == 0) {
      for (std::uint64_t i = 0, at = head.count * sizeof(std::uint64_t); i < head.count; ++i) {
        begins_.push_back(at);
        at += size_of(payload.data() + i * sizeof(std::uint64_t));
        ends_.push_back(at);
      }
    }
    context_.item = &item_;
    context_.worker = rank;
  }
  void starting() override {
    check_deadline();
    item_started_ns_ = now_ns();
    context_.deadline_at_ns = item_started_ns_ + deadline_ns_;
  }
  void check_deadline() const {
    if (item_started_ns_ == 0 || now_ns() - item_started_ns_ <= deadline_ns_) return;
    throw DeadlineExceeded(fmt::format("an item of the map took {} ms, longer than its deadline of {} ms",
                                       (now_ns() - item_started_ns_) / 1'000'000, deadline_ns_ / 1'000'000));
  }
  wire::Reader item(std::uint64_t index) override {
    const std::size_t i = index - first_;
    return wire::Reader(payload_.subspan(begins_[i], ends_[i] - begins_[i]));
  }
  wire::Writer& writer() override {
    one_.clear();
    return one_;
  }
  void result(std::uint64_t, const wire::Writer& writer) override {
    plain_.insert(plain_.end(), writer.bytes().begin(), writer.bytes().end());
  }
  ByteView results() const noexcept { return plain_; }
  std::uint64_t at() const noexcept { return item_.load(std::memory_order_relaxed); }
  const task::Context& context() const noexcept { return context_; }

 private:
  std::uint64_t first_;
  ByteView payload_;
  std::int64_t deadline_ns_;
  std::int64_t item_started_ns_ = 0;
  std::vector<std::size_t> begins_;
  std::vector<std::size_t> ends_;
  std::vector<std::byte> plain_;  // results: plain ones side by side, or packed ones one after the other
  wire::Writer one_;
  std::atomic<std::uint64_t> item_{0};
  std::atomic<std::uint32_t> never_{0};
  task::Context context_;
};

class Runner {
 public:
  explicit Runner(int rank) : rank_(rank) {}

  // Runs a record; adds its result to `answers`, if it has one.
  void run(const Record& record, Message& answers) {
    switch (record.header.kind) {
      case RecordKind::call:
        run_call(record, answers);
        break;
      case RecordKind::function:
        learn(record);
        break;
      case RecordKind::forget:
        functions_.erase(record.header.id);
        break;
      case RecordKind::range:
        run_range(record, answers);
        break;
      default:
        throw WireError("mpi::Pool: a record of an unknown kind");
    }
  }

 private:
  using Function = std::unique_ptr<wire::RangeRunner>;

  static const void* place_of(const Header& head) { return wire::address_of({head.module, head.offset}); }

  void run_call(const Record& record, Message& answers) {
    const Header& head = record.header;
    Header answer{.kind = RecordKind::value, .id = head.id, .count = 1, .started_ns = now_ns()};
    Results reply;
    const ThrowTracer tracer;
    try {
      const task::Context context{
          .index = static_cast<std::int64_t>(head.id),
          .deadline_at_ns = head.deadline_ns == INT64_MAX ? INT64_MAX : answer.started_ns + head.deadline_ns,
          .worker = rank_};
      const task::ContextScope scope(context);
      wire::Reader reader(record.payload);
      reinterpret_cast<wire::CallThunk>(const_cast<void*>(place_of(head)))(reader, reply);
      answer.completed_ns = now_ns();
      if (answer.completed_ns - answer.started_ns > head.deadline_ns)
        throw DeadlineExceeded(fmt::format("the task took {} ms, longer than its deadline of {} ms",
                                           (answer.completed_ns - answer.started_ns) / 1'000'000,
                                           head.deadline_ns / 1'000'000));
      answers.add(answer, reply.bytes());
    } catch (...) {
      add_error(answer, static_cast<std::int64_t>(head.id), answers);
    }
  }

  // The function of a map, unpacked at once; what fails is reported by its first range.
  void learn(const Record& record) {
    Known known;
    const ThrowTracer tracer;
    try {
      wire::Reader reader(record.payload);
      const auto make = reinterpret_cast<wire::RangeThunk>(const_cast<void*>(place_of(record.header)));
      known.function = make(reader);
    } catch (...) {
      known.error = std::current_exception();
    }
    functions_.insert_or_assign(record.header.id, std::move(known));
  }

  void run_range(const Record& record, Message& answers) {
    const Header& head = record.header;
    Header answer{.kind = RecordKind::value,
                  .id = head.id,
                  .first = head.first,
                  .count = head.count,
                  .started_ns = now_ns()};
    RangeOfMap io(head, record.payload, rank_);
    const ThrowTracer tracer;
    try {
      const task::ContextScope scope(io.context());
      const Known& known = functions_.at(head.id);
      if (known.error) std::rethrow_exception(known.error);
      known.function->run(io);
      io.check_deadline();
      answer.completed_ns = now_ns();
      answers.add(answer, io.results());
    } catch (...) {
      add_error(answer, static_cast<std::int64_t>(std::min(io.at(), head.first + head.count - 1)), answers);
    }
  }

  void add_error(Header answer, std::int64_t task, Message& answers) const {
    const auto stack = ThrowTracer::last_throw();
    const ErrorRecord error = wire::record_of(std::current_exception(), stack);
    answer.kind = RecordKind::error;
    answer.completed_ns = now_ns();
    wire::Writer writer;
    wire::pack(writer, error);
    wire::pack(writer, task);
    wire::pack(writer, static_cast<std::int32_t>(::getpid()));
    wire::pack(writer, node_name());
    answers.add(answer, writer.bytes());
  }

  struct Known {
    Function function;
    std::exception_ptr error;
  };
  int rank_;
  std::map<std::uint64_t, Known> functions_;  // of maps
};

}  // namespace

// ---- Rank 0.

struct PoolDriver::Impl {
  struct Call {
    std::uint64_t id;
    wire::Function thunk;
    std::vector<std::byte> message;
    std::int64_t deadline_ns;
    std::shared_ptr<WorkReceiver> to;
  };
  struct Job {
    std::uint64_t id;
    MapRequest request;
    std::uint64_t next = 0;       // the first item that was not handed out
    std::uint64_t under_way = 0;  // ranges handed out and not answered
    std::vector<bool> known;      // by rank
    std::shared_ptr<WorkReceiver> to;
  };
  struct Rank {
    std::size_t batches = 0;              // sent and not answered in full
    std::deque<std::size_t> batch_sizes;  // answers that each still lacks
    std::vector<std::byte> frame = std::vector<std::byte>(frame_size);
    MPI_Request coming = MPI_REQUEST_NULL;
    std::vector<std::uint64_t> forget;  // maps that ended
  };
  Impl(const Comm& over, bool works, int batches)
      : comm(over.dup()), driver_works(works), prefetch(static_cast<std::size_t>(batches)), runner(0) {
    ranks.resize(static_cast<std::size_t>(comm.size()));
    for (std::size_t rank = 1; rank < ranks.size(); ++rank) listen(rank);
  }

  void listen(std::size_t rank) {
    Rank& peer = ranks[rank];
    check(MPI_Irecv(peer.frame.data(), static_cast<int>(frame_size), MPI_BYTE, static_cast<int>(rank),
                    result_tag, comm.native(), &peer.coming),
          "Pool", {.comm = comm.native(), .source = static_cast<int>(rank)});
  }

  bool has_work() const { return !calls.empty() || !open.empty(); }

  // How many items of a map are handed out at once: fewer towards its end, so that all ranks end together.
  std::uint64_t range_length(const Job& job) const {
    const std::uint64_t left = job.request.count - job.next;
    std::uint64_t length = job.request.options.chunk;
    if (length == 0) length = std::max<std::uint64_t>(1, left / (8 * ranks.size()));
    const std::size_t bytes = job.request.items.size() / job.request.count + 1;
    return std::min({left, length, std::max<std::uint64_t>(1, range_bytes / bytes)});
  }

  void add_range(Job& job, std::size_t rank, std::uint64_t length, Message& message) {
    const MapRequest& map = job.request;
    if (!job.known[rank]) {
      message.add({.kind = RecordKind::function,
                   .id = job.id,
                   .module = map.thunk.module,
                   .offset = map.thunk.offset},
                  map.state);
      job.known[rank] = true;
    }
    Header head{
        .kind = RecordKind::range,
        .id = job.id,
        .first = job.next,
        .count = length,
        .deadline_ns = map.options.deadline == Deadline::never ? INT64_MAX : map.options.deadline.count(),
        .item_size = static_cast<std::uint32_t>(map.item_size),
        .result_size = map.result_size};
    if (map.item_size != 0) {
      message.add(head, ByteView(map.items).subspan(job.next * map.item_size, length * map.item_size));
    } else {  // the items' sizes, then the items
      const std::size_t begin = job.next == 0 ? 0 : map.ends[job.next - 1];
      const std::size_t end = map.ends[job.next + length - 1];
      std::byte* to = message.add(head, length * sizeof(std::uint64_t) + end - begin);
      for (std::uint64_t i = 0; i < length; ++i, to += sizeof(std::uint64_t)) {
        const std::uint64_t index = job.next + i;
        const std::uint64_t size = map.ends[index] - (index == 0 ? 0 : map.ends[index - 1]);
        std::memcpy(to, &size, sizeof size);
      }
      if (end > begin) std::memcpy(to, map.items.data() + begin, end - begin);
    }
    job.next += length;
    ++job.under_way;
    if (job.next == job.request.count) std::erase(open, job.id);
  }

  void add_call(Call& call, Message& message) {
    message.add({.kind = RecordKind::call,
                 .id = call.id,
                 .deadline_ns = call.deadline_ns,
                 .module = call.thunk.module,
                 .offset = call.thunk.offset},
                call.message);
    waiting.emplace(call.id, std::move(call.to));
  }

  // Adds the next work for `rank`; returns how many answers will come.
  std::size_t next_batch(std::size_t rank, Message& message) {
    for (const std::uint64_t id : std::exchange(ranks[rank].forget, {}))
      message.add({.kind = RecordKind::forget, .id = id}, ByteView());
    if (!calls.empty()) {
      const std::size_t share = std::max<std::size_t>(1, calls.size() / (4 * ranks.size()));
      std::size_t added = 0;
      do {
        add_call(calls.front(), message);
        calls.pop_front();
        ++added;
      } while (added < std::min<std::size_t>(share, 64) && !calls.empty() &&
               message.size() + calls.front().message.size() + sizeof(Header) < batch_bytes);
      return added;
    }
    Job& job = jobs.at(open.front());
    add_range(job, rank, range_length(job), message);
    return 1;
  }

  void feed(std::size_t rank) {
    Rank& peer = ranks[rank];
    while (peer.batch_sizes.size() < prefetch && has_work()) {
      batch.clear();
      const std::size_t answers = next_batch(rank, batch);
      post(rank, batch.finish());
      peer.batch_sizes.push_back(answers);
    }
  }

  void post(std::size_t rank, ByteView bytes) { outbox.post(comm, bytes, static_cast<int>(rank), task_tag); }

  // One answer of `rank`.
  void take(const Record& record, int rank) {
    const Header& head = record.header;
    WorkResult result{.first = head.first,
                      .count = head.count,
                      .rank = rank,
                      .started_ns = head.started_ns,
                      .completed_ns = head.completed_ns,
                      .is_error = head.kind == RecordKind::error,
                      .payload = record.payload,
                      .error = nullptr};
    if (result.is_error) {
      wire::Reader reader(record.payload);
      const auto error = wire::unpack<ErrorRecord>(reader);
      manyhands::Place place{.task = wire::unpack<std::int64_t>(reader), .worker = rank};
      place.pid = wire::unpack<std::int32_t>(reader);
      place.host = wire::unpack<std::string>(reader);
      result.error = wire::to_exception(error, place);
    }
    if (const auto call = waiting.find(head.id); call != waiting.end()) {
      const auto to = std::move(call->second);
      waiting.erase(call);
      to->deliver(result);
    } else if (const auto job = jobs.find(head.id); job != jobs.end()) {
      const auto to = job->second.to;
      --job->second.under_way;
      to->deliver(result);  // may cancel the rest
      finish_job(head.id);
    }
  }

  void finish_job(std::uint64_t id) {
    const auto found = jobs.find(id);
    if (found == jobs.end() || found->second.under_way > 0 ||
        found->second.next < found->second.request.count)
      return;
    for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
      if (found->second.known[rank]) ranks[rank].forget.push_back(id);
    }
    if (found->second.known[0]) {
      Message none;
      runner.run({{.kind = RecordKind::forget, .id = id}, {}}, none);
    }
    jobs.erase(found);
  }

  void take_message(std::size_t rank, ByteView bytes) {
    Records records(bytes);
    while (const auto record = records.next()) {
      auto& sizes = ranks[rank].batch_sizes;
      if (--sizes.front() == 0) sizes.pop_front();
      take(*record, static_cast<int>(rank));
    }
  }

  // What came from the other ranks.
  void receive() {
    for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
      Rank& peer = ranks[rank];
      for (;;) {
        int done = 0;
        check(MPI_Test(&peer.coming, &done, MPI_STATUS_IGNORE), "Pool",
              {.comm = comm.native(), .source = static_cast<int>(rank)});
        if (done == 0) break;
        const std::size_t size = size_of(peer.frame.data());
        std::vector<std::byte> bytes(
            peer.frame.begin(), peer.frame.begin() + static_cast<std::ptrdiff_t>(std::min(size, frame_size)));
        if (size > frame_size) {
          bytes.resize(size);
          comm.recv_into(std::span(bytes).subspan(frame_size),
                         {.source = static_cast<int>(rank), .tag = result_tag + 1});
        }
        listen(rank);
        take_message(rank, bytes);
      }
      feed(rank);
    }
  }

  Comm comm;
  bool driver_works;
  std::size_t prefetch;
  std::vector<Rank> ranks;  // by number; that of rank 0 is not used
  std::deque<Call> calls;
  std::unordered_map<std::uint64_t, std::shared_ptr<WorkReceiver>> waiting;  // calls that were handed out
  std::map<std::uint64_t, Job> jobs;
  std::vector<std::uint64_t> open;  // maps with items left, oldest first
  Outbox outbox;
  Message batch;  // being put together
  Runner runner;  // of this rank
  std::uint64_t next_id = 0;
  std::uint64_t local_length = 1;  // items that this rank takes at a time
  bool working = false;            // a task runs here, and may have called in again
};

PoolDriver::PoolDriver(const Comm& comm, bool driver_works, int prefetch)
    : impl_(std::make_unique<Impl>(comm, driver_works, prefetch)) {}

PoolDriver::~PoolDriver() {
  for (auto& rank : impl_->ranks) {
    if (rank.coming == MPI_REQUEST_NULL || !is_active()) continue;
    MPI_Cancel(&rank.coming);
    MPI_Wait(&rank.coming, MPI_STATUS_IGNORE);
  }
}

void PoolDriver::submit(const wire::Function& thunk, ByteView message, const CallOptions& options,
                        std::shared_ptr<WorkReceiver> to) {
  Impl& d = *impl_;
  d.calls.push_back(
      {.id = d.next_id++,
       .thunk = thunk,
       .message = {message.begin(), message.end()},
       .deadline_ns = options.deadline == Deadline::never ? INT64_MAX : options.deadline.count(),
       .to = std::move(to)});
  // The others are looked after now and then while tasks are submitted by the thousand.
  if (d.calls.size() < 16 || d.calls.size() % 64 == 0) poll();
  if (d.calls.size() > queue_limit) wait([&] { return d.calls.size() <= queue_limit; }, {});
}

void PoolDriver::start_map(MapRequest request, std::shared_ptr<WorkReceiver> to) {
  Impl& d = *impl_;
  const std::uint64_t id = d.next_id++;
  Impl::Job job{.id = id,
                .request = std::move(request),
                .known = std::vector<bool>(d.ranks.size(), false),
                .to = std::move(to)};
  d.jobs.emplace(id, std::move(job));
  d.open.push_back(id);
  poll();
}

bool PoolDriver::cancel(const WorkReceiver* receiver) {
  Impl& d = *impl_;
  for (auto call = d.calls.begin(); call != d.calls.end(); ++call) {
    if (call->to.get() != receiver) continue;
    const auto to = std::move(call->to);
    d.calls.erase(call);
    to->cancelled();
    return true;
  }
  for (auto& [id, job] : d.jobs) {
    if (job.to.get() != receiver || job.next == job.request.count) continue;
    job.next = job.request.count;
    std::erase(d.open, id);
    const auto to = job.to;
    d.finish_job(id);  // `job` is gone if nothing of it runs
    to->cancelled();
    return true;
  }
  return false;
}

void PoolDriver::poll() {
  impl_->receive();
  impl_->outbox.reap();
}

bool PoolDriver::work_here() {
  Impl& d = *impl_;
  if (!d.driver_works || !d.has_work() || d.working) return false;
  Message batch;
  Message answers;
  bool range = false;
  if (!d.calls.empty()) {
    d.add_call(d.calls.front(), batch);
    d.calls.pop_front();
  } else {
    Impl::Job& job = d.jobs.at(d.open.front());
    range = true;
    d.add_range(job, 0, std::min(d.range_length(job), d.local_length), batch);
  }
  const std::int64_t started = now_ns();
  d.working = true;
  try {
    Records records(batch.finish());
    while (const auto record = records.next()) d.runner.run(*record, answers);
  } catch (...) {
    d.working = false;
    throw;
  }
  d.working = false;
  if (range) {
    const std::int64_t took = now_ns() - started;
    if (took < local_slice_ns / 2) d.local_length = std::min<std::uint64_t>(d.local_length * 2, 1 << 20);
    if (took > local_slice_ns) d.local_length = std::max<std::uint64_t>(1, d.local_length / 2);
  }
  Records results(answers.finish());
  while (const auto record = results.next()) d.take(*record, 0);
  return true;
}

void PoolDriver::close(bool drop) {
  Impl& d = *impl_;
  if (closed_) return;
  if (drop) {
    while (!d.calls.empty()) cancel(d.calls.front().to.get());
    while (!d.open.empty()) cancel(d.jobs.at(d.open.front()).to.get());
  }
  wait([&] { return !d.has_work() && d.waiting.empty() && d.jobs.empty(); }, {});
  closed_ = true;
  Message end;
  end.add({.kind = RecordKind::end}, ByteView());
  const ByteView bytes = end.finish();
  for (std::size_t rank = 1; rank < d.ranks.size(); ++rank) d.post(rank, bytes);
  d.outbox.flush();
}

// ---- The other ranks.

void serve_pool(const Comm& over) {
  const Comm comm = over.dup();
  Runner runner(comm.rank());
  Message answers;
  std::vector<std::byte> bytes(frame_size);
  Outbox outbox;
  const auto answer = [&] {
    outbox.post(comm, answers.finish(), 0, result_tag);
    answers.clear();
    outbox.reap();
  };
  for (;;) {
    bytes.resize(std::max(bytes.size(), frame_size));
    comm.recv_into(std::span(bytes).first(frame_size), {.source = 0, .tag = task_tag});
    const std::size_t size = size_of(bytes.data());
    if (size > frame_size) {
      bytes.resize(std::max(bytes.size(), size));
      comm.recv_into(std::span(bytes).subspan(frame_size, size - frame_size),
                     {.source = 0, .tag = task_tag + 1});
    }
    Records records(ByteView(bytes).first(size));
    std::int64_t since = now_ns();
    while (const auto record = records.next()) {
      if (record->header.kind == RecordKind::end) {
        outbox.flush();
        return;
      }
      runner.run(*record, answers);
      const std::int64_t now = now_ns();
      if (!answers.empty() && (answers.size() > batch_bytes || now - since > answer_after_ns)) {
        answer();
        since = now;
      }
    }
    if (!answers.empty()) answer();
  }
}

}  // namespace manyhands::mpi::detail
