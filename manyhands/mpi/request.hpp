#pragma once
// Request<T>: a nonblocking operation under way, with the buffers that it needs and the value that it will
// give.
//
// What was moved into a call is owned by its request and given back by get(); what was lent as a span must
// outlive it. Waiting for one request also moves all others forward. A request that is dropped: a receive is
// cancelled; a send or collective whose buffers it owns goes on without it (and ends at the latest when MPI
// does); one that was lent memory is waited for, since the memory may go next.

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <variant>
#include <vector>

#include "manyhands/mpi/status.hpp"
#include "manyhands/task/async_result.hpp"

namespace manyhands::mpi {
namespace detail {

// What a request owns, and what follows when its part inside MPI is done.
class Operation {
 public:
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  virtual ~Operation() = default;
  // Called while nothing of it runs inside MPI; `status` is of the part that ended last. Either starts the
  // next part in `native` and returns false, or returns true when all is done; false with `native` null: ask
  // again later.
  virtual bool advance(MPI_Request& native, MPI_Status& status) = 0;
  // Whether MPI uses its memory although no request of MPI's is known outside of it.
  virtual bool waits_in_line() const noexcept { return false; }
};

enum class Dropped : std::uint8_t { cancel, detach, wait };

// The untyped part of a Request.
class RequestCore {
 public:
  RequestCore() = default;
  RequestCore(MPI_Request native, std::unique_ptr<Operation> operation, const char* verb,
              Dropped dropped) noexcept
      : native_(native),
        operation_(std::move(operation)),
        verb_(verb),
        phase_(Phase::running),
        dropped_(dropped) {}
  RequestCore(RequestCore&& other) noexcept;
  RequestCore& operator=(RequestCore&& other) noexcept;
  ~RequestCore() {
    if (phase_ == Phase::running) drop();
  }

  bool valid() const noexcept { return phase_ != Phase::empty; }
  bool done() const noexcept { return phase_ == Phase::done; }
  // Moves the operation forward; returns done(). Throws Error if it failed.
  bool test();
  void wait();
  void cancel();
  const MPI_Status& status() const noexcept { return status_; }
  Operation* operation() const noexcept { return operation_.get(); }
  MPI_Request native() const noexcept { return native_; }
  // Throws Error (request) unless it is one request of MPI's that owns nothing.
  MPI_Request release();
  void reset() noexcept {
    operation_.reset();
    phase_ = Phase::empty;
  }
  void require(const char* what) const {
    if (phase_ == Phase::empty) [[unlikely]]
      fail_empty(what);
  }

 private:
  enum class Phase : std::uint8_t { empty, running, done };
  [[noreturn]] static void fail_empty(const char* what);
  void drop() noexcept;
  bool finish_part(int code);
  bool settled() const;

  MPI_Request native_ = MPI_REQUEST_NULL;
  std::unique_ptr<Operation> operation_;
  MPI_Status status_{};
  const char* verb_ = "";
  std::exception_ptr error_;  // why it failed; thrown by every test() and wait() from then on
  Phase phase_ = Phase::empty;
  Dropped dropped_ = Dropped::wait;
};

// Moves everything forward that waits for a match, and lets other processes of a crowded machine run now and
// then.
class Backoff {
 public:
  void pause();

 private:
  unsigned rounds_ = 0;
};

// An operation that ends with a T.
template <class T>
class Yields : public Operation {
 public:
  virtual T take() = 0;
};
template <>
class Yields<void> : public Operation {};

// Holds a value until the one part of the operation is done.
template <class T>
class Holds final : public Yields<T> {
 public:
  explicit Holds(T&& value) : value_(std::move(value)) {}
  bool advance(MPI_Request&, MPI_Status&) override { return true; }
  T take() override { return std::move(value_); }
  T& value() noexcept { return value_; }

