#include "manyhands/mpi/topology.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace manyhands::mpi {
namespace {

MPI_Comm require_topology(MPI_Comm raw, int wanted, const char* verb) {
  detail::require_active(verb);
  if (raw == MPI_COMM_NULL) detail::fail(Errc::comm, verb, {}, "the handle is MPI_COMM_NULL");
  int inter = 0;
  detail::check(MPI_Comm_test_inter(raw, &inter), verb);
  int topology = MPI_UNDEFINED;
  if (inter == 0) detail::check(MPI_Topo_test(raw, &topology), verb, {.comm = raw});
  if (topology != wanted)
    detail::fail(Errc::topology, verb, {.comm = raw}, "the communicator has no such topology");
  return raw;
}

int size_of(std::size_t n) { return static_cast<int>(n); }

// The periodicity as MPI takes it, one for each dimension.
std::vector<int> periods_of(const CartOptions& options, const char* verb) {
  if (!options.periodic.empty() && options.periodic.size() != options.dims.size())
    detail::fail(Errc::dims, verb, {},
                 fmt::format("{} dimensions, but {} say whether they are periodic", options.dims.size(),
                             options.periodic.size()));
  std::vector<int> periods(options.dims.size(), 0);
  std::ranges::copy(options.periodic, periods.begin());
  return periods;
}

// The grid's shape with zeros replaced; throws unless it fits `size` ranks.
std::vector<int> shape_of(const CartOptions& options, int size, const char* verb, MPI_Comm comm) {
  if (std::ranges::find(options.dims, 0) != options.dims.end()) return dims_create(size, options.dims);
  long long places = 1;
  for (const int n : options.dims) {
    if (n < 0) detail::fail(Errc::dims, verb, {.comm = comm}, fmt::format("a dimension of {} ranks", n));
    places = std::min(places * n, 1LL << 40);
  }
  if (places > size)
    detail::fail(Errc::dims, verb, {.comm = comm},
                 fmt::format("a grid of {} has {} places, but there are {} ranks",
                             fmt::join(options.dims, " x "), places, size));
  return options.dims;
}

struct Flattened {
  std::vector<int> index;  // the end of each rank's part of `edges`
  std::vector<int> edges;
};

Flattened flatten(const std::vector<std::vector<int>>& neighbours, int size, const char* verb,
                  MPI_Comm comm) {
  if (size_of(neighbours.size()) > size)
    detail::fail(Errc::topology, verb, {.comm = comm},
                 fmt::format("a graph of {} nodes, but there are {} ranks", neighbours.size(), size));
  Flattened flat;
  for (std::size_t rank = 0; rank < neighbours.size(); ++rank) {
    for (const int other : neighbours[rank]) {
      if (other < 0 || other >= size_of(neighbours.size()))
        detail::fail(Errc::topology, verb, {.comm = comm},
                     fmt::format("rank {} has the neighbour {}, which is no node of the graph", rank, other));
      flat.edges.push_back(other);
    }
    flat.index.push_back(size_of(flat.edges.size()));
  }
  if (flat.edges.empty()) flat.edges.reserve(1);  // some MPIs take no null pointer for no edges
  return flat;
}

}  // namespace

std::vector<int> dims_create(int ranks, std::vector<int> dims) {
  detail::require_active("dims_create");
  long long fixed = 1;
  for (const int n : dims) {
    if (n < 0) detail::fail(Errc::dims, "dims_create", {}, fmt::format("a dimension of {} ranks", n));
    if (n > 0) fixed *= n;
  }
  if (ranks < 1 || ranks % fixed != 0 || (std::ranges::find(dims, 0) == dims.end() && fixed != ranks))
    detail::fail(Errc::dims, "dims_create", {},
                 fmt::format("{} ranks cannot be spread over a grid of {}", ranks, fmt::join(dims, " x ")));
  detail::check(MPI_Dims_create(ranks, size_of(dims.size()), dims.data()), "dims_create");
  return dims;
}

Topology topology_of(const Communicator& comm) {
  detail::require_active("topology_of");
  if (!comm) detail::fail(Errc::comm, "topology_of", {}, "the communicator is empty");
  if (comm.is_inter()) return Topology::none;
  int kind = MPI_UNDEFINED;
  detail::check(MPI_Topo_test(comm.native(), &kind), "topology_of", {.comm = comm.native()});
  return static_cast<Topology>(kind);
}

// ---- Cart

namespace {

MPI_Comm make_cart(const Comm& comm, const CartOptions& options) {
  detail::require_active("Cart");
  if (!comm) detail::fail(Errc::comm, "Cart", {}, "the communicator is empty");
  const std::vector<int> periods = periods_of(options, "Cart");
  const std::vector<int> dims = shape_of(options, comm.size(), "Cart", comm.native());
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Cart_create(comm.native(), size_of(dims.size()), dims.data(), periods.data(),
                                options.reorder ? 1 : 0, &made),
                "Cart", {.comm = comm.native()});
  return made;
}

}  // namespace

