#include "manyhands/mpi/pool_driver.hpp"

#include <map>
#include <unordered_map>

#include "manyhands/mpi/pool_message.hpp"
#include "manyhands/mpi/pool_runner.hpp"
#include "manyhands/wire/remote_error.hpp"

namespace manyhands::mpi::detail {
namespace {

constexpr std::size_t range_bytes = std::size_t{1} << 20;  // of a range's items
constexpr std::int64_t answer_after_ns = 200'000;          // results are not kept back longer than about this
constexpr std::int64_t local_slice_ns = 500'000;           // rank 0 looks after the others this often
constexpr std::size_t queue_limit = std::size_t{1} << 20;  // calls

}  // namespace

using namespace pool;

struct PoolDriver::Impl {
  struct Call {
    std::uint64_t id;
    wire::Function thunk;
    std::vector<std::byte> message;
    std::int64_t deadline_ns;
    std::uint64_t seed;
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
        .seed = map.options.seed.value_or(0),
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

  // How many of `most` calls of a function, one after the other, this rank may begin if it is to be back at
  // `deadline`: as long as the longest of those that were seen takes each. Alone, it has to run the first.
  std::uint64_t count_before(const Deadline& deadline, std::uint64_t function, std::uint64_t most) const {
    if (!deadline.bounded()) return most;
    const std::uint64_t least = ranks.size() == 1 ? 1 : 0;
    const auto seen = longest_ns.find(function);
    if (seen == longest_ns.end()) return least;
    const std::int64_t fit = deadline.left().count() / std::max<std::int64_t>(1, seen->second);
    return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(fit), least, most);
  }
  void note_length(std::uint64_t function, const Header& head) {
    // One that took long for another reason, as on a busy machine, is forgotten after some dozens of others.
    auto& longest = longest_ns[function];
    longest -= longest / 16;
    const auto count = static_cast<std::int64_t>(std::max<std::uint64_t>(1, head.count));
    longest = std::max(longest, (head.completed_ns - head.started_ns) / count);
  }

  void add_call(Call& call, Message& message) {
    message.add({.kind = RecordKind::call,
                 .id = call.id,
                 .deadline_ns = call.deadline_ns,
                 .seed = call.seed,
                 .module = call.thunk.module,
                 .offset = call.thunk.offset},
                call.message);
    waiting.emplace(call.id, Waiting{call.thunk.offset, std::move(call.to)});
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

  // About how many batches next_batch() would make of what was not handed out.
  std::size_t batches_left() const {
    std::uint64_t batches = std::min<std::uint64_t>(calls.size(), 4 * ranks.size());
    for (const std::uint64_t id : open) {
      const Job& job = jobs.at(id);
      batches += (job.request.count - job.next) / range_length(job);
      if (batches > prefetch * ranks.size()) break;
    }
    return static_cast<std::size_t>(batches);
  }

  // How many batches a rank may have: `prefetch`, but towards the end no more than its share of all that is
  // left. What one rank holds back nobody else can do: with two of the last batches at one of two ranks, the
  // other one would be idle for as long as a batch takes.
  std::size_t share_of_a_rank() const {
    std::size_t all = batches_left();
    if (all > prefetch * ranks.size()) return prefetch;
    for (const Rank& peer : ranks) all += peer.batch_sizes.size();
    const std::size_t workers = ranks.size() - (driver_works ? 0 : 1);
    return std::clamp<std::size_t>((all + workers - 1) / workers, 1, prefetch);
  }

  void feed(std::size_t rank) {
    Rank& peer = ranks[rank];
    while (has_work() && peer.batch_sizes.size() < prefetch && peer.batch_sizes.size() < share_of_a_rank()) {
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
      const auto [function, to] = std::move(call->second);
      waiting.erase(call);
      note_length(function, head);
      to->deliver(result);
    } else if (const auto job = jobs.find(head.id); job != jobs.end()) {
      const auto to = job->second.to;
      --job->second.under_way;
      note_length(job->second.request.thunk.offset, head);
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
  struct Waiting {
    std::uint64_t function;
    std::shared_ptr<WorkReceiver> to;
  };
  std::unordered_map<std::uint64_t, Waiting> waiting;  // calls that were handed out
  // By a function's place in its module (the same place in two modules counts as one): the longest call, or
  // item of a range, of those that have ended lately.
  std::unordered_map<std::uint64_t, std::int64_t> longest_ns;
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
       .seed = options.seed.value_or(0),
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

bool PoolDriver::work_here(const Deadline& deadline) {
  Impl& d = *impl_;
  if (!d.driver_works || !d.has_work() || d.working) return false;
  Message batch;
  Message answers;
  bool range = false;
  if (!d.calls.empty()) {
    if (d.count_before(deadline, d.calls.front().thunk.offset, 1) == 0) return false;
    d.add_call(d.calls.front(), batch);
    d.calls.pop_front();
  } else {
    Impl::Job& job = d.jobs.at(d.open.front());
    range = true;
    const std::uint64_t length =
        d.count_before(deadline, job.request.thunk.offset, std::min(d.range_length(job), d.local_length));
    if (length == 0) return false;
    d.add_range(job, 0, length, batch);
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
