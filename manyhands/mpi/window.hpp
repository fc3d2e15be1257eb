#pragma once
// Window<T>: memory of each rank that the others read and change without its help (one-sided communication).
//
//   mpi::Window<long> counter(world, world.rank() == 0 ? 1 : 0);
//   const long ticket = counter.fetch_add(0, 0, 1);   // rank 0, element 0: locks, operates, unlocks
//
//   mpi::Window<double> w(world, n);
//   w.fence();  w.put(right, 0, edge);  w.fence();               // all together
//   { auto epoch = w.lock(right);  w.put(right, 0, edge);  }     // one at a time; done when the guard goes
//
// Elements are addressed by rank and offset, in elements of T; both are checked against the window's size
// (Error rank, rma_range). Inside an epoch (between fences, under a lock, between start() and complete()) an
// operation only begins: a range that it reads or writes must stay until the epoch ends or flush(); single
// values are copied. Outside of one, every operation locks, operates and unlocks, and is done on return.
// Verbs that return a value return it at once: under a lock they flush; between fences they are an error
// (rma_sync), there the _into forms are for.
//
// Atomic with one another, element by element: accumulate, get_accumulate, fetch_op, fetch_add,
// compare_and_swap, load and store. put and get are not.
//
// Source: MPI 3.1, chapter 11.

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/given.hpp"
#include "manyhands/mpi/op.hpp"
#include "manyhands/mpi/slots.hpp"

namespace manyhands::mpi {

// Operations of windows only: the new value alone, and the old value alone.
struct Replace {};
struct NoOp {};
inline constexpr Replace replace{};
inline constexpr NoOp no_op{};

enum class LockType : int { exclusive = MPI_LOCK_EXCLUSIVE, shared = MPI_LOCK_SHARED };

struct LockOptions {
  LockType type = LockType::exclusive;
  bool no_check = false;  // nobody else locks meanwhile: promised
};

// What is promised about the time before and after a fence; all false is always right.
struct FenceOptions {
  bool no_store = false;    // this rank has not written into its own memory since the last fence
  bool no_put = false;      // nobody will put or accumulate here until the next fence
  bool no_precede = false;  // no operation has begun before this fence; all ranks alike
  bool no_succeed = false;  // none begins after it; all ranks alike
};

struct PostOptions {
  bool no_check = false;  // every start() comes after this post(), and promises the same
  bool no_store = false;
  bool no_put = false;
};

enum class WindowFlavor : int {
  created = MPI_WIN_FLAVOR_CREATE,  // over memory of the user's
  allocated = MPI_WIN_FLAVOR_ALLOCATE,
  dynamic = MPI_WIN_FLAVOR_DYNAMIC,
  shared = MPI_WIN_FLAVOR_SHARED,
};
enum class MemoryModel : int { separate = MPI_WIN_SEPARATE, unified = MPI_WIN_UNIFIED };

namespace detail {

struct WindowState;
void unlock_quietly(WindowState& state, int rank) noexcept;

// Under MPI's operation `op`; outside of an epoch with a lock around it. In elements of the window.
struct Access {
  int rank;
  MPI_Aint offset;
  MPI_Count count;        // elements
  MPI_Count per_element;  // MPI elements
  MPI_Datatype type;
};

// One element, as so many MPI elements.
struct Cell {
  std::size_t bytes;
  MPI_Count count;
  MPI_Datatype type;
};

}  // namespace detail

// What windows of all types share: the handle and the synchronisation. A resource: moved, not copied; one
// thread.
class WindowBase {
 public:
  // Waits for all ranks: collective. Ends what is under way on it: the guards below may outlive it, and do
  // nothing then. When an exception leaves its scope it does not wait: the window stays until MPI ends.
  ~WindowBase();
  WindowBase(WindowBase&& other) noexcept;
  WindowBase& operator=(WindowBase&& other) noexcept;

  // ---- Active: all ranks together.

  // Ends the epoch before it: all operations of all ranks are done when it returns; and begins the next.
  // Collective.
  void fence(const FenceOptions& options = {}) const;

  // ---- Active: with some ranks. A start() meets the post() of each of its ranks.

  // From start(): ends the access.
  class Access {
   public:
    Access(Access&& other) noexcept : state_(std::move(other.state_)) {}
    // Ends the access that this one stood for, as its destructor does.
    Access& operator=(Access&& other) noexcept {
      Access taken(std::move(other));
      std::swap(state_, taken.state_);
      return *this;
    }
    ~Access();
    void complete();  // all operations are done here; blocks

