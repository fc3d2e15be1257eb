#pragma once
// Halo: keeps the ghost layers of a field that is spread over a grid of ranks up to date.
//
//   mpi::Cart grid(world, {.dims = {0, 0}, .periodic = {true, false}});
//   std::vector<double> field((ny + 2) * (nx + 2));          // own cells, and one layer around them
//   mpi::Halo halo(grid, mpi::grid_view(field.data(), {ny + 2, nx + 2}), {.width = 1});
//   for (int step = 0; step < steps; ++step) {
//     auto exchange = halo.start();
//     update_inner_cells();                                  // while the layers travel
//     exchange.wait();
//     update_border_cells();
//   }
//
// Datatypes and persistent requests are made once; a round is MPI_Startall and MPI_Waitall. Each rank's
// outermost own cells go to its neighbours, into their ghost layers; at an edge of the grid that is not
// periodic the ghost layers are the caller's (boundary values) and stay untouched.

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "manyhands/mpi/topology.hpp"

namespace manyhands::mpi {

// A field in memory of the caller's: row-major, [rows, columns] for two dimensions, ghost layers included.
// Has at least as many dimensions as the grid of ranks; those behind are not spread (components of a vector,
// say).
template <Plain T>
struct GridView {
  T* data;
  std::vector<std::int64_t> shape;
};

namespace detail {

// Any integer.
struct Extent {
  template <std::integral I>
  Extent(I n) noexcept : value(static_cast<std::int64_t>(n)) {}
  std::int64_t value;
};

}  // namespace detail

template <Plain T>
GridView<T> grid_view(T* data, std::initializer_list<detail::Extent> shape) {
  GridView<T> view{data, {}};
  for (const detail::Extent n : shape) view.shape.push_back(n.value);
  return view;
}

// Ghost cells that lie diagonally, of which stencils with corners read.
enum class Corners : std::uint8_t {
  none,     // not exchanged: for stencils along the axes
  ordered,  // one dimension after the other, each with the ghosts of those before: few messages, but only the
            // first dimension's travel between start() and wait(). Boundary values of neighbours come along
  diagonal,  // by messages of their own, 3^d - 1 in all: everything travels between start() and wait()
};

struct HaloOptions {
  int width = 1;              // ghost layers on each side, in cells
  std::vector<int> widths{};  // for each dimension instead; 0: this one has no ghosts
  Corners corners = Corners::none;
};

// A resource: moved, not copied; one thread. Borrows the field; the grid may go. All ranks make it, and start
// and wait for their rounds, alike. Neighbours have the same sizes along the border that they share.
class Halo {
 public:
  // Collective. Throws Error (dims) if the field has fewer dimensions than the grid, or has a dimension with
  // fewer own cells than the width.
  template <Plain T>
  Halo(const Cart& grid, const GridView<T>& field, const HaloOptions& options = {})
      : Halo(grid, field.data, element_type<T>(), field.shape, options) {}
  Halo(Halo&& other) noexcept;
  Halo& operator=(Halo&& other) noexcept;
  // Waits for a round that was started.
  ~Halo();

  // A round under way; waits in its destructor. The field stays until then.
  class Exchange {
   public:
    Exchange(Exchange&& other) noexcept : halo_(std::move(other.halo_)) {}
    Exchange& operator=(Exchange&&) = delete;
    ~Exchange();
    // Blocks until the ghost layers hold the neighbours' cells, and own cells may be changed.
    void wait();

   private:
    friend class Halo;
    struct State;
    explicit Exchange(Halo& halo) noexcept : halo_(halo.state_) {}
    std::shared_ptr<State> halo_;  // shared with the Halo, which may go first
  };

  // Starts a round. Until it is waited for, own cells must not be changed, and ghost cells not be read.
  // Throws Error (request) if one is under way.
  [[nodiscard]] Exchange start();
  // A whole round; blocks.
  void exchange() { start().wait(); }

 private:
  template <Plain T>
  static MPI_Datatype element_type() {
    detail::require_active("Halo");
    if constexpr (Native<T>) {
      return native_type<T>();
    } else {
      return detail::bytes_type<T>();
    }
  }
  Halo(const Cart& grid, void* data, MPI_Datatype type, const std::vector<std::int64_t>& shape,
       const HaloOptions& options);
  std::shared_ptr<Exchange::State> state_;
};

}  // namespace manyhands::mpi
