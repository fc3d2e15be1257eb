#include "manyhands/mpi/communicator.hpp"

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "manyhands/mpi/group.hpp"
#include "manyhands/mpi/late_receive.hpp"
#include "manyhands/mpi/request.hpp"

namespace manyhands::mpi {
namespace detail {
namespace {

int delete_state(MPI_Comm, int, void* value, void*) {
  const std::shared_ptr<CommState> state = std::move(static_cast<CommState*>(value)->self);
  forget_waiting(*state);
  if (state->internal != MPI_COMM_NULL) MPI_Comm_free(&state->internal);
  state->comm = MPI_COMM_NULL;
  return MPI_SUCCESS;
}

int state_key() {
  static const int key = [] {
    int made = MPI_KEYVAL_INVALID;
    check(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, delete_state, &made, nullptr), "communicator");
    // Ours go before MPI looks for leaks: those of world and self with the rest of what is cached.
    at_finalize([made]() mutable {
      for (MPI_Comm comm : {MPI_COMM_WORLD, MPI_COMM_SELF}) {
        void* value = nullptr;
        int found = 0;
        MPI_Comm_get_attr(comm, made, static_cast<void*>(&value), &found);
        if (found != 0) MPI_Comm_delete_attr(comm, made);
      }
      MPI_Comm_free_keyval(&made);
    });
    return made;
  }();
  return key;
}

}  // namespace

CommState& state_of(MPI_Comm comm) {
  static std::mutex making;
  const std::lock_guard lock(making);
  void* value = nullptr;
  int found = 0;
  check(MPI_Comm_get_attr(comm, state_key(), static_cast<void*>(&value), &found), "communicator");
  if (found != 0) return *static_cast<CommState*>(value);
  auto state = std::make_shared<CommState>();
  state->comm = comm;
  int inter = 0;
  check(MPI_Comm_rank(comm, &state->rank), "communicator");
  check(MPI_Comm_size(comm, &state->size), "communicator");
  check(MPI_Comm_test_inter(comm, &inter), "communicator");
  state->inter = inter != 0;
  state->peers = state->size;
  if (state->inter) check(MPI_Comm_remote_size(comm, &state->peers), "communicator");
  check(MPI_Comm_set_attr(comm, state_key(), state.get()), "communicator");
  CommState& made = *state;
  made.self = std::move(state);
  return made;
}

void start_internal(CommState& state) {
  if (state.internal != MPI_COMM_NULL || state.making != MPI_REQUEST_NULL) return;
#ifdef OPEN_MPI
  // Open MPI 4.1 starts the rounds of an MPI_Comm_idup when a rank happens to look, among the caller's own
  // nonblocking collectives, and the ranks get out of step.
  internal_of(state);
#else
  check(MPI_Comm_idup(state.comm, &state.internal, &state.making), "communicator", {.comm = state.comm});
#endif
}

bool has_internal(CommState& state) {
  if (state.making == MPI_REQUEST_NULL) return state.internal != MPI_COMM_NULL;
  int done = 0;
  check(MPI_Test(&state.making, &done, MPI_STATUS_IGNORE), "communicator", {.comm = state.comm});
  if (done == 0) return false;
  MPI_Comm_set_errhandler(state.internal, MPI_ERRORS_RETURN);
  return true;
}

MPI_Comm internal_of(CommState& state) {
  if (state.making == MPI_REQUEST_NULL && state.internal == MPI_COMM_NULL) {
    check(MPI_Comm_dup(state.comm, &state.internal), "communicator", {.comm = state.comm});
    MPI_Comm_set_errhandler(state.internal, MPI_ERRORS_RETURN);
  }
  for (Backoff backoff; !has_internal(state);) backoff.pause();
  return state.internal;
}

}  // namespace detail

Communicator::Communicator(MPI_Comm comm, Ownership ownership) : ownership_(ownership) {
  if (comm == MPI_COMM_NULL) return;
  detail::require_active("communicator");
  if (ownership == Ownership::owned) MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  state_ = &detail::state_of(comm);
}

Communicator::Communicator(Communicator&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)), ownership_(other.ownership_) {}

Communicator& Communicator::operator=(Communicator&& other) noexcept {
  if (this != &other) {
    free_quietly();
    state_ = std::exchange(other.state_, nullptr);
    ownership_ = other.ownership_;
  }
  return *this;
}

Communicator::~Communicator() { free_quietly(); }

void Communicator::free_quietly() noexcept {
  if (state_ == nullptr || ownership_ != Ownership::owned || !is_active()) return;
  MPI_Comm comm = state_->comm;
  if (std::uncaught_exceptions() == 0) {  // else the others may not come to end them
    try {
      detail::finish_line(*state_);
    } catch (const manyhands::Error&) {  // nobody is left to be told
    }
  }
  detail::forget_waiting(*state_);  // MPICH deletes attributes only when no message needs the communicator
  state_ = nullptr;
  MPI_Comm_free(&comm);
}

void Communicator::free() {
  MPI_Comm comm = state("free").comm;
  if (ownership_ == Ownership::viewed)
    detail::fail(Errc::comm, "free", {.comm = comm}, "it is another's: only viewed here");
  detail::finish_line(*state_);
  detail::forget_waiting(*state_);
  state_ = nullptr;
  detail::check(MPI_Comm_free(&comm), "free");
}

MPI_Comm Communicator::release() noexcept {
  ownership_ = Ownership::viewed;
  const detail::CommState* const state = std::exchange(state_, nullptr);
  return state == nullptr ? MPI_COMM_NULL : state->comm;
}

void Communicator::fail_empty(const char* operation) {
  detail::fail(Errc::comm, operation, {},
               "the communicator is empty: moved from, released, or this rank takes no part in it");
}

std::string Communicator::name() const {
  char text[MPI_MAX_OBJECT_NAME];
  int length = 0;
  detail::check(MPI_Comm_get_name(state("name").comm, text, &length), "name");
  return {text, static_cast<std::size_t>(length)};
}

void Communicator::set_name(const std::string& name) {
  detail::check(MPI_Comm_set_name(state("set_name").comm, name.c_str()), "set_name");
}

Comparison Communicator::compare(const Communicator& other) const {
  int result = MPI_UNEQUAL;
  detail::check(MPI_Comm_compare(state("compare").comm, other.state("compare").comm, &result), "compare");
  return static_cast<Comparison>(result);
}

Group Communicator::group() const {
  MPI_Group group = MPI_GROUP_NULL;
  detail::check(MPI_Comm_group(state("group").comm, &group), "group");
  return Group::adopt(group);
}

Info Communicator::info() const {
  MPI_Info info = MPI_INFO_NULL;
  detail::check(MPI_Comm_get_info(state("info").comm, &info), "info");
  return Info::adopt(info);
}

void Communicator::set_info(const Info& info) {
  const MPI_Comm comm = state("set_info").comm;
  detail::check(MPI_Comm_set_info(comm, info.native()), "set_info", {.comm = comm});
}

void Communicator::abort(int exit_status) const {
  if (is_active() && state_ != nullptr) MPI_Abort(state_->comm, exit_status);
  std::_Exit(exit_status);
}

}  // namespace manyhands::mpi
