#pragma once
// Communicator: the handle of a communicator and what all kinds of them have: rank, size, name, attributes,
// owner.
//
// Comm, Cart, Graph and Intercomm derive from it, in steps of one idea each: Communicator (the handle),
// PointToPoint (messages between two), then collectives.

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/mpi/error.hpp"
#include "manyhands/mpi/info.hpp"
#include "manyhands/mpi/lifetime.hpp"

namespace manyhands::mpi {

class Group;

// How two communicators or groups compare.
enum class Comparison : int {
  identical = MPI_IDENT,      // the same object
  congruent = MPI_CONGRUENT,  // the same ranks in the same order, another context
  similar = MPI_SIMILAR,      // the same ranks in another order
  unequal = MPI_UNEQUAL,
};

namespace detail {

class InLine;
class LateReceive;

// What manyhands keeps with each MPI communicator, as an attribute of it: shared by all handles to it,
// deleted with it, or with the last operation that refers to it.
struct CommState : std::enable_shared_from_this<CommState> {
  MPI_Comm comm = MPI_COMM_NULL;  // null once it is freed
  int rank = 0;
  int size = 0;   // of the local group
  int peers = 0;  // ranks that messages go to: size, or the remote group's size
  bool inter = false;
  // A duplicate for our own messages; made by the first collective that needs it.
  MPI_Comm internal = MPI_COMM_NULL;
  MPI_Request making = MPI_REQUEST_NULL;  // of `internal`, if it is being made

  std::mutex mutex;
  std::vector<LateReceive*>
      unmatched;              // irecv()s of unknown size in the order of their posting; guarded by mutex
  std::vector<InLine*> line;  // collectives of several steps in the order of their start; guarded by mutex
  std::shared_ptr<CommState> self;  // the attribute's hold on it
};

// The state of `comm`, made if it has none. Requires: active.
CommState& state_of(MPI_Comm comm);
// The internal duplicate; collective over the communicator the first time. Blocks until it is made.
MPI_Comm internal_of(CommState& state);
// The same in two parts that do not block: the first is collective, the second says whether it is made. (With
// Open MPI the first one blocks.)
void start_internal(CommState& state);
bool has_internal(CommState& state);

}  // namespace detail

// A resource: moved, not copied. One thread at a time, and from several threads only with
// ThreadLevel::multiple; collectives of one communicator never from two threads at once: dup() it for each.
class Communicator {
 public:
  // The rank of this process, and the number of processes (of the local group, for an Intercomm). No call of
  // MPI. As all verbs, they throw Error (comm) if the communicator is empty, and (not_active) after MPI's
  // end.
  int rank() const { return state("rank").rank; }
  int size() const { return state("size").size; }

  MPI_Comm native() const noexcept { return state_ == nullptr ? MPI_COMM_NULL : state_->comm; }
  // Gives the raw handle away; who takes it frees it. This object is empty then.
  MPI_Comm release() noexcept;
  // Fortran's handle of it; Comm::from_fortran is the way back.
  MPI_Fint to_fortran() const { return MPI_Comm_c2f(native()); }
  // False for one that was moved from, released, or made for a rank that takes no part (split with
  // mpi::undefined).
  explicit operator bool() const noexcept { return state_ != nullptr; }

  std::string name() const;
  void set_name(const std::string& name);
  Comparison compare(const Communicator& other) const;
  bool is_inter() const { return state("is_inter").inter; }
  Group group() const;
  // The hints that the MPI uses for this communicator, and new ones for it (collective).
  Info info() const;
  void set_info(const Info& info);

  // Ends the job: all processes of this communicator at least. Never returns.
  [[noreturn]] void abort(int exit_status = 1) const;
  // Frees the communicator now instead of in the destructor; collective. Throws Error if MPI reports one.
  void free();

  ~Communicator();
  Communicator(Communicator&& other) noexcept;
  Communicator& operator=(Communicator&& other) noexcept;

 protected:
  enum class Ownership : bool { viewed, owned };
  Communicator() = default;
  // MPI_COMM_NULL makes an empty one.
  Communicator(MPI_Comm comm, Ownership ownership);
  detail::CommState& state(const char* operation) const {
    detail::require_active(operation);
    if (state_ == nullptr) [[unlikely]]
      fail_empty(operation);
    return *state_;
  }
  [[noreturn]] static void fail_empty(const char* operation);

  detail::CommState* state_ = nullptr;
  Ownership ownership_ = Ownership::viewed;

 private:
  void free_quietly() noexcept;
};

// A value that travels with a communicator: caching as MPI calls it. A dup()ed communicator gets a copy. One
// key per purpose, for the process's life; keys live at least as long as the communicators that use them.
template <class T>
class AttributeKey {
 public:
  AttributeKey() {
    detail::require_active("AttributeKey");
    detail::check(MPI_Comm_create_keyval(&copy, &destroy, &key_, nullptr), "AttributeKey");
  }
  AttributeKey(const AttributeKey&) = delete;
  AttributeKey& operator=(const AttributeKey&) = delete;
  ~AttributeKey() {
    if (is_active()) MPI_Comm_free_keyval(&key_);
  }

  void set(const Communicator& comm, T value) const {
    require(comm, "AttributeKey::set");
    auto held = std::make_unique<T>(std::move(value));
    detail::check(MPI_Comm_set_attr(comm.native(), key_, held.get()), "AttributeKey::set",
                  {.comm = comm.native()});
    static_cast<void>(held.release());  // destroy() deletes it
  }
  // The value, null if the communicator has none; valid until it is set again or erased.
  T* get(const Communicator& comm) const {
    require(comm, "AttributeKey::get");
    T* value = nullptr;
    int found = 0;
    detail::check(MPI_Comm_get_attr(comm.native(), key_, static_cast<void*>(&value), &found),
                  "AttributeKey::get", {.comm = comm.native()});
    return found != 0 ? value : nullptr;
  }
  void erase(const Communicator& comm) const {
    require(comm, "AttributeKey::erase");
    detail::check(MPI_Comm_delete_attr(comm.native(), key_), "AttributeKey::erase", {.comm = comm.native()});
  }

 private:
  static void require(const Communicator& comm, const char* verb) {
    detail::require_active(verb);
    if (!comm) detail::fail(Errc::comm, verb, {}, "the communicator is empty");
  }
  static int copy(MPI_Comm, int, void*, void* from, void* to, int* flag) {
    *static_cast<T**>(to) = new T(*static_cast<T*>(from));
    *flag = 1;
    return MPI_SUCCESS;
  }
  static int destroy(MPI_Comm, int, void* value, void*) {
    delete static_cast<T*>(value);
    return MPI_SUCCESS;
  }
  int key_ = MPI_KEYVAL_INVALID;
};

}  // namespace manyhands::mpi