Cart::Cart(MPI_Comm comm, Ownership ownership) : Neighborhood(comm, ownership) {
  if (comm == MPI_COMM_NULL) return;
  grid_ = true;
  int n = 0;
  detail::check(MPI_Cartdim_get(comm, &n), "Cart", {.comm = comm});
  dims_.resize(static_cast<std::size_t>(n));
  std::vector<int> periods(dims_.size());
  std::vector<int> here(dims_.size());
  if (n > 0)
    detail::check(MPI_Cart_get(comm, n, dims_.data(), periods.data(), here.data()), "Cart", {.comm = comm});
  periodic_.assign(periods.begin(), periods.end());
  for (int dim = 0; dim < n; ++dim) {
    const Shift both = shift(dim);
    sources_.insert(sources_.end(), {both.source, both.dest});
    const auto d = static_cast<std::size_t>(dim);
    twisted_ = twisted_ || (periodic_[d] && dims_[d] <= 2);
  }
  destinations_ = sources_;
}

Cart::Cart(const Comm& comm, const CartOptions& options) : Cart(make_cart(comm, options), Ownership::owned) {}

Cart Cart::adopt(MPI_Comm raw) { return {require_topology(raw, MPI_CART, "Cart::adopt"), Ownership::owned}; }
Cart Cart::view(MPI_Comm raw) { return {require_topology(raw, MPI_CART, "Cart::view"), Ownership::viewed}; }

std::vector<int> Cart::coords(int rank) const {
  const detail::CommState& here = state("coords");
  if (rank < 0 || rank >= here.size)
    detail::fail(Errc::rank, "coords", {.comm = here.comm}, fmt::format("there is no rank {}", rank));
  std::vector<int> at(dims_.size());
  if (at.empty()) return at;
  detail::check(MPI_Cart_coords(here.comm, rank, size_of(at.size()), at.data()), "coords",
                {.comm = here.comm});
  return at;
}

int Cart::rank_of(std::span<const int> coords) const {
  const detail::CommState& here = state("rank_of");
  if (coords.size() != dims_.size())
    detail::fail(Errc::dims, "rank_of", {.comm = here.comm},
                 fmt::format("{} coordinates in a grid of {} dimensions", coords.size(), dims_.size()));
  for (std::size_t d = 0; d < coords.size(); ++d) {
    if (!periodic_[d] && (coords[d] < 0 || coords[d] >= dims_[d]))
      detail::fail(Errc::arg, "rank_of", {.comm = here.comm},
                   fmt::format("({}) lies outside the grid of {}, which is not periodic in dimension {}",
                               fmt::join(coords, ", "), fmt::join(dims_, " x "), d));
  }
  if (coords.empty()) return 0;
  int found = 0;
  detail::check(MPI_Cart_rank(here.comm, coords.data(), &found), "rank_of", {.comm = here.comm});
  return found;
}

Cart::Shift Cart::shift(int dim, int displacement) const {
  const detail::CommState& here = state("shift");
  if (dim < 0 || dim >= size_of(dims_.size()))
    detail::fail(Errc::dims, "shift", {.comm = here.comm},
                 fmt::format("dimension {} of a grid of {} dimensions", dim, dims_.size()));
  Shift both{};
  if (displacement == 0) return {here.rank, here.rank};  // some MPIs refuse it
  detail::check(MPI_Cart_shift(here.comm, dim, displacement, &both.source, &both.dest), "shift",
                {.comm = here.comm});
  return both;
}

Cart Cart::sub(const std::vector<bool>& keep) const {
  const detail::CommState& here = state("sub");
  if (keep.size() != dims_.size())
    detail::fail(Errc::dims, "sub", {.comm = here.comm},
                 fmt::format("{} flags for a grid of {} dimensions", keep.size(), dims_.size()));
  const std::vector<int> flags(keep.begin(), keep.end());
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Cart_sub(here.comm, flags.data(), &made), "sub", {.comm = here.comm});
  return {made, Ownership::owned};
}

Cart Cart::dup() const {
  const detail::CommState& here = state("dup");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Comm_dup(here.comm, &made), "dup", {.comm = here.comm});
  return {made, Ownership::owned};
}

int Cart::map(const Comm& comm, const CartOptions& options) {
  detail::require_active("Cart::map");
  if (!comm) detail::fail(Errc::comm, "Cart::map", {}, "the communicator is empty");
  const std::vector<int> periods = periods_of(options, "Cart::map");
  const std::vector<int> dims = shape_of(options, comm.size(), "Cart::map", comm.native());
  int rank = MPI_UNDEFINED;
  detail::check(MPI_Cart_map(comm.native(), size_of(dims.size()), dims.data(), periods.data(), &rank),
                "Cart::map", {.comm = comm.native()});
  return rank;
}

