#include "manyhands/mpi/point_to_point.hpp"

#include <limits>

#include <fmt/format.h>

#include <cstdlib>

namespace manyhands::mpi {
namespace detail {
namespace {

struct ModeCalls {
  decltype(&MPI_Send) send;
  decltype(&MPI_Isend) isend;
  const char* verb;
  const char* iverb;
};

template <SendMode Mode>
constexpr ModeCalls calls{SendCalls<Mode>::send, SendCalls<Mode>::isend, SendCalls<Mode>::verb,
                          SendCalls<Mode>::iverb};

ModeCalls calls_of(SendMode mode) {
  switch (mode) {
    case SendMode::standard:
      return calls<SendMode::standard>;
    case SendMode::synchronous:
      return calls<SendMode::synchronous>;
    case SendMode::buffered:
      return calls<SendMode::buffered>;
    case SendMode::ready:
      return calls<SendMode::ready>;
  }
  std::abort();
}

// Open MPI takes any negative tag of a receive for its own messages, and a missing destination would be any
// number.
void require_dest(CommState& state, const char* verb, To to) {
  if (to.dest == unset) [[unlikely]]
    fail(Errc::rank, verb, {.comm = state.comm, .tag = to.tag},
         "no destination was given: say {.dest = rank}");
}

}  // namespace

void send_native(CommState& state, ConstBuffer data, To to, SendMode mode) {
  const auto call = [&](auto send, auto isend, const char* verb) {
    const int code = with_count(data.count, data.type, [&](int n, MPI_Datatype type) {
      return run_blocking(
          MPI_STATUS_IGNORE, [&] { return send(data.data, n, type, to.dest, to.tag, state.comm); },
          [&](MPI_Request* request) {
            return isend(data.data, n, type, to.dest, to.tag, state.comm, request);
          });
    });
    if (code != MPI_SUCCESS) [[unlikely]] {
      require_dest(state, verb, to);
      fail(code, verb,
           {.comm = state.comm, .dest = to.dest, .tag = to.tag, .count = data.count, .type = data.type});
    }
  };
  if (mode == SendMode::standard) [[likely]] {
    call(&MPI_Send, &MPI_Isend, "send");
  } else {
    const ModeCalls mode_calls = calls_of(mode);
    call(mode_calls.send, mode_calls.isend, mode_calls.verb);
  }
}

MPI_Request isend_native(CommState& state, ConstBuffer data, To to, SendMode mode) {
  const ModeCalls mode_calls = calls_of(mode);
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = with_count(data.count, data.type, [&](int n, MPI_Datatype type) {
    return mode_calls.isend(data.data, n, type, to.dest, to.tag, state.comm, &request);
  });
  if (code != MPI_SUCCESS) [[unlikely]] {
    require_dest(state, mode_calls.iverb, to);
    fail(code, mode_calls.iverb,
         {.comm = state.comm, .dest = to.dest, .tag = to.tag, .count = data.count, .type = data.type});
  }
  return request;
}

MPI_Status recv_native(CommState& state, Buffer data, From from) {
  pass_late(state, from.source, from.tag);
  MPI_Status status{};
  const int code = with_count(data.count, data.type, [&](int n, MPI_Datatype type) {
    if (from.source == MPI_PROC_NULL)  // at once; MPICH's nonblocking form gives another status
      return MPI_Recv(data.data, n, type, from.source, from.tag, state.comm, &status);
    return run_blocking(
        &status, [&] { return MPI_Recv(data.data, n, type, from.source, from.tag, state.comm, &status); },
        [&](MPI_Request* request) {
          return MPI_Irecv(data.data, n, type, from.source, from.tag, state.comm, request);
        });
  });
  check(code, "recv",
        {.comm = state.comm, .source = from.source, .tag = from.tag, .count = data.count, .type = data.type});
  return status;
}

MPI_Request irecv_native(CommState& state, Buffer data, From from) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = with_count(data.count, data.type, [&](int n, MPI_Datatype type) {
    return MPI_Irecv(data.data, n, type, from.source, from.tag, state.comm, &request);
  });
  check(code, "irecv",
        {.comm = state.comm, .source = from.source, .tag = from.tag, .count = data.count, .type = data.type});
  return request;
}

MPI_Message match(CommState& state, From from, MPI_Status& status) {
  pass_late(state, from.source, from.tag);
  MPI_Message message = MPI_MESSAGE_NULL;
  const About about{.comm = state.comm, .source = from.source, .tag = from.tag};
  if (driven.load(std::memory_order_relaxed) == 0) [[likely]] {
    check(MPI_Mprobe(from.source, from.tag, state.comm, &message, &status), "recv", about);
    return message;
  }
  Backoff backoff;
  for (int found = 0; found == 0; backoff.pause()) {
    check(MPI_Improbe(from.source, from.tag, state.comm, &found, &message, &status), "recv", about);
  }
  return message;
}

void receive_matched(CommState& state, MPI_Message& message, Buffer data, MPI_Status& status) {
  const int code = with_count(data.count, data.type, [&](int n, MPI_Datatype type) {
    return run_blocking(
        &status, [&] { return MPI_Mrecv(data.data, n, type, &message, &status); },
        [&](MPI_Request* request) { return MPI_Imrecv(data.data, n, type, &message, request); });
  });
  check(code, "recv",
        {.comm = state.comm,
         .source = status.MPI_SOURCE,
         .tag = status.MPI_TAG,
         .count = data.count,
         .type = data.type});
}

void require_bytes(CommState& state, const MPI_Status& status, std::size_t bytes) {
  if (status.MPI_SOURCE == MPI_PROC_NULL) return;
  const MPI_Count came = bytes_of(status);
  if (came == static_cast<MPI_Count>(bytes)) [[likely]]
    return;
  fail(Errc::truncate, "recv", {.comm = state.comm, .source = status.MPI_SOURCE, .tag = status.MPI_TAG},
       fmt::format("{} bytes came for a value of {} bytes: sender and receiver name different types", came,
                   bytes));
}

std::vector<std::byte> pack_copy(CommState& state, ConstBuffer data) {
  const About about{.comm = state.comm, .count = data.count, .type = data.type};
  if (data.count > std::numeric_limits<int>::max())
    fail(Errc::count, "isendrecv_replace", about, "more than MPI packs at once: use isendrecv_into");
  const int n = static_cast<int>(data.count);
  int size = 0;
  check(MPI_Pack_size(n, data.type, state.comm, &size), "isendrecv_replace", about);
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  int at = 0;
  check(MPI_Pack(data.data, n, data.type, bytes.data(), size, &at, state.comm), "isendrecv_replace", about);
  bytes.resize(static_cast<std::size_t>(at));
  return bytes;
}

}  // namespace detail

