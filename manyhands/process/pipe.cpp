#include "manyhands/process/pipe.hpp"

#include <fmt/core.h>

#include <utility>

namespace manyhands {
namespace {

constexpr std::size_t capacity = 1024;          // values
constexpr std::uint64_t untyped = 0x6570'6970;  // these queues hold values of many types

// An end holds a reference to both queues, and knows the other end, which may be gone: then the queues are
// closed.
struct EndState {
  shm::Offset in;
  shm::Offset out;
  shm::Offset peer;
};

// With the last handle of an end, the other side sees the end of the pipe.
const bool tidies = [] {
  shm::on_last_release(shm::BlockKind::connection, [](shm::Offset end) {
    for (const shm::Offset queue : {shm::at<EndState>(end).in, shm::at<EndState>(end).out}) {
      process::close_queue(queue);
      shm::release(queue);
    }
  });
  return true;
}();

shm::BlockPtr make_end(const process::QueueCore& in, const process::QueueCore& out) {
  static_cast<void>(tidies);
  for (const auto* queue : {&in, &out}) shm::add_ref(queue->block()->offset());
  shm::BlockPtr end = shm::Block::create(sizeof(EndState), shm::BlockKind::connection);
  shm::at<EndState>(end->offset()) = {.in = in.block()->offset(), .out = out.block()->offset(), .peer = 0};
  return end;
}

process::QueueCore queue_of(shm::Offset queue, shm::Offset end) {
  const auto& state = shm::at<EndState>(end);
  return {shm::Block::attach(queue, shm::BlockKind::queue),
          untyped,
          {.doors = {end, state.peer}, .targets = {state.in, state.out}}};
}

}  // namespace

Connection::Connection(shm::BlockPtr end)
    : end_(std::move(end)),
      in_(queue_of(shm::at<EndState>(end_->offset()).in, end_->offset())),
      out_(queue_of(shm::at<EndState>(end_->offset()).out, end_->offset())) {}

bool Connection::take(process::TakenMessage& message, TimeLimit timeout, const Where& where) {
  try {
    return in_.get(message, Deadline(timeout), where);
  } catch (const QueueClosed&) {
    throw_end();
  }
}

bool Connection::poll(TimeLimit timeout, const Where& where) {
  return in_.wait_for_message(Deadline(timeout), where);
}

void Connection::close(const Where& where) {
  in_.close(where);
  out_.close(where);
}

void Connection::throw_end() {
  throw EndOfPipe(
      "the other end of this pipe is gone: it was closed, or every process that had it has ended");
}

void Connection::throw_timeout(bool sending) const {
  const auto number = shm::header_of(end_->offset()).number;
  throw Timeout(
      sending
          ? fmt::format("the other end of pipe connection {} left {} values waiting for the whole time given "
                        "to send()",
                        number, capacity)
          : fmt::format("nothing came over pipe connection {} for the whole time given to recv()", number));
}

struct Pipe::Ends {
  Ends() {
    const process::QueueCore there(capacity, untyped, {});
    const process::QueueCore back(capacity, untyped, {});
    first = make_end(back, there);
    second = make_end(there, back);
    shm::at<EndState>(first->offset()).peer = second->offset();
    shm::at<EndState>(second->offset()).peer = first->offset();
  }
  shm::BlockPtr first;
  shm::BlockPtr second;
};

Pipe::Pipe() : Pipe(Ends{}) {}
Pipe::Pipe(const Ends& ends) : first(ends.first), second(ends.second) {}

}  // namespace manyhands