// ---- Graph

namespace {

MPI_Comm make_graph(const Comm& comm, const std::vector<std::vector<int>>& neighbours,
                    const GraphOptions& options) {
  detail::require_active("Graph");
  if (!comm) detail::fail(Errc::comm, "Graph", {}, "the communicator is empty");
  const Flattened flat = flatten(neighbours, comm.size(), "Graph", comm.native());
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Graph_create(comm.native(), size_of(flat.index.size()), flat.index.data(),
                                 flat.edges.data(), options.reorder ? 1 : 0, &made),
                "Graph", {.comm = comm.native()});
  return made;
}

}  // namespace

Graph::Graph(MPI_Comm comm, Ownership ownership) : Neighborhood(comm, ownership) {
  if (comm == MPI_COMM_NULL) return;
  destinations_ = neighbours(rank());
  sources_ = destinations_;
}

Graph::Graph(const Comm& comm, const std::vector<std::vector<int>>& neighbours, const GraphOptions& options)
    : Graph(make_graph(comm, neighbours, options), Ownership::owned) {}

Graph Graph::adopt(MPI_Comm raw) {
  return {require_topology(raw, MPI_GRAPH, "Graph::adopt"), Ownership::owned};
}
Graph Graph::view(MPI_Comm raw) {
  return {require_topology(raw, MPI_GRAPH, "Graph::view"), Ownership::viewed};
}

std::vector<int> Graph::neighbours(int rank) const {
  const detail::CommState& here = state("neighbours");
  if (rank < 0 || rank >= here.size)
    detail::fail(Errc::rank, "neighbours", {.comm = here.comm}, fmt::format("there is no rank {}", rank));
  int n = 0;
  detail::check(MPI_Graph_neighbors_count(here.comm, rank, &n), "neighbours", {.comm = here.comm});
  std::vector<int> all(static_cast<std::size_t>(n));
  detail::check(MPI_Graph_neighbors(here.comm, rank, n, all.data()), "neighbours", {.comm = here.comm});
  return all;
}

std::vector<std::vector<int>> Graph::edges() const {
  const int ranks = state("edges").size;
  std::vector<std::vector<int>> all;
  all.reserve(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) all.push_back(neighbours(rank));
  return all;
}

Graph Graph::dup() const {
  const detail::CommState& here = state("dup");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Comm_dup(here.comm, &made), "dup", {.comm = here.comm});
  return {made, Ownership::owned};
}

int Graph::map(const Comm& comm, const std::vector<std::vector<int>>& neighbours) {
  detail::require_active("Graph::map");
  const Flattened flat = flatten(neighbours, comm.size(), "Graph::map", comm.native());
  int rank = MPI_UNDEFINED;
  detail::check(
      MPI_Graph_map(comm.native(), size_of(flat.index.size()), flat.index.data(), flat.edges.data(), &rank),
      "Graph::map", {.comm = comm.native()});
  return rank;
}

// ---- DistGraph

namespace {

void require_ranks(std::span<const int> ranks, const Comm& comm) {
  for (const int rank : ranks) {
    if (rank < 0 || rank >= comm.size())
      detail::fail(Errc::rank, "DistGraph", {.comm = comm.native()},
                   fmt::format("the neighbour {} is no rank of it", rank));
  }
}

void require_weights(std::size_t weights, std::size_t edges, const Comm& comm) {
  if (weights != 0 && weights != edges)
    detail::fail(Errc::arg, "DistGraph", {.comm = comm.native()},
                 fmt::format("{} weights for {} edges", weights, edges));
}

// MPI_WEIGHTS_EMPTY says that there are weights, of no edges; MPI_UNWEIGHTED that there are none.
const int* weights_of(const std::vector<int>& weights, bool weighted) {
  if (!weighted) return MPI_UNWEIGHTED;
  return weights.empty() ? MPI_WEIGHTS_EMPTY : weights.data();
}

MPI_Comm make_adjacent(const Comm& comm, const Adjacency& a) {
  detail::require_active("DistGraph");
  if (!comm) detail::fail(Errc::comm, "DistGraph", {}, "the communicator is empty");
  require_ranks(a.sources, comm);
  require_ranks(a.destinations, comm);
  require_weights(a.source_weights.size(), a.sources.size(), comm);
  require_weights(a.destination_weights.size(), a.destinations.size(), comm);
  if ((a.source_weights.empty() && !a.sources.empty() && !a.destination_weights.empty()) ||
      (a.destination_weights.empty() && !a.destinations.empty() && !a.source_weights.empty()))
    detail::fail(Errc::arg, "DistGraph", {.comm = comm.native()}, "weights of one direction only");
  // A rank without edges cannot know by itself whether the others give weights.
  int weighted = a.source_weights.empty() && a.destination_weights.empty() ? 0 : 1;
  detail::check(MPI_Allreduce(MPI_IN_PLACE, &weighted, 1, MPI_INT, MPI_MAX, comm.native()), "DistGraph",
                {.comm = comm.native()});
  if (weighted != 0 && a.source_weights.size() != a.sources.size())
    detail::fail(Errc::arg, "DistGraph", {.comm = comm.native()},
                 "other ranks give weights, this one does not");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Dist_graph_create_adjacent(comm.native(), size_of(a.sources.size()), a.sources.data(),
                                               weights_of(a.source_weights, weighted != 0),
                                               size_of(a.destinations.size()), a.destinations.data(),
                                               weights_of(a.destination_weights, weighted != 0),
                                               a.info.native(), a.reorder ? 1 : 0, &made),
                "DistGraph", {.comm = comm.native()});
  return made;
}