   private:
    friend class WindowBase;
    explicit Access(std::shared_ptr<detail::WindowState> state) noexcept : state_(std::move(state)) {}
    std::shared_ptr<detail::WindowState> state_;  // shared with the window, which may go first
  };
  // From post(): ends the exposure.
  class Exposure {
   public:
    Exposure(Exposure&& other) noexcept : state_(std::move(other.state_)) {}
    // Waits for the end of the exposure that this one stood for, as its destructor does.
    Exposure& operator=(Exposure&& other) noexcept {
      Exposure taken(std::move(other));
      std::swap(state_, taken.state_);
      return *this;
    }
    ~Exposure();
    void wait();  // blocks until all ranks of the group have completed
    bool test();  // the same without blocking

   private:
    friend class WindowBase;
    explicit Exposure(std::shared_ptr<detail::WindowState> state) noexcept : state_(std::move(state)) {}
    std::shared_ptr<detail::WindowState> state_;
  };
  // Operations on the ranks of `group` may begin; may block until they post().
  [[nodiscard]] Access start(const Group& group, bool no_check = false) const;
  // The ranks of `group` may operate on this rank's memory.
  [[nodiscard]] Exposure post(const Group& group, const PostOptions& options = {}) const;

  // ---- Passive: the other rank does nothing.

  // From lock(), lock_all(): unlocks. What began under it is done everywhere then.
  class Lock {
   public:
    Lock(Lock&& other) noexcept : state_(std::move(other.state_)), rank_(other.rank_) {}
    // Unlocks what this one held.
    Lock& operator=(Lock&& other) noexcept {
      Lock taken(std::move(other));
      std::swap(state_, taken.state_);
      std::swap(rank_, taken.rank_);
      return *this;
    }
    ~Lock() {
      if (state_ != nullptr) detail::unlock_quietly(*state_, rank_);
    }
    void unlock();

   private:
    friend class WindowBase;
    Lock(std::shared_ptr<detail::WindowState> state, int rank) noexcept
        : state_(std::move(state)), rank_(rank) {}
    std::shared_ptr<detail::WindowState> state_;
    int rank_;
  };
  [[nodiscard]] Lock lock(int rank, const LockOptions& options = {}) const;
  // Shared locks of all ranks. Not collective.
  [[nodiscard]] Lock lock_all(bool no_check = false) const;
  // Under a lock: blocks until what began is done at the target (and here), at all targets; or here only.
  void flush(int rank) const;
  void flush_all() const;
  void flush_local(int rank) const;
  void flush_local_all() const;
  // Under lock_all: makes this rank's own reads and writes of its memory meet those of others, where the
  // memory model is separate.
  void sync() const;

  // ---- Observers.

  MPI_Win native() const noexcept;
  // Gives the raw handle away, outside of epochs; who takes it frees it. This object is empty then. Throws
  // Error (rma_sync) under a lock.
  MPI_Win release();
  MPI_Fint to_fortran() const { return MPI_Win_c2f(native()); }
  explicit operator bool() const noexcept { return state_ != nullptr; }
  int size() const;  // ranks
  // The elements that `rank` has. Throws Error (rank).
  std::size_t size_of(int rank) const;
  WindowFlavor flavor() const;
  MemoryModel memory_model() const;
  Group group() const;
  std::string name() const;
  void set_name(const std::string& name);
  Info info() const;
  void set_info(const Info& info);  // collective
  // Frees the window now; collective. Throws Error (rma_sync) under a lock.
  void free();

 protected:
  struct Spec {
    WindowFlavor flavor;
    std::size_t element;  // bytes
    std::size_t count;
    void* memory;
  };
  WindowBase(const Comm& comm, const Spec& spec, const Info& info, const char* verb);
  // Of another's window.
  WindowBase(MPI_Win raw, bool owned, std::size_t element, const char* verb);

  void* base() const noexcept;
  std::size_t count() const noexcept;
  void attach(void* data, std::size_t bytes);
  void detach(void* data);

