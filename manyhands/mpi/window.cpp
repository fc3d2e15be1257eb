#include "manyhands/mpi/window.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <exception>
#include <optional>
#include <string>

#include "manyhands/base/memory.hpp"
#include "manyhands/mpi/kept_values.hpp"
#include "manyhands/mpi/large.hpp"

namespace manyhands::mpi {
namespace detail {

constexpr int all_ranks = -1;

struct WindowState final : Closing {
  MPI_Win win = MPI_WIN_NULL;
  MPI_Comm comm = MPI_COMM_NULL;  // only for messages of errors; may be freed before the window
  int ranks = 0;
  std::vector<std::uint64_t> sizes;  // elements of each rank; empty: not known
  void* base = nullptr;
  std::size_t count = 0;
  WindowFlavor flavor = WindowFlavor::allocated;
  bool owned = true;
  int exceptions = 0;  // in flight when it was made

  std::vector<int> locked;  // ranks, all_ranks
  bool fenced = false;      // after a fence that may be followed by operations
  bool began = false;       // an operation since that fence
  bool accesses = false;    // between start() and complete()
  bool exposed = false;     // between post() and wait()

  std::optional<KeptValues> kept;  // values that operations under way read

  bool passive(int rank) const {
    return std::ranges::any_of(locked, [rank](int one) { return one == rank || one == all_ranks; });
  }
  bool active() const { return fenced || accesses; }
  bool open() const { return win != MPI_WIN_NULL && is_active(); }
  void drop_kept(int rank) {
    if (!kept) return;
    rank == all_ranks ? kept->drop_all() : kept->drop(static_cast<std::size_t>(rank));
  }
  // Ends what is under way, and frees the window. Collective.
  void close() noexcept {
    while (!locked.empty()) unlock_quietly(*this, locked.back());
    if (std::exchange(accesses, false)) MPI_Win_complete(win);
    if (std::exchange(exposed, false)) MPI_Win_wait(win);
    MPI_Win_free(&win);
    win = MPI_WIN_NULL;
    drop_kept(all_ranks);
  }
  void close_at_end() noexcept override {
    // An exposure that nobody completes would be waited for without end.
    if (owned && win != MPI_WIN_NULL && !exposed) close();
  }
};

void unlock_quietly(WindowState& state, int rank) noexcept {
  if (std::erase(state.locked, rank) == 0 || !state.open()) return;  // ended with the window
  rank == all_ranks ? MPI_Win_unlock_all(state.win) : MPI_Win_unlock(rank, state.win);
  state.drop_kept(rank);
}

}  // namespace detail

namespace {

using detail::all_ranks;
using detail::WindowState;

WindowState& live(const std::shared_ptr<WindowState>& state, const char* verb) {
  detail::require_active(verb);
  if (state == nullptr || state->win == MPI_WIN_NULL)
    detail::fail(Errc::win, verb, {}, "the window is empty: moved from, or freed");
  return *state;
}

// Of a guard: what it ends. Throws if that has ended, by it or with the window.
WindowState& under_way(const std::shared_ptr<WindowState>& state, const char* verb, const char* ended) {
  detail::require_active(verb);
  if (state == nullptr) detail::fail(Errc::rma_sync, verb, {}, ended);
  if (state->win == MPI_WIN_NULL)
    detail::fail(Errc::win, verb, {}, "the window is gone, and what was under way on it has ended");
  return *state;
}

void require_rank(const WindowState& state, int rank, const char* verb) {
  if (rank == proc_null || (rank >= 0 && rank < state.ranks)) return;
  detail::fail(
      Errc::rank, verb, {},
      fmt::format("rank {} of a window of {} ranks", rank == detail::unset ? -1 : rank, state.ranks));
}

void require_elements(const WindowState& state, const detail::Access& where, const char* verb) {
  require_rank(state, where.rank, verb);
  if (state.sizes.empty() || where.rank == proc_null) return;
  const auto size = static_cast<MPI_Count>(state.sizes[static_cast<std::size_t>(where.rank)]);
  if (where.offset >= 0 && where.count <= size && where.offset <= size - where.count) return;
  const std::string has = size == 0   ? "no elements in this window"
                          : size == 1 ? "one element in this window, element 0"
                                      : fmt::format("{} elements in this window, 0 to {}", size, size - 1);
  const std::string wanted = where.count == 1
                                 ? fmt::format("element {}", where.offset)
                                 : fmt::format("{} elements from element {} on", where.count, where.offset);
  detail::fail(Errc::rma_range, verb, {.dest = where.rank},
               fmt::format("{} asked for, but rank {} has {}", wanted, where.rank, has));
}

void require_same(const detail::Access& where, MPI_Count count, const char* verb) {
  if (count != where.count * where.per_element)
    detail::fail(
        Errc::count, verb, {.dest = where.rank},
        fmt::format("room for {} elements, but {} are combined", count / where.per_element, where.count));
}

void check_window(int code, const char* verb, const detail::Access& where) {
  if (code == MPI_SUCCESS) [[likely]]
    return;
  detail::check(code, verb,
                {.dest = where.rank, .count = where.count * where.per_element, .type = where.type});
}

// Calls operate() inside the epoch there is, or with a lock around it. `now`: its effect is there on return.
// Requires: elements that the window has.
template <class Operate>
void run_checked(WindowState& state, const detail::Access& where, const char* verb, LockType type, bool now,
                 Operate operate) {
  if (where.rank == proc_null) return;
  if (state.passive(where.rank)) {
    check_window(operate(), verb, where);
    if (now) {
      check_window(MPI_Win_flush(where.rank, state.win), verb, where);
      state.drop_kept(where.rank);
    }
    return;
  }
  // A fence begins an epoch only if operations follow it.
  if (state.active() && !(now && state.fenced && !state.began && !state.accesses)) {
    if (now)
      detail::fail(Errc::rma_sync, verb, {.dest = where.rank},
                   "the value is not there before the epoch ends: use the _into form, or fence() first");
    check_window(operate(), verb, where);
    state.began = true;
    return;
  }
  check_window(MPI_Win_lock(static_cast<int>(type), where.rank, 0, state.win), verb, where);
  const int code = operate();
  const int unlocked = MPI_Win_unlock(where.rank, state.win);
  state.drop_kept(where.rank);
  check_window(code, verb, where);
  check_window(unlocked, verb, where);
}

template <class Operate>
void run(WindowState& state, const detail::Access& where, const char* verb, LockType type, bool now,
         Operate operate) {
  require_elements(state, where, verb);
  run_checked(state, where, verb, type, now, operate);
}

// A copy that lasts until the epoch with `rank` ends, or a flush.
const void* keep(WindowState& state, int rank, const void* value, std::size_t bytes) {
  if (!state.kept) [[unlikely]]
    state.kept.emplace(static_cast<std::size_t>(state.ranks));
  return state.kept->keep(static_cast<std::size_t>(rank), value, bytes);
}

// The data as it lies until its operation is done. Outside of an epoch nothing needs to be copied: the
// operation is done when it returns. Requires: a rank that the window has.
ConstBuffer lasting(WindowState& state, const detail::Access& where, ConstBuffer data, std::size_t copied) {
  if (copied == 0 || where.rank == proc_null || (!state.passive(where.rank) && !state.active())) return data;
  return {keep(state, where.rank, data.data, copied), data.count, data.type};
}

void require_lock(const WindowState& state, const detail::Access& where, const char* verb) {
  require_elements(state, where, verb);
  if (where.rank != proc_null && !state.passive(where.rank))
    detail::fail(Errc::rma_sync, verb, {.dest = where.rank},
                 "requests exist only under lock() or lock_all()");
}

}  // namespace

// ---- Beginning and end.

namespace {

struct Trouble {
  Errc code = Errc::no_mem;
  std::string what;  // empty: none
};
constexpr std::size_t much = std::size_t{1} << 20;  // bytes; less is had wherever a program runs

// What keeps this rank from having so much memory, before all ask MPI for it, which may hang or crash where
// some have it and others do not.
Trouble trouble_of(std::size_t count, std::size_t element, bool allocates) {
  if (count > static_cast<std::size_t>(PTRDIFF_MAX) / 2 / element)
    return {Errc::size, fmt::format("{} elements of {} bytes are more than any memory has", count, element)};
  const std::size_t bytes = count * element;
  if (!allocates || bytes < much) return {};
  try {
    require_memory(bytes, "a window");
  } catch (const manyhands::Error& error) {
    return {Errc::no_mem, error.what()};
  }
  // The limits of this process.
  void* const trial = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (trial == MAP_FAILED)
    return {Errc::no_mem, fmt::format("{} bytes cannot be had: {}", bytes, std::strerror(errno))};
  ::munmap(trial, bytes);
  return {};
}

// Whether the memory is there. That of a file system which is too small is not, although it was mapped, and
// the first to touch it is killed.
bool can_be_touched([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef MADV_POPULATE_WRITE
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<std::uintptr_t>(memory) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(memory) + bytes;
  if (bytes < much) return true;
  return ::madvise(reinterpret_cast<void*>(first), end - first, MADV_POPULATE_WRITE) == 0 || errno == EINVAL;
#else
  return true;
#endif
}

constexpr std::uint64_t no_room = UINT64_MAX;

// Throws on all ranks if one says `bad`: the lowest of them is told of. Collective.
void agree(const Comm& comm, bool bad, const std::string& what, const char* verb) {
  int first = bad ? comm.rank() : comm.size();
  detail::check(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, comm.native()), verb);
  if (first < comm.size())
    detail::fail(Errc::no_mem, verb, {.comm = comm.native()}, fmt::format("rank {} {}", first, what));
}

}  // namespace

WindowBase::WindowBase(const Comm& comm, const Spec& spec, const Info& info, const char* verb)
    : state_((detail::require_active(verb), std::make_shared<WindowState>())) {
  if (!comm) detail::fail(Errc::comm, verb, {}, "the communicator is empty");
  WindowState& state = *state_;
  state.comm = comm.native();
  state.ranks = comm.size();
  state.flavor = spec.flavor;
  state.count = spec.count;
  state.exceptions = std::uncaught_exceptions();
  // All know the sizes, and whether everybody has room.
  const bool allocates = spec.flavor == WindowFlavor::allocated || spec.flavor == WindowFlavor::shared;
  const Trouble trouble = trouble_of(spec.count, spec.element, allocates);
  std::vector<std::uint64_t> sizes(static_cast<std::size_t>(state.ranks));
  const std::uint64_t mine = trouble.what.empty() ? spec.count : no_room;
  detail::check(MPI_Allgather(&mine, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, state.comm), verb,
                {.comm = state.comm});
  if (!trouble.what.empty()) detail::fail(trouble.code, verb, {.comm = state.comm}, trouble.what);
  if (const auto bad = std::ranges::find(sizes, no_room); bad != sizes.end())
    detail::fail(Errc::no_mem, verb, {.comm = state.comm},
                 fmt::format("rank {} has no room for its part of the window", bad - sizes.begin()));
  const MPI_Aint bytes = static_cast<MPI_Aint>(spec.count * spec.element);
  const int unit = static_cast<int>(spec.element);
  int code = MPI_SUCCESS;
  switch (spec.flavor) {
    case WindowFlavor::allocated:
      // MPICH 4.0 takes the ranks' parts apart at other places than it lays them unless all sizes are
      // multiples of 16: what is put then lands elsewhere.
      code = MPI_Win_allocate((bytes + 63) / 64 * 64, unit, info.native(), state.comm,
                              static_cast<void*>(&state.base), &state.win);
      break;
    case WindowFlavor::created:
      state.base = spec.memory;
      code = MPI_Win_create(spec.memory, bytes, unit, info.native(), state.comm, &state.win);
      break;
    case WindowFlavor::shared:
      code = MPI_Win_allocate_shared(bytes, unit, info.native(), state.comm, static_cast<void*>(&state.base),
                                     &state.win);
      break;
    case WindowFlavor::dynamic:
      code = MPI_Win_create_dynamic(info.native(), state.comm, &state.win);
      break;
  }
  if (code != MPI_SUCCESS && error_class(code) == Errc::win &&
      (spec.flavor == WindowFlavor::created || spec.flavor == WindowFlavor::dynamic))
    throw Unsupported(
        verb,
        "this MPI finds no way to other processes' own memory here (Open MPI 4.1 needs a network "
        "with remote memory access, or within a node btl_vader_single_copy_mechanism=cma, or, below "
        "ThreadLevel::multiple, osc=sm,pt2pt,rdma as manyhands run sets it); "
        "Window(comm, count) works");
  detail::check(code, verb, {.comm = state.comm, .count = static_cast<MPI_Count>(spec.count)});
  MPI_Win_set_errhandler(state.win, MPI_ERRORS_RETURN);
  detail::keep_for_end(state_);
  if (spec.flavor == WindowFlavor::dynamic) return;
  state.sizes = std::move(sizes);
  const bool there = !allocates || can_be_touched(state.base, static_cast<std::size_t>(bytes));
  if (there && allocates && bytes > 0) std::memset(state.base, 0, static_cast<std::size_t>(bytes));
  // Nobody reads what is not set yet.
  try {
    agree(comm, !there, "has no room for its part of the window (in /dev/shm, mostly)", verb);
  } catch (const Error&) {
    detail::forget_at_end(state);
    state.close();
    throw;
  }
}

WindowBase::WindowBase(MPI_Win raw, bool owned, std::size_t element, const char* verb)
    : state_((detail::require_active(verb), std::make_shared<WindowState>())) {
  if (raw == MPI_WIN_NULL) detail::fail(Errc::win, verb, {}, "the handle is MPI_WIN_NULL");
  WindowState& state = *state_;
  state.win = raw;
  state.owned = false;  // until it is sure that it can be had
  state.exceptions = std::uncaught_exceptions();
  if (owned) MPI_Win_set_errhandler(raw, MPI_ERRORS_RETURN);
  const auto own = [&] {
    state.owned = owned;
    if (owned) detail::keep_for_end(state_);
  };
  state.ranks = group().size();
  int* flavor = nullptr;
  int found = 0;
  detail::check(MPI_Win_get_attr(raw, MPI_WIN_CREATE_FLAVOR, static_cast<void*>(&flavor), &found), verb);
  state.flavor = static_cast<WindowFlavor>(*flavor);
  if (state.flavor == WindowFlavor::dynamic) {
    own();
    return;
  }
  MPI_Aint* size = nullptr;
  int* unit = nullptr;
  detail::check(MPI_Win_get_attr(raw, MPI_WIN_BASE, static_cast<void*>(&state.base), &found), verb);
  detail::check(MPI_Win_get_attr(raw, MPI_WIN_SIZE, static_cast<void*>(&size), &found), verb);
  detail::check(MPI_Win_get_attr(raw, MPI_WIN_DISP_UNIT, static_cast<void*>(&unit), &found), verb);
  if (static_cast<std::size_t>(*unit) != element)
    detail::fail(
        Errc::disp, verb, {},
        fmt::format("the window counts in units of {} bytes, its elements would have {}", *unit, element));
  state.count = static_cast<std::size_t>(*size) / element;
  own();
}

WindowBase::WindowBase(WindowBase&& other) noexcept = default;

WindowBase& WindowBase::operator=(WindowBase&& other) noexcept {
  if (this != &other) {
    this->~WindowBase();
    std::construct_at(&state_, std::move(other.state_));
  }
  return *this;
}

WindowBase::~WindowBase() {
  if (state_ == nullptr || !state_->owned || !state_->open()) return;
  // The other ranks may not come to free it before they end.
  if (std::uncaught_exceptions() > state_->exceptions) return;
  detail::forget_at_end(*state_);
  state_->close();
}

MPI_Win WindowBase::release() {
  WindowState& state = live(state_, "Window::release");
  if (!state.locked.empty() || state.accesses || state.exposed)
    detail::fail(Errc::rma_sync, "Window::release", {}, "an epoch is not ended");
  detail::forget_at_end(state);
  state.owned = false;
  const MPI_Win win = state.win;
  state_.reset();
  return win;
}

void WindowBase::free() {
  WindowState& state = live(state_, "Window::free");
  if (!state.owned) detail::fail(Errc::win, "Window::free", {}, "it is another's: only viewed here");
  if (!state.locked.empty() || state.accesses || state.exposed)
    detail::fail(Errc::rma_sync, "Window::free", {}, "an epoch is not ended");
  detail::forget_at_end(state);
  const int code = MPI_Win_free(&state.win);
  state.win = MPI_WIN_NULL;
  state_.reset();
  detail::check(code, "Window::free");
}

// ---- Synchronisation.

void WindowBase::fence(const FenceOptions& options) const {
  WindowState& state = live(state_, "fence");
  if (!state.locked.empty()) detail::fail(Errc::rma_sync, "fence", {}, "a lock is held: unlock first");
  const int assertion = (options.no_store ? MPI_MODE_NOSTORE : 0) | (options.no_put ? MPI_MODE_NOPUT : 0) |
                        (options.no_precede ? MPI_MODE_NOPRECEDE : 0) |
                        (options.no_succeed ? MPI_MODE_NOSUCCEED : 0);
  detail::check(MPI_Win_fence(assertion, state.win), "fence");
  state.fenced = !options.no_succeed;
  state.began = false;
  state.drop_kept(all_ranks);
}

WindowBase::Access WindowBase::start(const Group& group, bool no_check) const {
  WindowState& state = live(state_, "start");
  if (state.accesses || !state.locked.empty())
    detail::fail(Errc::rma_sync, "start", {}, "another access is under way: complete() or unlock first");
  detail::check(MPI_Win_start(group.native(), no_check ? MPI_MODE_NOCHECK : 0, state.win), "start");
  state.accesses = true;
  state.fenced = false;
  return Access(state_);
}

void WindowBase::Access::complete() {
  WindowState& state = under_way(state_, "complete", "the access was completed already");
  const auto ending = std::move(state_);
  state.accesses = false;
  detail::check(MPI_Win_complete(state.win), "complete");
  state.drop_kept(all_ranks);
}

WindowBase::Access::~Access() {
  if (state_ == nullptr || !state_->open()) return;
  state_->accesses = false;
  MPI_Win_complete(state_->win);
  state_->drop_kept(all_ranks);
}

WindowBase::Exposure WindowBase::post(const Group& group, const PostOptions& options) const {
  WindowState& state = live(state_, "post");
  if (state.exposed) detail::fail(Errc::rma_sync, "post", {}, "an exposure is under way: wait() first");
  const int assertion = (options.no_check ? MPI_MODE_NOCHECK : 0) |
                        (options.no_store ? MPI_MODE_NOSTORE : 0) | (options.no_put ? MPI_MODE_NOPUT : 0);
  detail::check(MPI_Win_post(group.native(), assertion, state.win), "post");
  state.exposed = true;
  state.fenced = false;
  return Exposure(state_);
}

void WindowBase::Exposure::wait() {
  WindowState& state = under_way(state_, "wait", "the exposure has ended already");
  const auto ending = std::move(state_);
  state.exposed = false;
  detail::check(MPI_Win_wait(state.win), "wait");
}

bool WindowBase::Exposure::test() {
  if (state_ == nullptr) return true;
  const WindowState& state = under_way(state_, "test", "");
  int done = 0;
  detail::check(MPI_Win_test(state.win, &done), "test");
  if (done != 0) std::exchange(state_, nullptr)->exposed = false;
  return done != 0;
}

WindowBase::Exposure::~Exposure() {
  // After an exception the others may never complete.
  if (state_ == nullptr || !state_->open() || std::uncaught_exceptions() > state_->exceptions) return;
  state_->exposed = false;
  MPI_Win_wait(state_->win);
}

WindowBase::Lock WindowBase::lock(int rank, const LockOptions& options) const {
  WindowState& state = live(state_, "lock");
  require_rank(state, rank, "lock");
  if (rank == proc_null) return Lock(nullptr, rank);
  if (state.passive(rank) || state.accesses || (state.fenced && state.began))
    detail::fail(Errc::rma_sync, "lock", {.dest = rank}, "an epoch with this rank is under way already");
  detail::check(
      MPI_Win_lock(static_cast<int>(options.type), rank, options.no_check ? MPI_MODE_NOCHECK : 0, state.win),
      "lock", {.dest = rank});
  state.locked.push_back(rank);
  return Lock(state_, rank);
}

WindowBase::Lock WindowBase::lock_all(bool no_check) const {
  WindowState& state = live(state_, "lock_all");
  if (!state.locked.empty() || state.accesses || (state.fenced && state.began))
    detail::fail(Errc::rma_sync, "lock_all", {}, "an epoch is under way already");
  detail::check(MPI_Win_lock_all(no_check ? MPI_MODE_NOCHECK : 0, state.win), "lock_all");
  state.locked.push_back(all_ranks);
  return Lock(state_, all_ranks);
}

void WindowBase::Lock::unlock() {
  WindowState& state = under_way(state_, "unlock", "nothing is locked");
  const auto ending = std::move(state_);
  std::erase(state.locked, rank_);
  const int code = rank_ == all_ranks ? MPI_Win_unlock_all(state.win) : MPI_Win_unlock(rank_, state.win);
  state.drop_kept(rank_);
  detail::check(code, "unlock", {.dest = rank_ == all_ranks ? detail::unset : rank_});
}

namespace {

WindowState& locked(const std::shared_ptr<WindowState>& held, int rank, const char* verb) {
  WindowState& state = live(held, verb);
  if (rank != all_ranks) require_rank(state, rank, verb);
  if (rank == all_ranks ? state.locked.empty() : !state.passive(rank))
    detail::fail(Errc::rma_sync, verb, {.dest = rank == all_ranks ? detail::unset : rank},
                 "no lock is held: lock() or lock_all() first");
  return state;
}

}  // namespace

void WindowBase::flush(int rank) const {
  WindowState& state = locked(state_, rank, "flush");
  detail::check(MPI_Win_flush(rank, state.win), "flush", {.dest = rank});
  state.drop_kept(rank);
}
void WindowBase::flush_all() const {
  WindowState& state = locked(state_, all_ranks, "flush_all");
  detail::check(MPI_Win_flush_all(state.win), "flush_all");
  state.drop_kept(all_ranks);
}
void WindowBase::flush_local(int rank) const {
  WindowState& state = locked(state_, rank, "flush_local");
  detail::check(MPI_Win_flush_local(rank, state.win), "flush_local", {.dest = rank});
  state.drop_kept(rank);
}
void WindowBase::flush_local_all() const {
  WindowState& state = locked(state_, all_ranks, "flush_local_all");
  detail::check(MPI_Win_flush_local_all(state.win), "flush_local_all");
  state.drop_kept(all_ranks);
}
void WindowBase::sync() const { detail::check(MPI_Win_sync(live(state_, "sync").win), "sync"); }

// ---- Operations.

namespace {

// Whether the element is one that this window is known to have, and its rank is locked. What all operations
// on single values ask first: such an operation may take 20 ns.
bool in_passive_epoch(const WindowState* state, int rank, MPI_Aint offset) noexcept {
  return is_active() && state != nullptr && static_cast<std::size_t>(rank) < state->sizes.size() &&
         static_cast<std::uint64_t>(offset) < state->sizes[static_cast<std::size_t>(rank)] &&
         state->passive(rank);
}

}  // namespace

void WindowBase::put_value(int rank, MPI_Aint offset, const void* value, const detail::Cell& cell) const {
  const Where where{rank, offset, 1, cell.count, cell.type};
  if (!in_passive_epoch(state_.get(), rank, offset)) {
    put_at(where, {value, cell.count, cell.type}, cell.bytes);
    return;
  }
  const auto n = static_cast<int>(cell.count);
  check_window(
      MPI_Put(keep(*state_, rank, value, cell.bytes), n, cell.type, rank, offset, n, cell.type, state_->win),
      "put", where);
}

void WindowBase::accumulate_value(int rank, MPI_Aint offset, const void* value, const detail::Cell& cell,
                                  MPI_Op op) const {
  const Where where{rank, offset, 1, cell.count, cell.type};
  if (!in_passive_epoch(state_.get(), rank, offset)) {
    accumulate_at(where, {value, cell.count, cell.type}, op, cell.bytes);
    return;
  }
  const auto n = static_cast<int>(cell.count);
  check_window(MPI_Accumulate(keep(*state_, rank, value, cell.bytes), n, cell.type, rank, offset, n,
                              cell.type, op, state_->win),
               "accumulate", where);
}

void WindowBase::put_at(const Where& where, ConstBuffer data, std::size_t copied) const {
  WindowState& state = live(state_, "put");
  require_elements(state, where, "put");
  const ConstBuffer from = lasting(state, where, data, copied);
  run_checked(state, where, "put", LockType::exclusive, false, [&] {
    return detail::with_count(from.count, from.type, [&](int n, MPI_Datatype type) {
      return MPI_Put(from.data, n, type, where.rank, where.offset, n, type, state.win);
    });
  });
}

namespace {

auto getter(WindowState& state, const detail::Access& where, Buffer data) {
  return [&state, where, data] {
    return detail::with_count(data.count, data.type, [&](int n, MPI_Datatype type) {
      return MPI_Get(data.data, n, type, where.rank, where.offset, n, type, state.win);
    });
  };
}

}  // namespace

void WindowBase::get_at(const Where& where, Buffer data) const {
  WindowState& state = live(state_, "get");
  run(state, where, "get", LockType::shared, false, getter(state, where, data));
}

void WindowBase::get_now(const Where& where, Buffer data) const {
  WindowState& state = live(state_, "get");
  run(state, where, "get", LockType::shared, true, getter(state, where, data));
}

void WindowBase::accumulate_at(const Where& where, ConstBuffer data, MPI_Op op, std::size_t copied) const {
  WindowState& state = live(state_, "accumulate");
  require_elements(state, where, "accumulate");
  const ConstBuffer from = lasting(state, where, data, copied);
  run_checked(state, where, "accumulate", LockType::shared, false, [&] {
    return detail::with_count(from.count, from.type, [&](int n, MPI_Datatype type) {
      return MPI_Accumulate(from.data, n, type, where.rank, where.offset, n, type, op, state.win);
    });
  });
}

void WindowBase::get_accumulate_at(const Where& where, ConstBuffer data, Buffer old, MPI_Op op) const {
  WindowState& state = live(state_, "get_accumulate");
  require_same(where, old.count, "get_accumulate");
  run(state, where, "get_accumulate", LockType::shared, false, [&] {
    return detail::with_count(data.count, data.type, [&](int n, MPI_Datatype type) {
      return MPI_Get_accumulate(data.data, n, type, old.data, n, type, where.rank, where.offset, n, type, op,
                                state.win);
    });
  });
}

void WindowBase::fetch_at(const Where& where, const void* value, void* old, MPI_Op op, bool now) const {
  if (now && in_passive_epoch(state_.get(), where.rank, where.offset)) [[likely]] {
    WindowState& state = *state_;
    check_window(MPI_Fetch_and_op(value, old, where.type, where.rank, where.offset, op, state.win),
                 "fetch_op", where);
    check_window(MPI_Win_flush(where.rank, state.win), "fetch_op", where);
    state.drop_kept(where.rank);
    return;
  }
  WindowState& state = live(state_, "fetch_op");
  run(state, where, "fetch_op", LockType::shared, now,
      [&] { return MPI_Fetch_and_op(value, old, where.type, where.rank, where.offset, op, state.win); });
}

void WindowBase::swap_at(const Where& where, const void* expected, const void* desired, void* old,
                         bool now) const {
  WindowState& state = live(state_, "compare_and_swap");
  run(state, where, "compare_and_swap", LockType::shared, now, [&] {
    return MPI_Compare_and_swap(desired, expected, old, where.type, where.rank, where.offset, state.win);
  });
}

namespace {

// Throws Error (rma_range) unless `count` elements of `type` from where.offset on lie within the window.
void require_place(const WindowState& state, const detail::Access& where, std::size_t element_bytes,
                   const Datatype& type, MPI_Count count, const char* verb) {
  require_rank(state, where.rank, verb);
  if (state.sizes.empty() || where.rank == proc_null || count == 0) return;
  const auto element = static_cast<MPI_Count>(element_bytes);
  const auto size = static_cast<MPI_Count>(state.sizes[static_cast<std::size_t>(where.rank)]) * element;
  const MPI_Count first = where.offset * element + type.true_lower_bound();
  const MPI_Count step = (count - 1) * type.extent();
  const MPI_Count begin = first + std::min<MPI_Count>(step, 0);
  const MPI_Count end = first + std::max<MPI_Count>(step, 0) + type.true_extent();
  if (begin >= 0 && end <= size) return;
  detail::fail(
      Errc::rma_range, verb, {.dest = where.rank},
      fmt::format("bytes {} to {} asked for ({} elements of {} from element {} on), but rank {} has {} "
                  "bytes in this window",
                  begin, end, count, type.describe(), where.offset, where.rank, size));
}

int small_count(MPI_Count count, const char* verb) {
  if (count < 0 || count > INT_MAX)
    detail::fail(
        Errc::count, verb, {},
        fmt::format("{} elements of a datatype: at most 2^31 - 1; Datatype::contiguous_of makes larger ones",
                    count));
  return static_cast<int>(count);
}

}  // namespace

void WindowBase::put_as(const Where& where, std::size_t element_bytes, ConstBuffer data, const Datatype& type,
                        MPI_Count count) const {
  WindowState& state = live(state_, "put");
  require_place(state, where, element_bytes, type, count, "put");
  const int there = small_count(count, "put");
  run(state, where, "put", LockType::exclusive, false, [&] {
    return detail::with_count(data.count, data.type, [&](int n, MPI_Datatype here) {
      return MPI_Put(data.data, n, here, where.rank, where.offset, there, type.native(), state.win);
    });
  });
}

void WindowBase::get_as(const Where& where, std::size_t element_bytes, Buffer data, const Datatype& type,
                        MPI_Count count) const {
  WindowState& state = live(state_, "get");
  require_place(state, where, element_bytes, type, count, "get");
  const int there = small_count(count, "get");
  run(state, where, "get", LockType::shared, false, [&] {
    return detail::with_count(data.count, data.type, [&](int n, MPI_Datatype here) {
      return MPI_Get(data.data, n, here, where.rank, where.offset, there, type.native(), state.win);
    });
  });
}

MPI_Request WindowBase::rput_at(const Where& where, ConstBuffer data) const {
  WindowState& state = live(state_, "rput");
  require_lock(state, where, "rput");
  MPI_Request request = MPI_REQUEST_NULL;
  check_window(detail::with_count(data.count, data.type,
                                  [&](int n, MPI_Datatype type) {
                                    return MPI_Rput(data.data, n, type, where.rank, where.offset, n, type,
                                                    state.win, &request);
                                  }),
               "rput", where);
  return request;
}

MPI_Request WindowBase::rget_at(const Where& where, Buffer data) const {
  WindowState& state = live(state_, "rget");
  require_lock(state, where, "rget");
  MPI_Request request = MPI_REQUEST_NULL;
  check_window(detail::with_count(data.count, data.type,
                                  [&](int n, MPI_Datatype type) {
                                    return MPI_Rget(data.data, n, type, where.rank, where.offset, n, type,
                                                    state.win, &request);
                                  }),
               "rget", where);
  return request;
}

MPI_Request WindowBase::raccumulate_at(const Where& where, ConstBuffer data, MPI_Op op) const {
  WindowState& state = live(state_, "raccumulate");
  require_lock(state, where, "raccumulate");
  MPI_Request request = MPI_REQUEST_NULL;
  check_window(detail::with_count(data.count, data.type,
                                  [&](int n, MPI_Datatype type) {
                                    return MPI_Raccumulate(data.data, n, type, where.rank, where.offset, n,
                                                           type, op, state.win, &request);
                                  }),
               "raccumulate", where);
  return request;
}

MPI_Request WindowBase::rget_accumulate_at(const Where& where, ConstBuffer data, Buffer old,
                                           MPI_Op op) const {
  WindowState& state = live(state_, "rget_accumulate");
  require_lock(state, where, "rget_accumulate");
  require_same(where, old.count, "rget_accumulate");
  MPI_Request request = MPI_REQUEST_NULL;
  check_window(detail::with_count(data.count, data.type,
                                  [&](int n, MPI_Datatype type) {
                                    return MPI_Rget_accumulate(data.data, n, type, old.data, n, type,
                                                               where.rank, where.offset, n, type, op,
                                                               state.win, &request);
                                  }),
               "rget_accumulate", where);
  return request;
}

void WindowBase::fail_op(const char* verb) {
  detail::fail(
      Errc::op, verb, {},
      "windows know only MPI's own operations, for elements that these are for: std::plus<>, mpi::min, "
      "std::bit_or<>, mpi::replace, ...; callables of your own cannot run at the target");
}

// ---- Memory and observers.

void* WindowBase::base() const noexcept { return state_ == nullptr ? nullptr : state_->base; }
std::size_t WindowBase::count() const noexcept { return state_ == nullptr ? 0 : state_->count; }
MPI_Win WindowBase::native() const noexcept { return state_ == nullptr ? MPI_WIN_NULL : state_->win; }
int WindowBase::size() const { return live(state_, "Window::size").ranks; }

std::size_t WindowBase::size_of(int rank) const {
  const WindowState& state = live(state_, "size_of");
  require_rank(state, rank, "size_of");
  if (rank == proc_null) return 0;
  if (state.sizes.empty())
    throw Unsupported("size_of",
                      "sizes of other ranks are known only of windows that manyhands made with memory");
  return state.sizes[static_cast<std::size_t>(rank)];
}

WindowFlavor WindowBase::flavor() const { return live(state_, "flavor").flavor; }

MemoryModel WindowBase::memory_model() const {
  int* model = nullptr;
  int found = 0;
  detail::check(
      MPI_Win_get_attr(live(state_, "memory_model").win, MPI_WIN_MODEL, static_cast<void*>(&model), &found),
      "memory_model");
  return static_cast<MemoryModel>(*model);
}

Group WindowBase::group() const {
  MPI_Group group = MPI_GROUP_NULL;
  detail::check(MPI_Win_get_group(live(state_, "Window::group").win, &group), "Window::group");
  return Group::adopt(group);
}

std::string WindowBase::name() const {
  char text[MPI_MAX_OBJECT_NAME];
  int length = 0;
  detail::check(MPI_Win_get_name(live(state_, "Window::name").win, text, &length), "Window::name");
  return {text, static_cast<std::size_t>(length)};
}

void WindowBase::set_name(const std::string& name) {
  detail::check(MPI_Win_set_name(live(state_, "Window::set_name").win, name.c_str()), "Window::set_name");
}

Info WindowBase::info() const {
  MPI_Info info = MPI_INFO_NULL;
  detail::check(MPI_Win_get_info(live(state_, "Window::info").win, &info), "Window::info");
  return Info::adopt(info);
}

void WindowBase::set_info(const Info& info) {
  detail::check(MPI_Win_set_info(live(state_, "Window::set_info").win, info.native()), "Window::set_info");
}

void WindowBase::attach(void* data, std::size_t bytes) {
  const WindowState& state = live(state_, "attach");
  if (state.flavor != WindowFlavor::dynamic)
    detail::fail(Errc::rma_flavor, "attach", {},
                 "only dynamic windows take memory later: Window::dynamic(comm)");
  detail::check(MPI_Win_attach(state.win, data, static_cast<MPI_Aint>(bytes)), "attach");
}

void WindowBase::detach(void* data) {
  const WindowState& state = live(state_, "detach");
  if (state.flavor != WindowFlavor::dynamic)
    detail::fail(Errc::rma_flavor, "detach", {}, "only dynamic windows give memory back");
  detail::check(MPI_Win_detach(state.win, data), "detach");
}

}  // namespace manyhands::mpi
