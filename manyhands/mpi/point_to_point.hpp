#pragma once
// PointToPoint: messages from one rank to another; the first half of every communicator.
//
//   world.send(v, {.dest = 1, .tag = 11});                     // a number, struct, vector, map: any type
//   auto v = world.recv<std::vector<double>>({.source = 0});   // sized by what comes
//   world.recv_into(std::span(memory), {.source = 0});         // where it shall lie: MPI_Recv, no allocation
//   auto [value, source, tag] = world.recv_from<Job>();        // from anybody
//   auto sent = world.isend(std::move(v), {.dest = 1});        // owns v; get() gives it back
//
// Plain values and flat ranges (datatype.hpp) travel from and to where they lie, as the MPI datatype of their
// elements, and can be exchanged with C and Fortran; everything else is packed, and both sides name the same
// type. Counts above 2^31 work.
//
// Errors: mpi::Error with class rank, tag, truncate (more came than there is room for), type (what came is no
// T), ...

#include <optional>
#include <ranges>
#include <span>
#include <utility>
#include <vector>

#include "manyhands/mpi/communicator.hpp"
#include "manyhands/mpi/given.hpp"
#include "manyhands/mpi/large.hpp"
#include "manyhands/mpi/late_receive.hpp"
#include "manyhands/mpi/message.hpp"
#include "manyhands/mpi/object.hpp"
#include "manyhands/mpi/persistent.hpp"
#include "manyhands/mpi/request.hpp"

namespace manyhands::mpi {

// Where a message goes; dest may be proc_null.
struct To {
  int dest = detail::unset;
  int tag = 0;
};

// Where a message may come from. `capacity`, of an irecv of a vector or string: the elements that will come
// at most; the receive is posted with MPI at once then, and not only when the message is there.
struct From {
  int source = any_source;
  int tag = any_tag;
  std::optional<std::size_t> capacity = {};
};

// What recv_from gives: auto [value, source, tag] = ...
template <class T>
struct Received {
  T value;
  int source;
  int tag;
};

namespace detail {

enum class SendMode { standard, synchronous, buffered, ready };

template <SendMode Mode>
struct SendCalls;
template <>
struct SendCalls<SendMode::standard> {
  static constexpr auto* send = &MPI_Send;
  static constexpr auto *isend = &MPI_Isend, *init = &MPI_Send_init;
  static constexpr const char *verb = "send", *iverb = "isend";
};
template <>
struct SendCalls<SendMode::synchronous> {
  static constexpr auto* send = &MPI_Ssend;
  static constexpr auto *isend = &MPI_Issend, *init = &MPI_Ssend_init;
  static constexpr const char *verb = "ssend", *iverb = "issend";
};
template <>
struct SendCalls<SendMode::buffered> {
  static constexpr auto* send = &MPI_Bsend;
  static constexpr auto *isend = &MPI_Ibsend, *init = &MPI_Bsend_init;
  static constexpr const char *verb = "bsend", *iverb = "ibsend";
};
template <>
struct SendCalls<SendMode::ready> {
  static constexpr auto* send = &MPI_Rsend;
  static constexpr auto *isend = &MPI_Irsend, *init = &MPI_Rsend_init;
  static constexpr const char *verb = "rsend", *iverb = "irsend";
};

// A type that refers to memory of another: lent, not owned.
template <class T>
concept Lent = BufferLike<T> || (std::ranges::range<T> && std::ranges::view<std::remove_cvref_t<T>>);

// Can be received by value.
template <class T>
concept Receivable =
    !std::is_reference_v<T> && !std::is_const_v<T> && (Plain<T> || Resizable<T> || Packed<T>);

template <class T>
inline constexpr bool is_sendable = Direct<T> || Packed<std::remove_cvref_t<T>>;

template <class T>
inline constexpr bool is_char_array =
    std::is_array_v<T> && std::is_same_v<std::remove_cv_t<std::remove_extent_t<T>>, char>;

#define MH_MPI_SENDABLE(T)                                                                           \
  static_assert(::manyhands::mpi::detail::is_sendable<T>,                                            \
                "this type cannot be sent: make it an aggregate of packable members, or specialise " \
                "manyhands::wire::Codec<T>")
#define MH_MPI_NO_LITERAL(T)                                                                           \
  static_assert(!::manyhands::mpi::detail::is_char_array<T>,                                           \
                "an array of char is text with a 0 behind it, or a buffer: send std::string(text) or " \
                "std::span(buffer)")
#define MH_MPI_RECEIVABLE(T)                                                                            \
  static_assert(::manyhands::mpi::detail::Receivable<T>,                                                \
                "this type cannot be received by value: use recv_into for spans and views; make it an " \
                "aggregate of packable members, or specialise manyhands::wire::Codec<T>")

void send_native(CommState& state, ConstBuffer data, To to, SendMode mode);
MPI_Request isend_native(CommState& state, ConstBuffer data, To to, SendMode mode);
MPI_Status recv_native(CommState& state, Buffer data, From from);
MPI_Request irecv_native(CommState& state, Buffer data, From from);
// A matched message of (source, tag), blocking; its size in `status`.
MPI_Message match(CommState& state, From from, MPI_Status& status);
void receive_matched(CommState& state, MPI_Message& message, Buffer data, MPI_Status& status);
// Throws Error (truncate) unless `status` has as many bytes as one value.
void require_bytes(CommState& state, const MPI_Status& status, std::size_t bytes);

template <class T>
T receive_value(CommState& state, From from, MPI_Status& status);
template <class T>
void receive_into(CommState& state, T& data, From from, MPI_Status& status);
// The bytes of `data` as MPI packs them: another buffer of the same type signature.
std::vector<std::byte> pack_copy(CommState& state, ConstBuffer data);

// A send and a receive as one operation. Both move on whenever it is asked.
template <class S, class T>
class SendReceiveSteps : public Yields<T> {
 public:
  SendReceiveSteps(Request<T> receiving, Request<S> sending)
      : receiving_(std::move(receiving)), sending_(std::move(sending)) {}
  bool advance(MPI_Request&, MPI_Status& status) override {
    const bool sent = sending_.test();
    if (!receiving_.test() || !sent) return false;
    status = receiving_.core().status();
    return true;
  }