  using Where = detail::Access;
  // A single value, which is copied for an epoch.
  void put_value(int rank, MPI_Aint offset, const void* value, const detail::Cell& cell) const;
  void accumulate_value(int rank, MPI_Aint offset, const void* value, const detail::Cell& cell,
                        MPI_Op op) const;
  // `copied` bytes of a single value are copied for an epoch: `data` then lies in the window's own memory. 0:
  // it stays where it is.
  void put_at(const Where& where, ConstBuffer data, std::size_t copied) const;
  void get_at(const Where& where, Buffer data) const;
  // The same, and done when it returns.
  void get_now(const Where& where, Buffer data) const;
  void accumulate_at(const Where& where, ConstBuffer data, MPI_Op op, std::size_t copied) const;
  void get_accumulate_at(const Where& where, ConstBuffer data, Buffer old, MPI_Op op) const;
  void fetch_at(const Where& where, const void* value, void* old, MPI_Op op, bool now) const;
  void swap_at(const Where& where, const void* expected, const void* desired, void* old, bool now) const;
  MPI_Request rput_at(const Where& where, ConstBuffer data) const;
  MPI_Request rget_at(const Where& where, Buffer data) const;
  MPI_Request raccumulate_at(const Where& where, ConstBuffer data, MPI_Op op) const;
  MPI_Request rget_accumulate_at(const Where& where, ConstBuffer data, Buffer old, MPI_Op op) const;
  [[noreturn]] static void fail_op(const char* verb);
  // Against data of another form, from the offset of `where` on.
  void put_as(const Where& where, std::size_t element_bytes, ConstBuffer data, const Datatype& type,
              MPI_Count count) const;
  void get_as(const Where& where, std::size_t element_bytes, Buffer data, const Datatype& type,
              MPI_Count count) const;

 private:
  std::shared_ptr<detail::WindowState> state_;  // shared with guards, and with MPI's end
};

template <Plain T>
class Window : public WindowBase {
 public:
  // Collective. Memory for `count` elements of this rank, T{} each; counts may differ. Throws Error (no_mem,
  // size) on all ranks if one has no room for its part.
  Window(const Comm& comm, std::size_t count, const Info& info = {})
      : WindowBase(comm, {WindowFlavor::allocated, sizeof(T), count, nullptr}, info, "Window") {}
  // Memory of the caller's, which stays until the window goes; of the heap, for MPICH 4.0.2 writes beside
  // windows over a stack. Collective. Throws Unsupported where this MPI cannot (Open MPI 4.1 without a
  // single-copy mechanism).
  static Window over(const Comm& comm, std::span<T> memory, const Info& info = {}) {
    return Window(comm, {WindowFlavor::created, sizeof(T), memory.size(), memory.data()}, info,
                  "Window::over");
  }
  // Without memory at first: attach() some. Offsets are addresses then: address_of() on the rank that
  // attached, sent to who needs it; elements of a range follow one another. Nothing is checked. Collective.
  static Window dynamic(const Comm& comm, const Info& info = {}) {
    return Window(comm, {WindowFlavor::dynamic, sizeof(T), 0, nullptr}, info, "Window::dynamic");
  }
  // Raw handles in: takes ownership, or refers to one that another frees. They have the size that MPI knows
  // (that of a window that manyhands allocated is rounded up to 64 bytes), and nothing but the rank is
  // checked.
  static Window adopt(MPI_Win raw) { return Window(raw, true); }
  static Window view(MPI_Win raw) { return Window(raw, false); }
  static Window from_fortran(MPI_Fint handle) { return view(MPI_Win_f2c(handle)); }

  // This rank's own elements. To be read and written between epochs, or under a lock of this rank.
  std::span<T> local() const& noexcept { return {static_cast<T*>(base()), count()}; }
  std::span<T> local() const&& = delete;  // the window goes, and the memory with it

  // Of a dynamic window. Not collective.
  void attach(std::span<T> memory) { WindowBase::attach(memory.data(), memory.size_bytes()); }
  void detach(std::span<T> memory) { WindowBase::detach(memory.data()); }
  static MPI_Aint address_of(const T& element) {
    MPI_Aint address = 0;
    MPI_Get_address(&element, &address);
    return address;
  }

  // ---- Values and ranges.

