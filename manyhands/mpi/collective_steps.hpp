#pragma once
// What the collectives by value are made of: operations of a few steps, that run through at once or one after
// the other in a request.
//
// Each step starts at most one collective of MPI; sizes are exchanged in one step where the next one needs
// them. The operations themselves are in bcast_ops.hpp, scatter_ops.hpp and so on, which collectives.hpp
// includes.

#include <exception>
#include <span>
#include <vector>

#include "manyhands/mpi/collective_calls.hpp"
#include "manyhands/mpi/large.hpp"
#include "manyhands/mpi/late_receive.hpp"
#include "manyhands/mpi/object.hpp"

namespace manyhands::mpi {

// The rank that a collective of one to all, or all to one, starts from or ends at.
struct Root {
  int root = 0;
};

namespace detail {

// One that does not block and has several steps stands in its communicator's line (InLine), and its steps run
// on the internal duplicate: between them the user's other collectives may start, on each rank at another
// time.
template <class R>
class Steps : public Yields<R>, public InLine {
 public:
  using Result = R;
  static constexpr bool one_step = false;  // derived classes of one step say true
  explicit Steps(CommState& state) : user_(&state), current_(&state) {}

  // All steps at once, blocking.
  R run() {
    for (int i = 0;; ++i) {
      Launch launch;
      if (!step(i, launch)) return this->take();
    }
  }
  // Before a request asks it to advance, if it has several steps. Collective.
  void stand_in_line() {
    kept_[0] = user_->shared_from_this();
    start_internal(*user_);
    join_line(*user_);
  }
  bool advance(MPI_Request& native, MPI_Status&) override {
    if (stands_in_line()) {
      advance_line(*user_);
      native = MPI_REQUEST_NULL;
      if (stands_in_line()) return false;
    }
    if (error_) std::rethrow_exception(error_);
    return done_ || start_next(native);
  }
  bool waits_in_line() const noexcept override { return stands_in_line(); }

 protected:
  // Starts step i; false if there is none, and all is done. All before is complete when it is called.
  virtual bool step(int i, Launch& launch) = 0;
  // Of the communicator that the steps run on; for their calls and for errors.
  CommState& state() const noexcept { return *current_; }
  bool is(int root) const noexcept { return user_->rank == root; }
  std::size_t ranks() const noexcept { return static_cast<std::size_t>(user_->size); }

 private:
  // The next request of a step, or of the next step; true if there is none.
  bool start_next(MPI_Request& native) {
    for (;;) {
      if (waiting_ < launch_.further.size()) {
        native = launch_.further[waiting_++];
        return false;
      }
      launch_ = Launch(How::nonblocking);
      waiting_ = 0;
      if (!step(next_++, launch_)) return true;
      native = launch_.request;
      if (native != MPI_REQUEST_NULL) return false;
    }
  }
  void lost() noexcept override { error_ = freed_error("collective"); }
  bool go_on() noexcept override {
    try {
      if (!has_internal(*user_)) return false;
      current_ = &state_of(user_->internal);
      kept_[1] = current_->shared_from_this();
      for (;;) {
        if (request_ != MPI_REQUEST_NULL) {
          int done = 0;
          check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "collective", {.comm = user_->comm});
          if (done == 0) return false;
        }
        if (start_next(request_)) break;
      }
      done_ = true;
    } catch (...) {
      error_ = std::current_exception();
    }
    return true;
  }

  CommState* user_;
  CommState* current_;
  std::shared_ptr<CommState> kept_[2];      // of both, once it stands in line: the communicator may be freed
  MPI_Request request_ = MPI_REQUEST_NULL;  // under way, while it stands in line
  Launch launch_;
  std::size_t waiting_ = 0;  // the next of launch_.further
  int next_ = 0;
  bool done_ = false;
  std::exception_ptr error_;
};

// A root that is no rank is an error on every rank, before anything is sent.
void require_root(CommState& state, const char* verb, int root);
// Throws Error (count) unless there is one item for each rank.
void require_items(CommState& state, const char* verb, std::size_t items);
// Throws Error (count) unless there are size() counts, which add up to `total`.
void require_counts(CommState& state, const char* verb, std::span<const MPI_Count> counts, MPI_Count total);
// Lengths of `parts` parts of `count` elements that differ by one at most, the longer ones first.
std::vector<MPI_Count> near_equal(MPI_Count count, int parts);
// Whether parts that sum up to `total` elements need the wide form.
inline Width width_of(MPI_Count total) noexcept { return total > large_limit ? Width::wide : Width::narrow; }

template <Plain T>
Buffer elements(T* data, MPI_Count count) noexcept {
  return {data, count * Unit<T>::per_element, Unit<T>::type()};
}
template <Plain T>
ConstBuffer elements(const T* data, MPI_Count count) noexcept {
  return {data, count * Unit<T>::per_element, Unit<T>::type()};
}

// Counts in MPI elements of parts in elements of T.
template <Plain T>
std::vector<MPI_Count> in_units(std::span<const MPI_Count> counts) {
  std::vector<MPI_Count> units(counts.begin(), counts.end());
  for (MPI_Count& count : units) count *= Unit<T>::per_element;
  return units;
}

// Counts and offsets in elements of a D, kept as MPI counts them.
template <class D>
struct Scaled {
  template <class Counts>
  explicit Scaled(const Counts& parts) : counts(of(parts.counts)), offsets(of(parts.offsets)) {}
  static std::vector<MPI_Count> of(std::span<const MPI_Count> numbers) {
    if constexpr (Flat<D>) {
      return in_units<std::ranges::range_value_t<D>>(numbers);
    } else {
      return {numbers.begin(), numbers.end()};
    }
  }
  Parts parts() const { return {counts, offsets}; }
  // Throws Error (count) unless all parts lie within the buffer of `size` units. A Buffer says itself what it
  // is.
  template <class B>
  void require_within(CommState& state, const char* verb, MPI_Count size) const {
    if constexpr (!std::is_same_v<B, Buffer> && !std::is_same_v<B, ConstBuffer> &&
                  !std::is_same_v<B, InPlace>)
      detail::require_within(state, verb, parts(), size);
  }
  std::vector<MPI_Count> counts;
  std::vector<MPI_Count> offsets;
};

inline MPI_Count sum(std::span<const MPI_Count> counts) {
  MPI_Count total = 0;
  for (const MPI_Count count : counts) total += count;
  return total;
}

// A sequence of packed objects, one for each rank.
class PackedParts {
 public:
  template <class T>
  void add(const T& value) {
    ObjectMessage message(wire::never_out_of_band);
    message.pack(value);
    const auto* const data = static_cast<const std::byte*>(message.buffer().data);
    bytes_.insert(bytes_.end(), data, data + message.bytes());
    counts_.push_back(message.bytes());
  }
  std::vector<std::byte>& bytes() noexcept { return bytes_; }
  std::vector<MPI_Count>& counts() noexcept { return counts_; }
  void make_room() { bytes_.resize(static_cast<std::size_t>(sum(counts_))); }
  template <class T>
  std::vector<T> unpack(CommState& state) const {
    std::vector<T> values;
    std::size_t at = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      const auto size = static_cast<std::size_t>(counts_[i]);
      values.push_back(unpack_object<T>(ByteView(bytes_).subspan(at, size),
                                        {.comm = state.comm, .source = static_cast<int>(i)}));
      at += size;
    }
    return values;
  }

 private:
  std::vector<std::byte> bytes_;
  std::vector<MPI_Count> counts_;
};

}  // namespace detail
}  // namespace manyhands::mpi