 private:
  T value_;
};

// Keeps something alive for an operation that yields nothing.
template <class T>
class Keeps final : public Yields<void> {
 public:
  explicit Keeps(T&& value) : value_(std::move(value)) {}
  bool advance(MPI_Request&, MPI_Status&) override { return true; }
  T& value() noexcept { return value_; }

 private:
  T value_;
};

// Holds a pair, of which the first is given back.
template <class Pair>
class HoldsFirst final : public Yields<typename Pair::first_type> {
 public:
  explicit HoldsFirst(Pair&& value) : value_(std::move(value)) {}
  bool advance(MPI_Request&, MPI_Status&) override { return true; }
  typename Pair::first_type take() override { return std::move(value_.first); }
  Pair& value() noexcept { return value_; }

 private:
  Pair value_;
};

// Waiting coroutines: resumed by progress().
void resume_when_done(RequestCore& core, std::coroutine_handle<> handle);

}  // namespace detail

// A resource: moved, not copied; one thread at a time.
template <class T>
class [[nodiscard]] Request {
 public:
  using value_type = T;

  Request() = default;  // refers to nothing
  explicit Request(detail::RequestCore core) noexcept : core_(std::move(core)) {}

  // Blocks until the operation is done, and returns its value: what was received, or the buffer that was
  // moved into a send. Once: the request is empty then. Throws Error if the operation failed or the request
  // is empty.
  T get() {
    core_.require("Request::get");
    core_.wait();
    if constexpr (std::is_void_v<T>) {
      core_.reset();
    } else {
      T value = static_cast<detail::Yields<T>*>(core_.operation())->take();
      core_.reset();
      return value;
    }
  }
  // Blocks until the operation is done; the value stays.
  void wait() {
    core_.require("Request::wait");
    core_.wait();
  }
  // Whether the operation is done. Does not block. Throws Error if it failed.
  bool test() {
    core_.require("Request::test");
    return core_.test();
  }
  // Asks a receive (or a send, where the MPI can) to end without a message; then wait() and look at
  // status().cancelled.
  void cancel() {
    core_.require("Request::cancel");
    core_.cancel();
  }
  // Of a receive that is done.
  Status status() const {
    core_.require("Request::status");
    detail::require_active("Request::status");
    return detail::to_status(core_.status());
  }
  // ---- Raw handles.

  // Takes over a request that MPI itself started, not a persistent one. Its buffers stay until it is done.
  static Request adopt(MPI_Request raw)
    requires std::is_void_v<T>
  {
    return Request(detail::RequestCore(raw, nullptr, "Request::adopt", detail::Dropped::wait));
  }
  static Request from_fortran(MPI_Fint handle)
    requires std::is_void_v<T>
  {
    return adopt(MPI_Request_f2c(handle));
  }
  // The request of MPI's that is under way now, to be looked at only (MPI_Request_get_status);
  // MPI_REQUEST_NULL if none is. One Request may be several of MPI's, one after the other.
  MPI_Request native() const noexcept { return core_.native(); }
  MPI_Fint to_fortran() const { return MPI_Request_c2f(core_.native()); }
  // Gives the raw handle away; who takes it waits for it. Throws Error (request) if the request owns memory
  // or is more than one of MPI's: then only this object can wait for it.
  MPI_Request release()
    requires std::is_void_v<T>
  {
    core_.require("Request::release");
    return core_.release();
  }

  // False after get() and for one that was moved from.
  bool valid() const noexcept { return core_.valid(); }

  // T value = co_await request; in a coroutine that returns AsyncResult. It is resumed by mpi::progress(), or
  // by any mpi::wait() for another result, in the thread that calls them.
  auto operator co_await() & { return Awaiter{*this}; }
  auto operator co_await() && { return Awaiter{*this}; }

  detail::RequestCore& core() noexcept { return core_; }

