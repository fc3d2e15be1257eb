#include "manyhands/mpi/pool_runner.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "manyhands/base/stack_trace.hpp"
#include "manyhands/mpi/environment.hpp"
#include "manyhands/task/this_task.hpp"
#include "manyhands/wire/remote_error.hpp"

namespace manyhands::mpi::detail::pool {
namespace {

const bool deadlines_travel = register_exception<DeadlineExceeded>();

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
    context_.seed = head.seed;
  }
  void starting() override {
    item_started_ns_ = now_ns();
    context_.deadline_at_ns = item_started_ns_ + deadline_ns_;
  }
  void computed() override {
    if (now_ns() - item_started_ns_ < deadline_ns_) return;
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

const void* place_of(const Header& head) { return wire::address_of({head.module, head.offset}); }

}  // namespace

void Runner::run(const Record& record, Message& answers) {
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

void Runner::run_call(const Record& record, Message& answers) {
  const Header& head = record.header;
  Header answer{.kind = RecordKind::value, .id = head.id, .count = 1, .started_ns = now_ns()};
  Results reply;
  const ThrowTracer tracer;
  try {
    const task::Context context{
        .index = static_cast<std::int64_t>(head.id),
        .deadline_at_ns = head.deadline_ns == INT64_MAX ? INT64_MAX : answer.started_ns + head.deadline_ns,
        .worker = rank_,
        .seed = head.seed};
    const task::ContextScope scope(context);
    wire::Reader reader(record.payload);
    reinterpret_cast<wire::CallThunk>(const_cast<void*>(place_of(head)))(reader, reply);
    answer.completed_ns = now_ns();
    if (answer.completed_ns - answer.started_ns >= head.deadline_ns)
      throw DeadlineExceeded(fmt::format("the task took {} ms, longer than its deadline of {} ms",
                                         (answer.completed_ns - answer.started_ns) / 1'000'000,
                                         head.deadline_ns / 1'000'000));
    answers.add(answer, reply.bytes());
  } catch (...) {
    add_error(answer, static_cast<std::int64_t>(head.id), answers);
  }
}

void Runner::learn(const Record& record) {
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

void Runner::run_range(const Record& record, Message& answers) {
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
    answer.completed_ns = now_ns();
    answers.add(answer, io.results());
  } catch (...) {
    add_error(answer, static_cast<std::int64_t>(std::min(io.at(), head.first + head.count - 1)), answers);
  }
}

void Runner::add_error(Header answer, std::int64_t task, Message& answers) const {
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

}  // namespace manyhands::mpi::detail::pool