MPI_Comm make_general(const Comm& comm, std::span<const Edges> edges, const GraphOptions& options) {
  detail::require_active("DistGraph");
  if (!comm) detail::fail(Errc::comm, "DistGraph", {}, "the communicator is empty");
  std::vector<int> sources;
  std::vector<int> degrees;
  std::vector<int> destinations;
  std::vector<int> weights;
  for (const Edges& some : edges) {
    require_ranks(std::span(&some.source, 1), comm);
    require_ranks(some.destinations, comm);
    require_weights(some.weights.size(), some.destinations.size(), comm);
    sources.push_back(some.source);
    degrees.push_back(size_of(some.destinations.size()));
    destinations.insert(destinations.end(), some.destinations.begin(), some.destinations.end());
    weights.insert(weights.end(), some.weights.begin(), some.weights.end());
  }
  int weighted = weights.empty() ? 0 : 1;
  detail::check(MPI_Allreduce(MPI_IN_PLACE, &weighted, 1, MPI_INT, MPI_MAX, comm.native()), "DistGraph",
                {.comm = comm.native()});
  if (weighted != 0 && weights.size() != destinations.size())
    detail::fail(Errc::arg, "DistGraph", {.comm = comm.native()},
                 "some edges have weights, others have none");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Dist_graph_create(comm.native(), size_of(sources.size()), sources.data(), degrees.data(),
                                      destinations.data(), weights_of(weights, weighted != 0), MPI_INFO_NULL,
                                      options.reorder ? 1 : 0, &made),
                "DistGraph", {.comm = comm.native()});
  return made;
}

}  // namespace

DistGraph::DistGraph(MPI_Comm comm, Ownership ownership) : Neighborhood(comm, ownership) {
  if (comm == MPI_COMM_NULL) return;
  int in = 0;
  int out = 0;
  int weighted = 0;
  detail::check(MPI_Dist_graph_neighbors_count(comm, &in, &out, &weighted), "DistGraph", {.comm = comm});
  weighted_ = weighted != 0;
  sources_.resize(static_cast<std::size_t>(in));
  destinations_.resize(static_cast<std::size_t>(out));
  source_weights_.resize(sources_.size());
  destination_weights_.resize(destinations_.size());
  detail::check(MPI_Dist_graph_neighbors(
                    comm, in, sources_.data(), weighted_ ? source_weights_.data() : MPI_UNWEIGHTED, out,
                    destinations_.data(), weighted_ ? destination_weights_.data() : MPI_UNWEIGHTED),
                "DistGraph", {.comm = comm});
  if (!weighted_) {
    source_weights_.clear();
    destination_weights_.clear();
  }
}

DistGraph::DistGraph(const Comm& comm, const Adjacency& adjacency)
    : DistGraph(make_adjacent(comm, adjacency), Ownership::owned) {}
DistGraph::DistGraph(const Comm& comm, std::span<const Edges> edges, const GraphOptions& options)
    : DistGraph(make_general(comm, edges, options), Ownership::owned) {}

DistGraph DistGraph::adopt(MPI_Comm raw) {
  return {require_topology(raw, MPI_DIST_GRAPH, "DistGraph::adopt"), Ownership::owned};
}
DistGraph DistGraph::view(MPI_Comm raw) {
  return {require_topology(raw, MPI_DIST_GRAPH, "DistGraph::view"), Ownership::viewed};
}

DistGraph DistGraph::dup() const {
  const detail::CommState& here = state("dup");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Comm_dup(here.comm, &made), "dup", {.comm = here.comm});
  return {made, Ownership::owned};
}

}  // namespace manyhands::mpi