 private:
  struct Awaiter {
    Request& request;
    bool await_ready() { return request.test(); }
    void await_suspend(std::coroutine_handle<> handle) { detail::resume_when_done(request.core_, handle); }
    T await_resume() { return request.get(); }
  };
  detail::RequestCore core_;
};

// Moves all waiting coroutines and receives forward, and resumes coroutines whose request is done. Does not
// block. Returns how many coroutines still wait.
std::size_t progress();

// Blocks until a coroutine's result is there, making progress meanwhile; then its value, or its exception.
template <class T>
T wait(AsyncResult<T> result) {
  detail::Backoff backoff;
  while (!result.ready()) {
    progress();
    backoff.pause();
  }
  return std::move(result).get();
}

// A Request of any type, for containers of different ones. A resource: moved, not copied; one thread at a
// time.
//
//   std::vector<mpi::AnyRequest> all;
//   all.push_back(comm.irecv<std::string>({.source = 1}));
//   all.push_back(comm.isend(std::move(numbers), {.dest = 1}));
//   mpi::wait_all(all);
//   const auto text = all[0].get<std::string>();
class [[nodiscard]] AnyRequest {
 public:
  AnyRequest() = default;  // refers to nothing
  template <class T>
  AnyRequest(Request<T> request) noexcept  // NOLINT(google-explicit-constructor): it is one
      : core_(std::move(request.core())), type_(&typeid(T)) {}

  // Whether it will give a T (void: nothing). False for an empty one.
  template <class T>
  bool holds() const noexcept {
    return valid() && *type_ == typeid(T);
  }
  // As Request<T>::get. Throws Error (type) if it will give something else.
  template <class T>
  T get() {
    core_.require("AnyRequest::get");
    if (!holds<T>()) fail_type(typeid(T));
    return Request<T>(std::move(core_)).get();
  }
  // As those of Request.
  void wait() {
    core_.require("AnyRequest::wait");
    core_.wait();
  }
  bool test() {
    core_.require("AnyRequest::test");
    return core_.test();
  }
  void cancel() {
    core_.require("AnyRequest::cancel");
    core_.cancel();
  }
  Status status() const {
    core_.require("AnyRequest::status");
    return detail::to_status(core_.status());
  }
  bool valid() const noexcept { return core_.valid(); }

