#pragma once
// Pipe: two connections that talk to each other, like multiprocessing.Pipe; values of any packable type, both
// ways.
//
//   mh::Pipe pipe;
//   mh::Process p{[](mh::Connection c) { c.send(c.recv<double>() * 2); }, pipe.second};
//   pipe.first.send(21.0);
//   double answer = pipe.first.recv<double>();
//
// A value says of what type it is: recv<T>() of another type throws WireError, and the value is taken. When
// the last handle of one end is gone, because it was dropped or because the processes that had it ended or
// were killed, the other end gets EndOfPipe, after it has received what was sent before: so drop the handle
// of the end that you gave away.
//
// Copies are handles to the same end. Any process; several may send and receive at one end, each value goes
// to one of them.

#include <cstddef>
#include <optional>
#include <source_location>

#include "manyhands/process/queue.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands {

// The other end of a pipe is gone.
class EndOfPipe : public Error {
 public:
  using Error::Error;
};

class Connection {
  using Where = std::source_location;

 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::connection;
  explicit Connection(shm::BlockPtr end);

  // Blocks while 1024 values wait at the other end; throws Timeout if that lasts so long, EndOfPipe if nobody
  // is there.
  template <class T>
  void send(const T& value, TimeLimit timeout = Deadline::never, const Where& where = Where::current()) {
    try {
      if (process::pack_into(out_, value, Deadline(timeout), where)) return;
    } catch (const QueueClosed&) {
      throw_end();
    }
    throw_timeout(true);
  }

  // Blocks until a value is there; throws Timeout, EndOfPipe, and WireError if it is no T.
  template <class T>
  T recv(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) {
    process::TakenMessage message;
    if (!take(message, timeout, where)) throw_timeout(false);
    return message.read<T>();
  }
  // Does not block; nullopt if nothing is there.
  template <class T>
  [[nodiscard]] std::optional<T> try_recv(const Where& where = Where::current()) {
    process::TakenMessage message;
    if (!take(message, Duration(0), where)) return std::nullopt;
    return message.read<T>();
  }
  // Whether recv() would not block: a value is there, or the end. Blocks at most `timeout` for that.
  [[nodiscard]] bool poll(TimeLimit timeout = Duration(0), const Where& where = Where::current());

  // Ends the connection for all handles of both ends: what was sent can still be received, then comes
  // EndOfPipe.
  void close(const Where& where = Where::current());

  const shm::BlockPtr& block() const noexcept { return end_; }

 private:
  bool take(process::TakenMessage& message, TimeLimit timeout, const Where& where);
  [[noreturn]] static void throw_end();
  [[noreturn]] void throw_timeout(bool sending) const;

  shm::BlockPtr end_;
  process::QueueCore in_;
  process::QueueCore out_;
};

struct Pipe {
  Pipe();
  Connection first;
  Connection second;

 private:
  struct Ends;
  explicit Pipe(const Ends& ends);
};

}  // namespace manyhands