Status PointToPoint::probe(From from) const {
  detail::CommState& here = state("probe");
  detail::pass_late(here, from.source, from.tag);
  MPI_Status status{};
  const detail::About about{.comm = here.comm, .source = from.source, .tag = from.tag};
  if (detail::driven.load(std::memory_order_relaxed) == 0) {
    detail::check(MPI_Probe(from.source, from.tag, here.comm, &status), "probe", about);
    return detail::to_status(status);
  }
  detail::Backoff backoff;
  for (int found = 0; found == 0; backoff.pause())
    detail::check(MPI_Iprobe(from.source, from.tag, here.comm, &found, &status), "probe", about);
  return detail::to_status(status);
}

std::optional<Status> PointToPoint::iprobe(From from) const {
  detail::CommState& here = state("iprobe");
  detail::drive_all();
  if (detail::stands_behind_late(here, from.source, from.tag)) return std::nullopt;
  MPI_Status status{};
  int found = 0;
  detail::check(MPI_Iprobe(from.source, from.tag, here.comm, &found, &status), "iprobe",
                {.comm = here.comm, .source = from.source, .tag = from.tag});
  if (found == 0) return std::nullopt;
  return detail::to_status(status);
}

Message PointToPoint::mprobe(From from) const {
  detail::CommState& here = state("mprobe");
  MPI_Status status{};
  const MPI_Message message = detail::match(here, from, status);
  return Message(here, message, status);
}

std::optional<Message> PointToPoint::improbe(From from) const {
  detail::CommState& here = state("improbe");
  detail::drive_all();
  if (detail::stands_behind_late(here, from.source, from.tag)) return std::nullopt;
  MPI_Status status{};
  MPI_Message message = MPI_MESSAGE_NULL;
  int found = 0;
  detail::check(MPI_Improbe(from.source, from.tag, here.comm, &found, &message, &status), "improbe",
                {.comm = here.comm, .source = from.source, .tag = from.tag});
  if (found == 0) return std::nullopt;
  return Message(here, message, status);
}

namespace {
void* attached = nullptr;  // the memory of attach_buffer; one per process, as in MPI
}

void attach_buffer(std::size_t bytes) {
  detail::require_active("attach_buffer");
  if (attached != nullptr)
    detail::fail(Errc::buffer, "attach_buffer", {}, "a buffer is attached already: detach_buffer() first");
  void* const memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  if (const int code = MPI_Buffer_attach(memory, static_cast<int>(bytes)); code != MPI_SUCCESS) {
    std::free(memory);
    detail::check(code, "attach_buffer");
  }
  attached = memory;
}

void detach_buffer() {
  detail::require_active("detach_buffer");
  if (attached == nullptr) detail::fail(Errc::buffer, "detach_buffer", {}, "no buffer is attached");
  void* memory = nullptr;
  int bytes = 0;
  detail::check(MPI_Buffer_detach(static_cast<void*>(&memory), &bytes), "detach_buffer");
  std::free(std::exchange(attached, nullptr));
}

}  // namespace manyhands::mpi