 private:
  [[noreturn]] void fail_type(const std::type_info& wanted) const;
  detail::RequestCore core_;
  const std::type_info* type_ = &typeid(void);
};

// ---- Several requests: of a range of Requests of one type, of AnyRequests, or of Persistents, of which
// those count that were started.

template <class T>
inline constexpr bool is_request = false;
template <class T>
inline constexpr bool is_request<Request<T>> = true;

template <class R>
concept Waitable = requires(R& request) {
  { request.valid() } -> std::convertible_to<bool>;
  { request.test() } -> std::convertible_to<bool>;
  { request.status() } -> std::same_as<Status>;
};

namespace detail {
// Whether it is awaited at all.
template <class R>
bool is_awaited(const R& request) {
  if constexpr (requires { request.started(); }) {
    return request.started();
  } else {
    return request.valid();
  }
}
// Whether the request is empty, done, or failed; why the first one failed goes into `failure`.
template <class R>
bool is_over(R& request, std::exception_ptr& failure) {
  try {
    return !is_awaited(request) || request.test();
  } catch (...) {
    if (!failure) failure = std::current_exception();
    return true;
  }
}
}  // namespace detail

// Blocks until all are done. Of several requests a tuple of their values (std::monostate for void); of a
// range of requests a vector of their values, or nothing. The requests are empty then. If some failed, the
// others are waited for first, and keep their values.
template <class... T>
auto wait_all(Request<T>&... requests) {
  detail::Backoff backoff;
  std::exception_ptr failure;
  while (!(detail::is_over(requests, failure) & ... & true)) backoff.pause();
  if (failure) std::rethrow_exception(failure);
  const auto take = []<class U>(Request<U>& request) {
    if constexpr (std::is_void_v<U>) {
      request.get();
      return std::monostate{};
    } else {
      return request.get();
    }
  };
  return std::tuple{take(requests)...};
}

namespace detail {
template <class Requests>
void wait_until_all_over(Requests& requests) {
  Backoff backoff;
  std::exception_ptr failure;
  for (bool all = false; !all;) {
    all = true;
    for (auto& request : requests) all = is_over(request, failure) && all;
    if (!all) backoff.pause();
  }
  if (failure) std::rethrow_exception(failure);
}
}  // namespace detail

template <std::ranges::forward_range Requests>
  requires is_request<std::ranges::range_value_t<Requests>>
auto wait_all(Requests&& requests) {
  using T = typename std::ranges::range_value_t<Requests>::value_type;
  detail::wait_until_all_over(requests);
  if constexpr (std::is_void_v<T>) {
    for (auto& request : requests) {
      if (request.valid()) request.get();
    }
  } else {
    std::vector<T> values;
    for (auto& request : requests) {
      if (request.valid()) values.push_back(request.get());
    }
    return values;
  }
}

// Of AnyRequests, which keep their values for get<T>(), and of Persistents. Blocks until all are done.
template <std::ranges::forward_range Requests>
  requires Waitable<std::ranges::range_value_t<Requests>> &&
           (!is_request<std::ranges::range_value_t<Requests>>)
void wait_all(Requests&& requests) {
  detail::wait_until_all_over(requests);
}

// The same, and the status of each in `statuses`, which takes their number: of receives what came, and
// whether they were cancelled. Those of empty requests say nothing.
template <std::ranges::forward_range Requests>
  requires Waitable<std::ranges::range_value_t<Requests>>
auto wait_all(Requests&& requests, std::vector<Status>& statuses) {
  detail::wait_until_all_over(requests);
  statuses.clear();
  for (auto& request : requests) statuses.push_back(request.valid() ? request.status() : Status{});
  return wait_all(requests);
}

// Whether all are done; empty ones count as done. Does not block.
template <std::ranges::forward_range Requests>
bool test_all(Requests&& requests) {
  bool all = true;
  for (auto& request : requests) all = (!detail::is_awaited(request) || request.test()) && all;
  return all;
}

// The index of one that is done, nullopt if none is. Does not block. Take its value with get(), which empties
// it.
template <std::ranges::forward_range Requests>
std::optional<std::size_t> test_any(Requests&& requests) {
  std::size_t index = 0;
  for (auto& request : requests) {
    if (detail::is_awaited(request) && request.test()) return index;
    ++index;
  }
  return std::nullopt;
}

// The indices of those that are done. Does not block.
template <std::ranges::forward_range Requests>
std::vector<std::size_t> test_some(Requests&& requests) {
  std::vector<std::size_t> done;
  std::size_t index = 0;
  for (auto& request : requests) {
    if (detail::is_awaited(request) && request.test()) done.push_back(index);
    ++index;
  }
  return done;
}

// Blocks until one is done: its index; nullopt if all are empty.
template <std::ranges::forward_range Requests>
std::optional<std::size_t> wait_any(Requests&& requests) {
  detail::Backoff backoff;
  for (;;) {
    if (const auto index = test_any(requests)) return index;
    bool left = false;
    for (auto& request : requests) left = left || detail::is_awaited(request);
    if (!left) return std::nullopt;
    backoff.pause();
  }
}

// Blocks until at least one is done: the indices of those that are; empty if all requests are empty.
template <std::ranges::forward_range Requests>
std::vector<std::size_t> wait_some(Requests&& requests) {
  detail::Backoff backoff;
  for (;;) {
    auto done = test_some(requests);
    if (!done.empty()) return done;
    bool left = false;
    for (auto& request : requests) left = left || detail::is_awaited(request);
    if (!left) return done;
    backoff.pause();
  }
}

}  // namespace manyhands::mpi
