#pragma once
// The bodies of point_to_point.hpp; included by it alone.

namespace manyhands::mpi {
namespace detail {

// ---- Values out of messages.

inline About about_message(const CommState& state, const MPI_Status& status) {
  return {.comm = state.comm, .source = status.MPI_SOURCE, .tag = status.MPI_TAG};
}

// Takes the message out of the way, so that its sender goes on.
inline void drop_matched(CommState& state, MPI_Message& message, MPI_Status status) {
  Scratch& scratch = thread_scratch();
  const MPI_Count bytes = bytes_of(status);
  receive_matched(state, message, {scratch.room(static_cast<std::size_t>(bytes)), bytes, MPI_BYTE}, status);
  scratch.trim();
}

template <class T>
void receive_matched_into(CommState& state, MPI_Message& message, T& data, MPI_Status& status) {
  if constexpr (Resizable<T>) {
    using E = std::ranges::range_value_t<T>;
    if (bytes_of(status) % static_cast<MPI_Count>(sizeof(E)) != 0) drop_matched(state, message, status);
    data.resize(static_cast<std::size_t>(to_status(status).count<E>()));
  }
  receive_matched(state, message, as_writable(data), status);
}

// The object in a message of `bytes`; from proc_null an empty one, if there is such a thing.
template <class T>
T object_that_came(ByteView bytes, CommState& state, const MPI_Status& status) {
  if constexpr (std::default_initializable<T>) {
    if (status.MPI_SOURCE == MPI_PROC_NULL) return T{};
  }
  return unpack_object<T>(bytes, about_message(state, status));
}

template <class T>
T unpack_matched(CommState& state, MPI_Message& message, MPI_Status& status) {
  Scratch& scratch = thread_scratch();
  const MPI_Count bytes = bytes_of(status);
  std::byte* const data = scratch.room(static_cast<std::size_t>(bytes));
  receive_matched(state, message, {data, bytes, MPI_BYTE}, status);
  T value = object_that_came<T>({data, static_cast<std::size_t>(bytes)}, state, status);
  scratch.trim();
  return value;
}

// Into an object that is there: its large arrays are used again if what comes has such ones.
template <class T>
void unpack_matched_into(CommState& state, MPI_Message& message, T& data, MPI_Status& status) {
  thread_local PlaceFinder places;
  const MPI_Count bytes = bytes_of(status);
  if (bytes < ObjectInPlace::from_bytes || !places.worth_trying()) {
    data = unpack_matched<T>(state, message, status);
    return;
  }
  ObjectInPlace place(data);
  const bool may_take = place.may_take(bytes);
  if (may_take) receive_matched(state, message, place.lay_out(), status);
  const bool matches = may_take && place.matches();
  places.found(matches);
  if (matches) {
    data = unpack_whole<T>(place.reader(), bytes, about_message(state, status));
  } else if (may_take) {
    Scratch& scratch = thread_scratch();
    const auto size = static_cast<std::size_t>(bytes);
    std::byte* const together = scratch.room(size);
    place.all(together);
    data = unpack_object<T>({together, size}, about_message(state, status));
    scratch.trim();
  } else {
    data = unpack_matched<T>(state, message, status);
  }
}

template <class T>
T receive_value(CommState& state, From from, MPI_Status& status) {
  if constexpr (Plain<T>) {
    T value{};
    status = recv_native(state, as_writable(value), from);
    require_bytes(state, status, sizeof(T));
    return value;
  } else {
    MPI_Message message = match(state, from, status);
    if (status.MPI_SOURCE == MPI_PROC_NULL) return T{};
    if constexpr (Resizable<T>) {
      T value;
      receive_matched_into(state, message, value, status);
      return value;
    } else {
      return unpack_matched<T>(state, message, status);
    }
  }
}

template <class T>
void receive_into(CommState& state, T& data, From from, MPI_Status& status) {
  using U = std::remove_cvref_t<T>;
  if constexpr (Resizable<U> || Packed<U>) {
    MPI_Message message = match(state, from, status);
    if (status.MPI_SOURCE == MPI_PROC_NULL) return;
    if constexpr (Resizable<U>) {
      receive_matched_into(state, message, data, status);
    } else {
      unpack_matched_into(state, message, data, status);
    }
  } else {
    status = recv_native(state, as_writable(data), from);
    if constexpr (Plain<U> && !std::ranges::range<U>) require_bytes(state, status, sizeof(U));
  }
}

// ---- Receives under way.

// A plain value: a receive of MPI itself.
template <class T>
class FixedReceive final : public Yields<T> {
 public:
  explicit FixedReceive(CommState& state) : state_(state.shared_from_this()) {}
  bool advance(MPI_Request&, MPI_Status& status) override {
    int cancelled = 0;
    MPI_Test_cancelled(&status, &cancelled);
    if (cancelled == 0) require_bytes(*state_, status, sizeof(T));
    return true;
  }
  T take() override { return std::move(value_); }
  T& value() noexcept { return value_; }