  [[gnu::always_inline]] void put(int rank, MPI_Aint offset, const T& value) const {
    const detail::Given<T> copy = value;
    put_value(rank, offset, &copy, {sizeof(T), Unit::per_element, Unit::type()});
  }
  template <Flat R>
    requires std::same_as<std::ranges::range_value_t<R>, T>
  void put(int rank, MPI_Aint offset, R&& data) const {
    static_assert(std::is_lvalue_reference_v<R> || std::ranges::view<std::remove_cvref_t<R>>,
                  "the data must stay until the epoch ends: give an lvalue or a span");
    put_at(where(rank, offset, std::ranges::size(data)), as_buffer(data), 0);
  }
  // Values at once.
  T get(int rank, MPI_Aint offset) const {
    T value{};
    get_now(where(rank, offset, 1), as_writable(value));
    return value;
  }
  std::vector<T> get(int rank, MPI_Aint offset, std::size_t n) const {
    detail::Slots<T> slots(n);
    const auto data = slots.span();
    get_now(where(rank, offset, n), as_writable(data));
    return slots.take();
  }
  // There when the epoch ends, at once outside of one.
  template <Flat R>
    requires std::same_as<std::ranges::range_value_t<R>, T>
  void get_into(int rank, MPI_Aint offset, R&& data) const {
    get_at(where(rank, offset, std::ranges::size(data)), as_writable(data));
  }
  void get_into(int rank, MPI_Aint offset, T& value) const {
    get_at(where(rank, offset, 1), as_writable(value));
  }

  // ---- Data of any form at both ends: `data` (a value, a range, or mpi::buffer(...)) against `count`
  // elements of `type`, whose first begins at element `offset`. As many basic values at both ends: else the
  // MPI's Error (truncate), or nothing is said. The place must lie within the window. `type` may go at once;
  // `data` stays until the epoch ends.

  template <Direct D>
  void put(int rank, MPI_Aint offset, const D& data, const Datatype& type, MPI_Count count = 1) const {
    put_as(where(rank, offset, 0), sizeof(T), as_buffer(data), type, count);
  }
  template <Direct D>
  void get_into(int rank, MPI_Aint offset, D&& data, const Datatype& type, MPI_Count count = 1) const {
    get_as(where(rank, offset, 0), sizeof(T), as_writable(data), type, count);
  }

  // ---- Combined with what is there: op(there, data), element by element. Operations are MPI's own:
  // std::plus<>, std::multiplies<>, mpi::min, mpi::max, the bitwise and logical ones, mpi::replace,
  // mpi::no_op (which accumulate alone refuses); others throw Error (op).

  template <class F>
  [[gnu::always_inline]] void accumulate(int rank, MPI_Aint offset, const T& value, F) const {
    const detail::Given<T> copy = value;
    accumulate_value(rank, offset, &copy, {sizeof(T), Unit::per_element, reduction_type()},
                     op<F>("accumulate"));
  }
  template <Flat R, class F>
    requires std::same_as<std::ranges::range_value_t<R>, T>
  void accumulate(int rank, MPI_Aint offset, R&& data, F) const {
    static_assert(std::is_lvalue_reference_v<R> || std::ranges::view<std::remove_cvref_t<R>>,
                  "the data must stay until the epoch ends: give an lvalue or a span");
    const std::size_t n = std::ranges::size(data);
    accumulate_at(reduced(rank, offset, n), reduction_buffer(std::ranges::data(data), n), op<F>("accumulate"),
                  0);
  }
  // The same, and what was there before into `old`: when the epoch ends, at once outside of one.
  template <class F>
  void get_accumulate_into(int rank, MPI_Aint offset, std::span<const T> data, std::span<T> old, F) const {
    get_accumulate_at(reduced(rank, offset, data.size()), reduction_buffer(data.data(), data.size()),
                      writable_reduction(old), op<F>("get_accumulate"));
  }

  // One element: what was there before.
  template <class F>
    requires Native<T>
  [[gnu::always_inline]] T fetch_op(int rank, MPI_Aint offset, const T& value, F) const {
    const T copy = value;
    T old{};
    fetch_at(reduced(rank, offset, 1), &copy, &old, op<F>("fetch_op"), true);
    return old;
  }
  [[gnu::always_inline]] T fetch_add(int rank, MPI_Aint offset, const T& value) const
    requires Native<T>
  {
    return fetch_op(rank, offset, value, std::plus<>());
  }
  // The same for epochs: `value` and `old` stay until it ends.
  template <class F>
    requires Native<T>
  void fetch_op_into(int rank, MPI_Aint offset, const T& value, T& old, F) const {
    fetch_at(reduced(rank, offset, 1), &value, &old, op<F>("fetch_op"), false);
  }
  // Atomic reads and writes.
  T load(int rank, MPI_Aint offset) const
    requires Native<T>
  {
    return fetch_op(rank, offset, T{}, no_op);
  }
  [[gnu::always_inline]] void store(int rank, MPI_Aint offset, const T& value) const {
    accumulate(rank, offset, value, replace);
  }
  // Becomes `desired` if it is `expected`; returns what was there. For integers, bools and enums.
  [[gnu::always_inline]] T compare_and_swap(int rank, MPI_Aint offset, const T& expected,
                                            const T& desired) const
    requires std::is_integral_v<T> || std::is_enum_v<T>
  {
    const T from = expected, to = desired;
    T old{};
    swap_at(reduced(rank, offset, 1), &from, &to, &old, true);
    return old;
  }
  void compare_and_swap_into(int rank, MPI_Aint offset, const T& expected, const T& desired, T& old) const
    requires std::is_integral_v<T> || std::is_enum_v<T>
  {
    swap_at(reduced(rank, offset, 1), &expected, &desired, &old, false);
  }

