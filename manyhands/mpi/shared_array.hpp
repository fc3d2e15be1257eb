#pragma once
// SharedArray<T>: memory that the ranks of one node read and write directly, like that of threads.
//
//   auto node = world.split_node();
//   mpi::SharedArray<double> a(node, n);        // n elements of each rank
//   a.local()[0] = node.rank();
//   a.fence();
//   double y = a.of(0)[0];                      // rank 0's first: a plain read
//   for (double& x : a.all()) x += 1;           // everybody's, in the order of the ranks
//
// What one rank wrote before a fence() the others read after it; concurrent access in between is for the user
// to order (std::atomic_ref works). Source: MPI 3.1, 11.2.3.

#include <span>

#include "manyhands/mpi/window.hpp"

namespace manyhands::mpi {

struct SharedArrayOptions {
  // One part directly behind the other, so that all() is one span. Otherwise each begins on a page near its
  // rank, which is quicker on machines with several memories.
  bool contiguous = true;
};

namespace detail {

struct SharedPart {
  void* data;
  std::size_t bytes;
};

// The untyped part of SharedArray.
class SharedWindow : public WindowBase {
 public:
  SharedWindow(const Comm& node, std::size_t element, std::size_t count, const SharedArrayOptions& options);
  SharedPart part(int rank, std::size_t element) const;
  void* first() const noexcept { return first_; }  // null unless contiguous
  std::size_t total() const noexcept { return total_; }

 private:
  void* first_ = nullptr;
  std::size_t total_ = 0;  // elements of all ranks
};

}  // namespace detail

// A resource: moved, not copied. Its destructor is collective, except after an exception.
template <Plain T>
class SharedArray {
 public:
  // Collective over `node`, whose ranks must share memory (Comm::split_node; Error rma_shared otherwise).
  // Each rank has `count` elements, T{} each; counts may differ.
  SharedArray(const Comm& node, std::size_t count, const SharedArrayOptions& options = {})
      : window_(node, sizeof(T), count, options) {}

  std::span<T> local() const& noexcept {
    return {static_cast<T*>(window_.base_of_this_rank()), window_.count_of_this_rank()};
  }
  // The part of a rank. Throws Error (rank).
  std::span<T> of(int rank) const& {
    const detail::SharedPart part = window_.part(rank, sizeof(T));
    return {static_cast<T*>(part.data), part.bytes / sizeof(T)};
  }
  // All parts, rank after rank. Throws Error (rma_shared) unless contiguous.
  std::span<T> all() const& {
    if (window_.first() == nullptr && window_.total() != 0)
      detail::fail(Errc::rma_shared, "SharedArray::all", {},
                   "the parts do not lie side by side: {.contiguous = true}");
    return {static_cast<T*>(window_.first()), window_.total()};
  }
  // Of a temporary, whose memory goes with it.
  std::span<T> local() const&& = delete;
  std::span<T> of(int rank) const&& = delete;
  std::span<T> all() const&& = delete;
  // Blocks until all ranks are here; what they wrote before is seen after. Collective.
  void fence() const { window_.fence(); }

  MPI_Win native() const noexcept { return window_.native(); }

 private:
  struct Typed : detail::SharedWindow {
    using SharedWindow::SharedWindow;
    void* base_of_this_rank() const noexcept { return base(); }
    std::size_t count_of_this_rank() const noexcept { return count(); }
  };
  Typed window_;
};

}  // namespace manyhands::mpi