 private:
  std::shared_ptr<CommState> state_;  // the communicator may be freed before
  T value_{};
};

// A vector or string of at most so many elements: a receive of MPI itself, shrunk to what came.
template <class T>
class CappedReceive final : public Yields<T> {
 public:
  explicit CappedReceive(std::size_t capacity) { value_.resize(capacity); }
  bool advance(MPI_Request&, MPI_Status& status) override {
    value_.resize(static_cast<std::size_t>(to_status(status).count<std::ranges::range_value_t<T>>()));
    return true;
  }
  T take() override { return std::move(value_); }
  T& value() noexcept { return value_; }

 private:
  T value_;
};

// The steps that all late receives share: the match, the receive, and what follows.
template <class Base>
class LateSteps : public Base, public LateReceive {
 public:
  LateSteps(CommState& state, From from)
      : LateReceive(from.source, from.tag), kept_(state.shared_from_this()), comm_(state) {}
  // Stands in the queue from now on; one from nobody is done at once.
  void begin() {
    if (!from_nobody()) post(comm_);
  }
  bool advance(MPI_Request& native, MPI_Status& status) override {
    if (waits()) return false;
    rethrow();
    if (from_nobody()) {  // MPICH 4.0 gives other statuses, and no message of it that it would take
      status = MPI_Status{};
      status.MPI_SOURCE = MPI_PROC_NULL;
      status.MPI_TAG = MPI_ANY_TAG;
      MPI_Status_set_elements(&status, MPI_BYTE, 0);
      MPI_Status_set_cancelled(&status, 0);
    } else if (!received_) {
      received_ = true;
      native = std::exchange(pending_, MPI_REQUEST_NULL);
      if (native != MPI_REQUEST_NULL) return false;
    }
    arrived(status);
    return true;
  }

 protected:
  virtual void arrived(const MPI_Status& status) = 0;
  void start(MPI_Message message, Buffer data) {
    check(with_count(
              data.count, data.type,
              [&](int n, MPI_Datatype type) { return MPI_Imrecv(data.data, n, type, &message, &pending_); }),
          "irecv", {.comm = comm_.comm, .count = data.count, .type = data.type});
  }
  std::shared_ptr<CommState> kept_;  // the communicator may be freed before
  CommState& comm_;

 private:
  MPI_Request pending_ = MPI_REQUEST_NULL;  // started by matched(), handed to the request by advance()
  bool received_ = false;
};

template <class T>
class LateFlat final : public LateSteps<Yields<T>> {
 public:
  using LateSteps<Yields<T>>::LateSteps;
  T take() override { return std::move(value_); }

 private:
  void matched(MPI_Message message, const MPI_Status& status) override {
    const MPI_Count bytes = bytes_of(status);
    using E = std::ranges::range_value_t<T>;
    // A size that is no whole number of elements is reported by arrived(), after the message is out of the
    // way.
    value_.resize((static_cast<std::size_t>(bytes) + sizeof(E) - 1) / sizeof(E));
    this->start(message, {std::ranges::data(value_), bytes, MPI_BYTE});
  }
  void arrived(const MPI_Status& status) override {
    static_cast<void>(to_status(status).count<std::ranges::range_value_t<T>>());
  }
  T value_;
};

template <class T>
class LateObject final : public LateSteps<Yields<T>> {
 public:
  using LateSteps<Yields<T>>::LateSteps;
  T take() override {
    if (value_) return std::move(*value_);
    // Cancelled: as for a plain value, an empty one.
    if constexpr (std::default_initializable<T>) {
      return T{};
    } else {
      fail(Errc::request, "irecv", {.comm = this->comm_.comm},
           "the receive was cancelled: there is no value");
    }
  }

 private:
  void matched(MPI_Message message, const MPI_Status& status) override {
    bytes_ = bytes_of(status);
    this->start(message, {scratch_.room(static_cast<std::size_t>(bytes_)), bytes_, MPI_BYTE});
  }
  void arrived(const MPI_Status& status) override {
    value_.emplace(
        object_that_came<T>({scratch_.room(0), static_cast<std::size_t>(bytes_)}, this->comm_, status));
  }
  Scratch scratch_;
  MPI_Count bytes_ = 0;
  std::optional<T> value_;
};

// A plain value behind another late receive.
template <class T>
class LateFixed final : public LateSteps<Yields<T>> {
 public:
  using LateSteps<Yields<T>>::LateSteps;
  T take() override { return std::move(value_); }