  // ---- With a request, under a lock: done here when the request is; at the target after unlock or flush.

  Request<void> rput(int rank, MPI_Aint offset, std::span<const T> data) const {
    return request(rput_at(where(rank, offset, data.size()), as_buffer(data)), "rput");
  }
  Request<void> rget_into(int rank, MPI_Aint offset, std::span<T> data) const {
    return request(rget_at(where(rank, offset, data.size()), as_writable(data)), "rget");
  }
  Request<std::vector<T>> rget(int rank, MPI_Aint offset, std::size_t n) const {
    auto owned = std::make_unique<Holding>(n);
    const auto data = owned->slots.span();
    const MPI_Request native = rget_at(where(rank, offset, n), as_writable(data));
    return Request<std::vector<T>>(
        detail::RequestCore(native, std::move(owned), "rget", detail::Dropped::wait));
  }
  template <class F>
  Request<void> raccumulate(int rank, MPI_Aint offset, std::span<const T> data, F) const {
    return request(raccumulate_at(reduced(rank, offset, data.size()),
                                  reduction_buffer(data.data(), data.size()), op<F>("raccumulate")),
                   "raccumulate");
  }
  template <class F>
  Request<void> rget_accumulate_into(int rank, MPI_Aint offset, std::span<const T> data, std::span<T> old,
                                     F) const {
    return request(
        rget_accumulate_at(reduced(rank, offset, data.size()), reduction_buffer(data.data(), data.size()),
                           writable_reduction(old), op<F>("rget_accumulate")),
        "rget_accumulate");
  }

 private:
  using Unit = detail::Unit<T>;
  struct Holding final : detail::Yields<std::vector<T>> {
    explicit Holding(std::size_t n) : slots(n) {}
    bool advance(MPI_Request&, MPI_Status&) override { return true; }
    std::vector<T> take() override { return slots.take(); }
    detail::Slots<T> slots;
  };

  Window(const Comm& comm, const Spec& spec, const Info& info, const char* verb)
      : WindowBase(comm, spec, info, verb) {}
  Window(MPI_Win raw, bool owned) : WindowBase(raw, owned, sizeof(T), "Window::adopt") {}

  static MPI_Datatype reduction_type() {
    if constexpr (Native<typename Unit::Leaf>) {
      return detail::reduction_type<typename Unit::Leaf>();
    } else {
      return MPI_BYTE;
    }
  }
  static Where where(int rank, MPI_Aint offset, std::size_t n) {
    return {rank, offset, static_cast<MPI_Count>(n), Unit::per_element, Unit::type()};
  }
  static Where reduced(int rank, MPI_Aint offset, std::size_t n) {
    return {rank, offset, static_cast<MPI_Count>(n), Unit::per_element, reduction_type()};
  }
  static ConstBuffer reduction_buffer(const T* data, std::size_t n) {
    return {data, static_cast<MPI_Count>(n) * Unit::per_element, reduction_type()};
  }
  static Buffer writable_reduction(std::span<T> data) {
    return {data.data(), static_cast<MPI_Count>(data.size()) * Unit::per_element, reduction_type()};
  }
  template <class F>
  static MPI_Op op(const char* verb) {
    if constexpr (std::is_same_v<F, Replace>) {
      return MPI_REPLACE;
    } else if constexpr (std::is_same_v<F, NoOp>) {
      return MPI_NO_OP;
    } else {
      detail::require_active(verb);
      const MPI_Op found = detail::builtin_op<F, typename Unit::Leaf>();
      if (found == MPI_OP_NULL) fail_op(verb);
      return found;
    }
  }
  static Request<void> request(MPI_Request native, const char* verb) {
    return Request<void>(detail::RequestCore(native, nullptr, verb, detail::Dropped::wait));
  }
};

}  // namespace manyhands::mpi