 protected:
  Request<T> receiving_;
  Request<S> sending_;
};
template <class S, class T>
class SendReceive final : public SendReceiveSteps<S, T> {
 public:
  using SendReceiveSteps<S, T>::SendReceiveSteps;
  T take() override { return this->receiving_.get(); }
};
template <class S>
class SendReceive<S, void> final : public SendReceiveSteps<S, void> {
 public:
  using SendReceiveSteps<S, void>::SendReceiveSteps;
};
template <class S, class T>
Request<T> together(Request<T> receiving, Request<S> sending, const char* verb) {
  auto both = std::make_unique<SendReceive<S, T>>(std::move(receiving), std::move(sending));
  return Request<T>(RequestCore(MPI_REQUEST_NULL, std::move(both), verb, Dropped::wait));
}

}  // namespace detail

class PointToPoint : public Communicator {
 public:
  // ---- Blocking.

  // Sends `value`: a plain value, a flat range, a Buffer, or any packable object. Returns when it may be
  // changed again: it was copied or received. ssend returns when its receive has begun; bsend copies into the
  // buffer of attach_buffer() and never waits; rsend requires that the receive is posted already.
  template <class T>
  [[gnu::always_inline]] void send(const T& value, To to) const {
    send_in<detail::SendMode::standard>(detail::given(value), to);
  }
  template <class T>
  [[gnu::always_inline]] void ssend(const T& value, To to) const {
    send_in<detail::SendMode::synchronous>(detail::given(value), to);
  }
  template <class T>
  [[gnu::always_inline]] void bsend(const T& value, To to) const {
    send_in<detail::SendMode::buffered>(detail::given(value), to);
  }
  template <class T>
  [[gnu::always_inline]] void rsend(const T& value, To to) const {
    send_in<detail::SendMode::ready>(detail::given(value), to);
  }

  // Blocks until a message matches and returns it: a plain value (exactly one), a vector or string of
  // whatever size came, or an object. From proc_null: an empty T at once.
  template <class T>
  T recv(From from = {}) const {
    MH_MPI_RECEIVABLE(T);
    MPI_Status status{};
    return detail::receive_value<T>(state("recv"), from, status);
  }
  template <class T>
  Received<T> recv_from(From from = {}) const {
    MH_MPI_RECEIVABLE(T);
    MPI_Status status{};
    T value = detail::receive_value<T>(state("recv_from"), from, status);
    return {std::move(value), status.MPI_SOURCE, status.MPI_TAG};
  }
  // The same into memory that is there: a span or Buffer (the message may be shorter: see Status::count), a
  // plain value, a vector or string (resized), an object. Large vectors of an object are used again if as
  // many of the same sizes come, and receive the data where it shall lie; after an Error (type) their content
  // is unspecified.
  template <class T>
  Status recv_into(T&& data, From from = {}) const {
    MPI_Status status{};
    detail::receive_into(state("recv_into"), data, from, status);
    return detail::to_status(status);
  }

  // Sends one and receives another message, without a deadlock whatever the order on the other side.
  template <class T, class U>
  [[gnu::always_inline]] T sendrecv(const U& value, To to, From from) const {
    return sendrecv_in<T>(detail::given(value), to, from);
  }
  // As above into memory that is there.
  template <class U, class T>
  [[gnu::always_inline]] Status sendrecv_into(const U& value, To to, T&& data, From from) const {
    return sendrecv_into_in(detail::given(value), to, data, from);
  }
  // Sends what lies in `data` and replaces it by what comes.
  template <class T>
    requires Direct<T>
  Status sendrecv_replace(T&& data, To to, From from) const;

  // ---- Probes: look at a message before receiving it.

