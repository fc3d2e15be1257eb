#pragma once
// Cart, Graph, DistGraph: communicators whose ranks have places in a grid, or neighbours in a graph.
//
//   mpi::Cart grid(mpi::world(), {.dims = {0, 0}, .periodic = {true, false}});   // 0: chosen by dims_create
//   auto [up, down] = grid.shift(0);
//   auto coords = grid.coords();                                                 // of this rank
//
// They are made collectively, by all ranks with the same arguments (DistGraph: each with its own part), and
// have everything that a Comm has, and the collectives of neighborhood.hpp. Errors: mpi::Error with class
// dims (a grid larger than the communicator, a wrong number of coordinates), rank, arg, topology (a raw
// handle without that topology).

#include <span>
#include <vector>

#include "manyhands/mpi/neighborhood.hpp"

namespace manyhands::mpi {

// How `ranks` are best spread over dims.size() dimensions: as even as possible, those not 0 kept. Local.
// Throws Error (dims) if that cannot be. mpi::dims_create(12, {0, 0}) is {4, 3}.
std::vector<int> dims_create(int ranks, std::vector<int> dims);

// The topology that a communicator has. Local.
enum class Topology : int {
  none = MPI_UNDEFINED,
  cart = MPI_CART,
  graph = MPI_GRAPH,
  dist_graph = MPI_DIST_GRAPH,
};
Topology topology_of(const Communicator& comm);

struct CartOptions {
  std::vector<int> dims;            // ranks in each dimension; 0: chosen
  std::vector<bool> periodic = {};  // whether the last is the first's neighbour; empty: nowhere
  bool reorder = false;             // the MPI may number the ranks anew
};

// A grid of ranks, numbered row-major: the last dimension varies fastest. Its neighbours, in the order of the
// neighbourhood collectives: for each dimension first the one in negative, then that in positive direction.
class Cart : public Neighborhood {
 public:
  Cart() = default;  // empty
  // Collective. Ranks beyond the grid get an empty Cart. Without dimensions it has one place, rank 0's.
  // Throws Error (dims) if the grid has more places than the communicator ranks.
  Cart(const Comm& comm, const CartOptions& options);
  // Raw handles in: takes ownership, or refers to one that another frees.
  static Cart adopt(MPI_Comm raw);
  static Cart view(MPI_Comm raw);
  static Cart from_fortran(MPI_Fint handle) { return view(MPI_Comm_f2c(handle)); }

  const std::vector<int>& dims() const& noexcept { return dims_; }
  std::vector<int> dims() && { return std::move(dims_); }
  const std::vector<bool>& periodic() const& noexcept { return periodic_; }
  std::vector<bool> periodic() && { return std::move(periodic_); }
  // The place of this rank, or of another.
  std::vector<int> coords() const { return coords(rank()); }
  std::vector<int> coords(int rank) const;
  // The rank at a place. In periodic dimensions any coordinate is wrapped into the grid; elsewhere one
  // outside throws Error (arg).
  int rank_of(std::span<const int> coords) const;
  int rank_of(std::initializer_list<int> coords) const {
    return rank_of(std::span(coords.begin(), coords.size()));
  }
  // The neighbours of this rank `displacement` away along `dim`: a shift of data by it sends to dest and
  // receives from source. proc_null beyond an edge.
  struct Shift {
    int source;
    int dest;
  };
  Shift shift(int dim, int displacement = 1) const;
  // The neighbours at distance 1: 2 * dims().size(), proc_null beyond an edge.
  const std::vector<int>& neighbours() const& noexcept { return sources_; }
  std::vector<int> neighbours() && { return std::move(sources_); }

  // The grid of the dimensions that are kept, one for each place in the others; collective.
  Cart sub(const std::vector<bool>& keep) const;
  Cart dup() const;
  // The rank that the MPI would give this one in such a grid of `comm`; undefined if none. Collective.
  static int map(const Comm& comm, const CartOptions& options);

 private:
  Cart(MPI_Comm comm, Ownership ownership);
  std::vector<int> dims_;
  std::vector<bool> periodic_;
};

struct GraphOptions {
  bool reorder = false;
};

// A graph that all ranks know wholly. For more than a few ranks DistGraph is the better one.
class Graph : public Neighborhood {
 public:
  Graph() = default;  // empty
  // Collective; all ranks give the same: neighbours[r] are those of rank r. Ranks beyond the graph get an
  // empty Graph. Throws Error (topology) for neighbours that are no ranks of the graph.
  Graph(const Comm& comm, const std::vector<std::vector<int>>& neighbours, const GraphOptions& options = {});
  static Graph adopt(MPI_Comm raw);
  static Graph view(MPI_Comm raw);
  static Graph from_fortran(MPI_Fint handle) { return view(MPI_Comm_f2c(handle)); }

  const std::vector<int>& neighbours() const& noexcept { return destinations_; }
  std::vector<int> neighbours() && { return std::move(destinations_); }
  std::vector<int> neighbours(int rank) const;
  // The whole graph: neighbours of each rank.
  std::vector<std::vector<int>> edges() const;
  Graph dup() const;
  static int map(const Comm& comm, const std::vector<std::vector<int>>& neighbours);

 private:
  Graph(MPI_Comm comm, Ownership ownership);
};

// Where this rank's data comes from and goes to. Weights say how much: all ranks give them, or none does.
struct Adjacency {
  std::vector<int> sources;
  std::vector<int> destinations;
  std::vector<int> source_weights = {};  // empty, or one for each
  std::vector<int> destination_weights = {};
  bool reorder = false;
  Info info = {};
};

// Edges out of one rank; any rank may tell them.
struct Edges {
  int source;
  std::vector<int> destinations;
  std::vector<int> weights = {};  // empty, or one for each
};

// A graph of which each rank knows its own neighbours.
class DistGraph : public Neighborhood {
 public:
  DistGraph() = default;  // empty
  // Collective. If a names b as its destination, b names a as its source.
  DistGraph(const Comm& comm, const Adjacency& adjacency);
  // Collective: each rank tells some edges of the graph, of its own or of others; each edge is told once.
  DistGraph(const Comm& comm, std::span<const Edges> edges, const GraphOptions& options = {});
  static DistGraph adopt(MPI_Comm raw);
  static DistGraph view(MPI_Comm raw);
  static DistGraph from_fortran(MPI_Fint handle) { return view(MPI_Comm_f2c(handle)); }

  bool weighted() const noexcept { return weighted_; }
  // Of the edges from sources() and to destinations(); empty if there are no weights.
  const std::vector<int>& source_weights() const& noexcept { return source_weights_; }
  std::vector<int> source_weights() && { return std::move(source_weights_); }
  const std::vector<int>& destination_weights() const& noexcept { return destination_weights_; }
  std::vector<int> destination_weights() && { return std::move(destination_weights_); }
  DistGraph dup() const;

 private:
  DistGraph(MPI_Comm comm, Ownership ownership);
  bool weighted_ = false;
  std::vector<int> source_weights_;
  std::vector<int> destination_weights_;
};

}  // namespace manyhands::mpi
