#include "manyhands/mpi/persistent.hpp"

#include <fmt/format.h>

#include <atomic>

#include "manyhands/mpi/communicator.hpp"
#include "manyhands/mpi/large.hpp"
#include "manyhands/mpi/request.hpp"

namespace manyhands::mpi {

Persistent::Persistent(Persistent&& other) noexcept
    : native_(std::exchange(other.native_, MPI_REQUEST_NULL)),
      start_(std::exchange(other.start_, nullptr)),
      keep_(std::move(other.keep_)),
      verb_(other.verb_),
      started_(std::exchange(other.started_, false)),
      last_(other.last_) {}

Persistent& Persistent::operator=(Persistent&& other) noexcept {
  if (this != &other) {
    drop();
    native_ = std::exchange(other.native_, MPI_REQUEST_NULL);
    start_ = std::exchange(other.start_, nullptr);
    keep_ = std::move(other.keep_);
    verb_ = other.verb_;
    started_ = std::exchange(other.started_, false);
    last_ = other.last_;
  }
  return *this;
}

Persistent::~Persistent() { drop(); }

void Persistent::drop() noexcept {
  if (!is_active()) return;
  if (started_) MPI_Wait(&native_, MPI_STATUS_IGNORE);
  if (native_ != MPI_REQUEST_NULL) MPI_Request_free(&native_);
}

void Persistent::start() {
  detail::require_active(verb_);
  if (!valid()) detail::fail(Errc::request, verb_, {}, "the operation is empty: moved from, or never made");
  if (started_) detail::fail(Errc::request, verb_, {}, "it was started already: wait() first");
  if (start_) {
    native_ = start_();
  } else {
    detail::check(MPI_Start(&native_), verb_);
  }
  started_ = true;
}

Status Persistent::wait() {
  detail::require_active(verb_);
  detail::Backoff backoff;
  while (started_ && !test()) backoff.pause();
  return last_;
}

bool Persistent::test() {
  detail::require_active(verb_);
  if (!started_) return true;
  int done = 0;
  MPI_Status status{};
  const int code = MPI_Test(&native_, &done, &status);
  if (code == MPI_SUCCESS && done == 0) return false;
  started_ = false;
  detail::check(code, verb_);
  last_ = detail::to_status(status);
  // A round that is done came from somebody, or from nobody: MPICH 4.0 says anybody for that.
  if (last_.source == any_source) last_.source = proc_null;
  return true;
}

void Persistent::cancel() {
  detail::require_active(verb_);
  if (!started_) return;
  if (start_) detail::fail(Errc::request, verb_, {}, "a collective cannot be cancelled");
  detail::check(MPI_Cancel(&native_), verb_);
}

namespace {

// The parts of data that is split evenly.
MPI_Count part_of(MPI_Count count, int partitions, const char* verb) {
  if (partitions < 1 || count % partitions != 0)
    detail::fail(Errc::count, verb, {},
                 fmt::format("{} elements cannot be split into {} equal parts", count, partitions));
  return count / partitions;
}

void require_part(int i, int partitions, const char* verb) {
  if (i < 0 || i >= partitions)
    detail::fail(Errc::arg, verb, {}, fmt::format("part {} of {}: parts are numbered from 0", i, partitions));
}

}  // namespace

struct PartitionedSend::Impl {
  Persistent transfer;
  int partitions = 0;
  std::atomic<int> missing{0};  // parts not ready yet; counted down by ready()
  bool started = false;
  MPI_Request native = MPI_REQUEST_NULL;
};

struct PartitionedReceive::Impl {
  Persistent transfer;
  int partitions = 0;
  MPI_Request native = MPI_REQUEST_NULL;
  bool started = false;
};

namespace {

// Throws unless MPI can be called and the transfer is there.
void require_live(const void* impl, const char* verb) {
  detail::require_active(verb);
  if (impl == nullptr) detail::fail(Errc::request, verb, {}, "the transfer is empty: moved from");
}

}  // namespace

PartitionedSend::PartitionedSend(PartitionedSend&&) noexcept = default;
PartitionedReceive::PartitionedReceive(PartitionedReceive&&) noexcept = default;

#if MH_MPI_HAS_PARTITIONED

PartitionedSend::PartitionedSend(detail::CommState& state, ConstBuffer data, int partitions, int dest,
                                 int tag)
    : impl_(std::make_unique<Impl>()) {
  impl_->partitions = partitions;
  if (dest == MPI_PROC_NULL)
    throw Unsupported("psend_init",
                      "MPICH 4.0 crashes in a partitioned message to MPI_PROC_NULL: leave it out");
  detail::check(MPI_Psend_init(data.data, partitions, part_of(data.count, partitions, "psend_init"),
                               data.type, dest, tag, state.comm, MPI_INFO_NULL, &impl_->native),
                "psend_init",
                {.comm = state.comm, .dest = dest, .tag = tag, .count = data.count, .type = data.type});
}

PartitionedSend::~PartitionedSend() {
  if (impl_ == nullptr || !is_active()) return;
  if (impl_->started) MPI_Wait(&impl_->native, MPI_STATUS_IGNORE);
  if (impl_->native != MPI_REQUEST_NULL) MPI_Request_free(&impl_->native);
}

void PartitionedSend::start() {
  require_live(impl_.get(), "PartitionedSend::start");
  if (impl_->started)
    detail::fail(Errc::request, "PartitionedSend::start", {}, "it was started already: wait() first");
  detail::check(MPI_Start(&impl_->native), "PartitionedSend::start");
  impl_->started = true;
}

void PartitionedSend::ready(int i) {
  require_live(impl_.get(), "PartitionedSend::ready");
  require_part(i, impl_->partitions, "PartitionedSend::ready");
  detail::check(MPI_Pready(i, impl_->native), "PartitionedSend::ready");
}

bool PartitionedSend::test() {
  require_live(impl_.get(), "PartitionedSend::test");
  int done = 1;
  if (impl_->started) detail::check(MPI_Test(&impl_->native, &done, MPI_STATUS_IGNORE), "PartitionedSend");
  if (done != 0) impl_->started = false;
  return done != 0;
}

PartitionedReceive::PartitionedReceive(detail::CommState& state, Buffer data, int partitions, int source,
                                       int tag)
    : impl_(std::make_unique<Impl>()) {
  impl_->partitions = partitions;
  detail::check(MPI_Precv_init(data.data, partitions, part_of(data.count, partitions, "precv_init"),
                               data.type, source, tag, state.comm, MPI_INFO_NULL, &impl_->native),
                "precv_init",
                {.comm = state.comm, .source = source, .tag = tag, .count = data.count, .type = data.type});
}

PartitionedReceive::~PartitionedReceive() {
  if (impl_ == nullptr || !is_active()) return;
  if (impl_->started) MPI_Wait(&impl_->native, MPI_STATUS_IGNORE);
  if (impl_->native != MPI_REQUEST_NULL) MPI_Request_free(&impl_->native);
}

void PartitionedReceive::start() {
  require_live(impl_.get(), "PartitionedReceive::start");
  if (impl_->started)
    detail::fail(Errc::request, "PartitionedReceive::start", {}, "it was started already: wait() first");
  detail::check(MPI_Start(&impl_->native), "PartitionedReceive::start");
  impl_->started = true;
}

bool PartitionedReceive::arrived(int i) {
  require_live(impl_.get(), "PartitionedReceive::arrived");
  require_part(i, impl_->partitions, "PartitionedReceive::arrived");
  if (!impl_->started) return true;  // all has arrived; MPICH refuses to say so
  int there = 0;
  detail::check(MPI_Parrived(impl_->native, i, &there), "PartitionedReceive::arrived");
  return there != 0;
}

bool PartitionedReceive::test() {
  require_live(impl_.get(), "PartitionedReceive::test");
  int done = 1;
  if (impl_->started) detail::check(MPI_Test(&impl_->native, &done, MPI_STATUS_IGNORE), "PartitionedReceive");
  if (done != 0) impl_->started = false;
  return done != 0;
}

#else

PartitionedSend::PartitionedSend(detail::CommState& state, ConstBuffer data, int partitions, int dest,
                                 int tag)
    : impl_(std::make_unique<Impl>()) {
  static_cast<void>(part_of(data.count, partitions, "psend_init"));
  impl_->partitions = partitions;
  detail::check(
      detail::with_count(data.count, data.type,
                         [&](int n, MPI_Datatype type) {
                           return MPI_Send_init(data.data, n, type, dest, tag, state.comm, &impl_->native);
                         }),
      "psend_init", {.comm = state.comm, .dest = dest, .tag = tag, .count = data.count, .type = data.type});
  impl_->transfer = Persistent(impl_->native, "PartitionedSend");
}

PartitionedSend::~PartitionedSend() = default;

void PartitionedSend::start() {
  require_live(impl_.get(), "PartitionedSend::start");
  if (impl_->started)
    detail::fail(Errc::request, "PartitionedSend::start", {}, "it was started already: wait() first");
  impl_->missing.store(impl_->partitions);
  impl_->started = true;
}

void PartitionedSend::ready(int i) {
  require_live(impl_.get(), "PartitionedSend::ready");
  require_part(i, impl_->partitions, "PartitionedSend::ready");
  if (!impl_->started) detail::fail(Errc::request, "PartitionedSend::ready", {}, "start() first");
  if (impl_->missing.fetch_sub(1) == 1) impl_->transfer.start();
}

bool PartitionedSend::test() {
  require_live(impl_.get(), "PartitionedSend::test");
  if (!impl_->started) return true;
  if (impl_->missing.load() > 0 || !impl_->transfer.test()) return false;
  impl_->started = false;
  return true;
}

PartitionedReceive::PartitionedReceive(detail::CommState& state, Buffer data, int partitions, int source,
                                       int tag)
    : impl_(std::make_unique<Impl>()) {
  static_cast<void>(part_of(data.count, partitions, "precv_init"));
  impl_->partitions = partitions;
  detail::check(detail::with_count(data.count, data.type,
                                   [&](int n, MPI_Datatype type) {
                                     return MPI_Recv_init(data.data, n, type, source, tag, state.comm,
                                                          &impl_->native);
                                   }),
                "precv_init",
                {.comm = state.comm, .source = source, .tag = tag, .count = data.count, .type = data.type});
  impl_->transfer = Persistent(impl_->native, "PartitionedReceive");
}

PartitionedReceive::~PartitionedReceive() = default;

void PartitionedReceive::start() {
  require_live(impl_.get(), "PartitionedReceive::start");
  impl_->transfer.start();
}

bool PartitionedReceive::arrived(int i) {
  require_live(impl_.get(), "PartitionedReceive::arrived");
  require_part(i, impl_->partitions, "PartitionedReceive::arrived");
  return impl_->transfer.test();
}

bool PartitionedReceive::test() {
  require_live(impl_.get(), "PartitionedReceive::test");
  return impl_->transfer.test();
}

#endif

void PartitionedSend::wait() {
  detail::Backoff backoff;
  while (!test()) backoff.pause();
}

void PartitionedReceive::wait() {
  detail::Backoff backoff;
  while (!test()) backoff.pause();
}

}  // namespace manyhands::mpi