  // Blocks until a message could be received.
  Status probe(From from = {}) const;
  std::optional<Status> iprobe(From from = {}) const;
  // The same and takes the message out of the way of all other receives.
  Message mprobe(From from = {}) const;
  std::optional<Message> improbe(From from = {}) const;

  // ---- Nonblocking.

  // Starts to send. An rvalue is owned by the request, and given back by get(). A span or Buffer is lent: it
  // must stay until the request is done. A plain value is copied; an object is packed at once. An lvalue
  // vector does not compile: move it, or lend std::span(v).
  template <class T>
  [[gnu::always_inline]] auto isend(T&& value, To to) const {
    return isend_in<detail::SendMode::standard>(detail::given_on<T>(value), to);
  }
  template <class T>
  [[gnu::always_inline]] auto issend(T&& value, To to) const {
    return isend_in<detail::SendMode::synchronous>(detail::given_on<T>(value), to);
  }
  template <class T>
  [[gnu::always_inline]] auto ibsend(T&& value, To to) const {
    return isend_in<detail::SendMode::buffered>(detail::given_on<T>(value), to);
  }
  template <class T>
  [[gnu::always_inline]] auto irsend(T&& value, To to) const {
    return isend_in<detail::SendMode::ready>(detail::given_on<T>(value), to);
  }
  // Starts to receive a T of whatever size. Receives are matched in the order in which they were started. One
  // whose size is not known (a vector without capacity, text, an object) is matched while this rank is in
  // calls of this header or of requests, not in collectives, windows and files: the sender of a large message
  // may have to wait until then.
  template <class T>
  Request<T> irecv(From from = {}) const;
  // Starts to receive into memory that must stay until the request is done.
  template <class T>
  Request<void> irecv_into(T&& data, From from = {}) const;

  // Starts to send one and to receive another message: one request for both, whose value and status() are
  // those of the receive. `value` and `data` as of isend and irecv_into. Cannot be cancelled.
  template <class T, class U>
  [[gnu::always_inline]] Request<T> isendrecv(U&& value, To to, From from) const;
  template <class U, class T>
  [[gnu::always_inline]] Request<void> isendrecv_into(U&& value, To to, T&& data, From from) const;
  // Sends what lies in `data` now, of which it keeps a copy, and replaces it by what comes; `data` must stay
  // until the request is done.
  template <class T>
    requires Direct<T>
  Request<void> isendrecv_replace(T&& data, To to, From from) const;

  // ---- Persistent: the same transfer, many times. Borrows the data.

  template <class T>
  Persistent send_init(T&& data, To to) const {
    return send_init_in<detail::SendMode::standard>(data, to);
  }
  template <class T>
  Persistent ssend_init(T&& data, To to) const {
    return send_init_in<detail::SendMode::synchronous>(data, to);
  }
  template <class T>
  Persistent bsend_init(T&& data, To to) const {
    return send_init_in<detail::SendMode::buffered>(data, to);
  }
  template <class T>
  Persistent rsend_init(T&& data, To to) const {
    return send_init_in<detail::SendMode::ready>(data, to);
  }
  template <class T>
  Persistent recv_init(T&& data, From from = {}) const;

  // The data in `partitions` equal parts that may be sent, or arrive, one by one, from several threads.
  // Requires: the size is a multiple of `partitions`. Where MPI has none (before MPI 4) the data goes as a
  // whole when the last part is ready.
  template <class T>
  PartitionedSend psend_init(T&& data, int partitions, To to) const {
    return PartitionedSend(state("psend_init"), as_buffer(data), partitions, to.dest, to.tag);
  }
  template <class T>
  PartitionedReceive precv_init(T&& data, int partitions, From from) const {
    return PartitionedReceive(state("precv_init"), as_writable(data), partitions, from.source, from.tag);
  }

 protected:
  using Communicator::Communicator;

 private:
  // Out of line: see given.hpp.
  template <detail::SendMode Mode, class T>
  [[gnu::noinline]] void send_in(const T& value, To to) const {
    MH_MPI_SENDABLE(T);
    MH_MPI_NO_LITERAL(T);
    detail::CommState& here = state(detail::SendCalls<Mode>::verb);
    if constexpr (Direct<T>) {
      detail::send_native(here, as_buffer(value), to, Mode);
    } else {
      const detail::ThreadMessage message(value);
      detail::send_native(here, message.buffer(), to, Mode);
    }
  }
  template <detail::SendMode Mode, class T>
  [[gnu::noinline]] auto isend_in(T&& value, To to) const;
  template <class T, class U>
  [[gnu::noinline]] T sendrecv_in(const U& value, To to, From from) const;
  template <class U, class T>
  [[gnu::noinline]] Status sendrecv_into_in(const U& value, To to, T& data, From from) const;
  template <detail::SendMode Mode, class T>
  Persistent send_init_in(T& data, To to) const;
};

// Gives the MPI memory to copy bsend()s into; detach_buffer() blocks until all of them are delivered. One per
// process.
void attach_buffer(std::size_t bytes);
void detach_buffer();

}  // namespace manyhands::mpi

#include "manyhands/mpi/point_to_point_impl.hpp"