 private:
  void matched(MPI_Message message, const MPI_Status&) override { this->start(message, as_writable(value_)); }
  void arrived(const MPI_Status& status) override { require_bytes(this->comm_, status, sizeof(T)); }
  T value_{};
};

// Memory of the caller's.
template <class T>
class LateInto final : public LateSteps<Yields<void>> {
 public:
  LateInto(CommState& state, From from, T& data) : LateSteps<Yields<void>>(state, from), data_(data) {}

 private:
  void matched(MPI_Message message, const MPI_Status& status) override {
    if constexpr (Resizable<T>) {
      using E = std::ranges::range_value_t<T>;
      const MPI_Count bytes = bytes_of(status);
      data_.resize((static_cast<std::size_t>(bytes) + sizeof(E) - 1) / sizeof(E));
      this->start(message, {std::ranges::data(data_), bytes, MPI_BYTE});
    } else if constexpr (Packed<T>) {
      bytes_ = bytes_of(status);
      this->start(message, {scratch_.room(static_cast<std::size_t>(bytes_)), bytes_, MPI_BYTE});
    } else {
      this->start(message, as_writable(data_));
    }
  }
  void arrived(const MPI_Status& status) override {
    if (status.MPI_SOURCE == MPI_PROC_NULL) return;
    if constexpr (Resizable<T>) {
      static_cast<void>(to_status(status).count<std::ranges::range_value_t<T>>());
    } else if constexpr (Packed<T>) {
      data_ = object_that_came<T>({scratch_.room(0), static_cast<std::size_t>(bytes_)}, this->comm_, status);
    } else if constexpr (Plain<T> && !std::ranges::range<T>) {
      require_bytes(this->comm_, status, sizeof(T));
    }
  }
  // A span or Buffer is kept by value: the caller's may be a temporary.
  std::conditional_t<Lent<T>, T, T&> data_;
  Scratch scratch_;
  MPI_Count bytes_ = 0;
};

template <class T, class Op>
Request<T> late_request(std::unique_ptr<Op> operation) {
  operation->begin();
  return Request<T>(RequestCore(MPI_REQUEST_NULL, std::move(operation), "irecv", Dropped::cancel));
}

}  // namespace detail

template <detail::SendMode Mode, class T>
auto PointToPoint::isend_in(T&& value, To to) const {
  MH_MPI_SENDABLE(T);
  MH_MPI_NO_LITERAL(std::remove_reference_t<T>);
  using U = std::remove_cvref_t<T>;
  using Calls = detail::SendCalls<Mode>;
  detail::CommState& here = state(Calls::iverb);
  if constexpr (detail::Lent<T>) {
    const MPI_Request native = detail::isend_native(here, as_buffer(value), to, Mode);
    return Request<void>(detail::RequestCore(native, nullptr, Calls::iverb, detail::Dropped::wait));
  } else if constexpr (Direct<T>) {
    static_assert(
        Plain<U> || !std::is_lvalue_reference_v<T>,
        "isend of an lvalue container: move it in (get() gives it back), or lend std::span(container), which "
        "must stay until the request is done");
    auto owned = std::make_unique<detail::Holds<U>>(U(std::forward<T>(value)));
    const MPI_Request native = detail::isend_native(here, as_buffer(owned->value()), to, Mode);
    return Request<U>(detail::RequestCore(native, std::move(owned), Calls::iverb, detail::Dropped::detach));
  } else if constexpr (std::is_lvalue_reference_v<T>) {
    detail::ObjectMessage message(wire::never_out_of_band);
    message.pack(value);
    auto owned = std::make_unique<detail::Keeps<detail::ObjectMessage>>(std::move(message));
    const MPI_Request native = detail::isend_native(here, owned->value().buffer(), to, Mode);
    return Request<void>(
        detail::RequestCore(native, std::move(owned), Calls::iverb, detail::Dropped::detach));
  } else {
    using Both = std::pair<U, detail::ObjectMessage>;
    auto owned = std::make_unique<detail::HoldsFirst<Both>>(
        Both(std::forward<T>(value), detail::ObjectMessage(detail::out_of_band_from)));
    owned->value().second.pack(owned->value().first);
    const MPI_Request native = detail::isend_native(here, owned->value().second.buffer(), to, Mode);
    return Request<U>(detail::RequestCore(native, std::move(owned), Calls::iverb, detail::Dropped::detach));
  }
}

template <class T>
Request<T> PointToPoint::irecv(From from) const {
  MH_MPI_RECEIVABLE(T);
  detail::CommState& here = state("irecv");
  const bool behind = from.source == MPI_PROC_NULL || detail::stands_behind_late(here, from.source, from.tag);
  if constexpr (Plain<T>) {
    if (behind) return detail::late_request<T>(std::make_unique<detail::LateFixed<T>>(here, from));
    auto owned = std::make_unique<detail::FixedReceive<T>>(here);
    const MPI_Request native = detail::irecv_native(here, as_writable(owned->value()), from);
    return Request<T>(detail::RequestCore(native, std::move(owned), "irecv", detail::Dropped::cancel));
  } else if constexpr (Resizable<T>) {
    if (!from.capacity || behind)
      return detail::late_request<T>(std::make_unique<detail::LateFlat<T>>(here, from));
    auto owned = std::make_unique<detail::CappedReceive<T>>(*from.capacity);
    const MPI_Request native = detail::irecv_native(here, as_writable(owned->value()), from);
    return Request<T>(detail::RequestCore(native, std::move(owned), "irecv", detail::Dropped::cancel));
  } else {
    return detail::late_request<T>(std::make_unique<detail::LateObject<T>>(here, from));
  }
}

template <class T>
Request<void> PointToPoint::irecv_into(T&& data, From from) const {
  using U = std::remove_cvref_t<T>;
  static_assert(std::is_lvalue_reference_v<T> || detail::Lent<T>,
                "irecv_into needs memory that stays: a span or an lvalue");
  detail::CommState& here = state("irecv_into");
  constexpr bool unsized = Resizable<U> || Packed<U>;
  if (unsized || from.source == MPI_PROC_NULL || detail::stands_behind_late(here, from.source, from.tag))
    return detail::late_request<void>(std::make_unique<detail::LateInto<U>>(here, from, data));
  if constexpr (!unsized) {
    const MPI_Request native = detail::irecv_native(here, as_writable(data), from);
    return Request<void>(detail::RequestCore(native, nullptr, "irecv_into", detail::Dropped::cancel));
  }
}

template <class T, class U>
T PointToPoint::sendrecv_in(const U& value, To to, From from) const {
  MH_MPI_SENDABLE(U);
  MH_MPI_RECEIVABLE(T);
  T received{};
  sendrecv_into_in(value, to, received, from);
  return received;
}

template <class U, class T>
Status PointToPoint::sendrecv_into_in(const U& value, To to, T& data, From from) const {
  MH_MPI_SENDABLE(U);
  detail::CommState& here = state("sendrecv");
  const auto with = [&](ConstBuffer sent) {
    const MPI_Request native = detail::isend_native(here, sent, to, detail::SendMode::standard);
    Request<void> sending(detail::RequestCore(native, nullptr, "sendrecv", detail::Dropped::wait));
    MPI_Status status{};
    detail::receive_into(here, data, from, status);
    sending.get();
    return detail::to_status(status);
  };
  if constexpr (Direct<U>) {
    return with(as_buffer(value));
  } else {
    detail::ObjectMessage message(
        detail::out_of_band_from);  // not the thread's: receive_into may unpack meanwhile
    message.pack(value);
    return with(message.buffer());
  }
}

template <class T>
  requires Direct<T>
Status PointToPoint::sendrecv_replace(T&& data, To to, From from) const {
  detail::CommState& here = state("sendrecv_replace");
  const Buffer both = as_writable(data);
  detail::pass_late(here, from.source, from.tag);
  MPI_Status status{};
  detail::check(detail::with_count(both.count, both.type,
                                   [&](int n, MPI_Datatype type) {
                                     return MPI_Sendrecv_replace(both.data, n, type, to.dest, to.tag,
                                                                 from.source, from.tag, here.comm, &status);
                                   }),
                "sendrecv_replace",
                {.comm = here.comm,
                 .dest = to.dest,
                 .source = from.source,
                 .tag = to.tag,
                 .count = both.count,
                 .type = both.type});
  return detail::to_status(status);
}

template <class T, class U>
inline Request<T> PointToPoint::isendrecv(U&& value, To to, From from) const {
  Request<T> receiving = irecv<T>(from);
  return detail::together(std::move(receiving), isend(std::forward<U>(value), to), "isendrecv");
}

template <class U, class T>
inline Request<void> PointToPoint::isendrecv_into(U&& value, To to, T&& data, From from) const {
  Request<void> receiving = irecv_into(std::forward<T>(data), from);
  return detail::together(std::move(receiving), isend(std::forward<U>(value), to), "isendrecv");
}

template <class T>
  requires Direct<T>
Request<void> PointToPoint::isendrecv_replace(T&& data, To to, From from) const {
  const Buffer both = as_writable(data);
  ConstBuffer sent = both;
  std::vector<std::byte> bytes;
  if constexpr (BufferLike<T>) {  // of any layout
    bytes = detail::pack_copy(state("isendrecv_replace"), both);
    sent = {bytes.data(), static_cast<MPI_Count>(bytes.size()), MPI_PACKED};
  } else {
    std::size_t size = sizeof(data);
    if constexpr (Flat<std::remove_cvref_t<T>>) size = std::as_bytes(std::span(data)).size();
    const auto* const from_here = static_cast<const std::byte*>(both.data);
    bytes.assign(from_here, from_here + size);
    sent.data = bytes.data();
  }
  auto copy = std::make_unique<detail::Keeps<std::vector<std::byte>>>(std::move(bytes));
  Request<void> receiving = irecv_into(std::forward<T>(data), from);
  const MPI_Request native =
      detail::isend_native(state("isendrecv_replace"), sent, to, detail::SendMode::standard);
  Request<void> sending(
      detail::RequestCore(native, std::move(copy), "isendrecv_replace", detail::Dropped::detach));
  return detail::together(std::move(receiving), std::move(sending), "isendrecv_replace");
}

template <detail::SendMode Mode, class T>
Persistent PointToPoint::send_init_in(T& data, To to) const {
  static_assert(Direct<T>, "a persistent send needs memory that stays: a flat range, plain value or Buffer");
  detail::CommState& here = state("send_init");
  const ConstBuffer sent = as_buffer(data);
  MPI_Request native = MPI_REQUEST_NULL;
  detail::check(detail::with_count(sent.count, sent.type,
                                   [&](int n, MPI_Datatype type) {
                                     return detail::SendCalls<Mode>::init(sent.data, n, type, to.dest, to.tag,
                                                                          here.comm, &native);
                                   }),
                "send_init",
                {.comm = here.comm, .dest = to.dest, .tag = to.tag, .count = sent.count, .type = sent.type});
  return Persistent(native, "send_init");
}

template <class T>
Persistent PointToPoint::recv_init(T&& data, From from) const {
  static_assert(Direct<T>,
                "a persistent receive needs memory that stays: a flat range, plain value or Buffer");
  detail::CommState& here = state("recv_init");
  const Buffer into = as_writable(data);
  MPI_Request native = MPI_REQUEST_NULL;
  detail::check(
      detail::with_count(into.count, into.type,
                         [&](int n, MPI_Datatype type) {
                           return MPI_Recv_init(into.data, n, type, from.source, from.tag, here.comm,
                                                &native);
                         }),
      "recv_init",
      {.comm = here.comm, .source = from.source, .tag = from.tag, .count = into.count, .type = into.type});
  return Persistent(native, "recv_init");
}

template <class T>
T Message::recv() {
  MH_MPI_RECEIVABLE(T);
  require("Message::recv");
  detail::CommState& here = *state_;
  MPI_Status status = status_;
  if (status.MPI_SOURCE == MPI_PROC_NULL) {
    message_ = MPI_MESSAGE_NULL;
    return T{};
  }
  if constexpr (Plain<T>) {
    T value{};
    detail::receive_matched(here, message_, as_writable(value), status);
    detail::require_bytes(here, status, sizeof(T));
    return value;
  } else if constexpr (Resizable<T>) {
    T value;
    detail::receive_matched_into(here, message_, value, status);
    return value;
  } else {
    return detail::unpack_matched<T>(here, message_, status);
  }
}

template <class T>
Status Message::recv_into(T&& data) {
  require("Message::recv_into");
  MPI_Status status = status_;
  if (status.MPI_SOURCE == MPI_PROC_NULL) {
    message_ = MPI_MESSAGE_NULL;
    return detail::to_status(status);
  }
  if constexpr (Packed<std::remove_cvref_t<T>>) {
    detail::unpack_matched_into(*state_, message_, data, status);
  } else {
    detail::receive_matched_into(*state_, message_, data, status);
  }
  return detail::to_status(status);
}

#undef MH_MPI_SENDABLE
#undef MH_MPI_NO_LITERAL
#undef MH_MPI_RECEIVABLE

}  // namespace manyhands::mpi
