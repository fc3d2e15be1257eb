#pragma once
// Neighborhood: collectives of each rank with its neighbours in a grid or graph; the part that Cart, Graph
// and DistGraph (topology.hpp) share.
//
//   auto around = grid.neighbor_allgather(temperature);   // what each neighbour gave
//   auto in = grid.neighbor_alltoall(out);                 // out[i] to neighbour i, in[i] from neighbour i
//
// All are collective over the communicator: every rank calls them in the same order. Element i goes to
// destinations()[i] or comes from sources()[i]; what would come from proc_null (the edge of a grid that is
// not periodic) is T{}, or is left as it is in memory of the caller's. A value of any type works: plain ones
// go as one call of MPI; of vectors, strings and objects each has its own size, which nobody needs to know
// before.
//
// On a grid with a periodic dimension of 1 or 2 ranks both neighbours are the same rank. What was sent in the
// negative direction then arrives as from the positive one, as MPI 4.0 (8.7) says; both MPI libraries of
// today mix this up in some calls, which is found out at run time and put right here.
// Which of several edges between the same two ranks of a graph is which, is not said.

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/given.hpp"
#include "manyhands/mpi/slots.hpp"

namespace manyhands::mpi {
namespace detail {

enum class NeighborCall { allgather, alltoall };

// One block to or from each neighbour, as MPI_Neighbor_alltoallw takes it; lives as long as the call runs.
struct NeighborBlocks {
  std::vector<int> send_counts, recv_counts;
  std::vector<MPI_Aint> send_at, recv_at;  // absolute
  std::vector<MPI_Datatype> send_types, recv_types;
  std::vector<Datatype> large;  // of counts above 2^31
};

// The elements that each of the blocks has. Throws Error (count) if `count` is no multiple of `blocks`.
MPI_Count block_count(MPI_Count count, std::size_t blocks, const char* verb, MPI_Comm comm);

}  // namespace detail

// A resource, as Comm. Made by Cart, Graph and DistGraph.
class Neighborhood : public Comm {
 public:
  // The ranks that data comes from and goes to, in the order of the collectives below; may hold proc_null,
  // and the same rank more than once.
  const std::vector<int>& sources() const& noexcept { return sources_; }
  std::vector<int> sources() && { return std::move(sources_); }
  const std::vector<int>& destinations() const& noexcept { return destinations_; }
  std::vector<int> destinations() && { return std::move(destinations_); }

  // ---- Blocking.

  // Sends `value` to all destinations; returns what the sources sent.
  template <class T>
  [[gnu::always_inline]] std::vector<T> neighbor_allgather(const T& value) const;
  // The same for flat data of equal size on all ranks: `all` takes size(mine) elements from each source.
  // Throws Error (count) if all is no such multiple.
  template <class In, class Out>
  void neighbor_allgather_into(const In& mine, Out&& all) const;
  // counts[i] elements come from source i, side by side in `all`.
  template <class In, class Out>
  void neighbor_allgatherv_into(const In& mine, Out&& all, std::span<const MPI_Count> counts) const;

  // values[i] goes to destination i; returns what came from the sources. Requires: one value for each
  // destination (Error count).
  template <class R>
  std::vector<std::ranges::range_value_t<R>> neighbor_alltoall(const R& values) const;
  // The same for flat data: equal blocks, side by side.
  template <class In, class Out>
  void neighbor_alltoall_into(const In& out, Out&& in) const;
  // Blocks of these sizes in elements, side by side.
  template <class In, class Out>
  void neighbor_alltoallv_into(const In& out, std::span<const MPI_Count> out_counts, Out&& in,
                               std::span<const MPI_Count> in_counts) const;
  // A buffer for each destination and each source: data that lies anywhere, of any datatypes.
  void neighbor_alltoallw(std::span<const ConstBuffer> out, std::span<const Buffer> in) const;

  // ---- Nonblocking. Values and rvalues are owned by the request; _into borrows its memory.

  template <class T>
  Request<std::vector<T>> ineighbor_allgather(T value) const;
  template <class In, class Out>
  Request<void> ineighbor_allgather_into(const In& mine, Out&& all) const;
  template <class In, class Out>
  Request<void> ineighbor_allgatherv_into(const In& mine, Out&& all, std::span<const MPI_Count> counts) const;
  template <class T>
  Request<std::vector<T>> ineighbor_alltoall(std::vector<T>&& values) const;
  template <class In, class Out>
  Request<void> ineighbor_alltoall_into(const In& out, Out&& in) const;
  template <class In, class Out>
  Request<void> ineighbor_alltoallv_into(const In& out, std::span<const MPI_Count> out_counts, Out&& in,
                                         std::span<const MPI_Count> in_counts) const;
  Request<void> ineighbor_alltoallw(std::span<const ConstBuffer> out, std::span<const Buffer> in) const;

  // ---- Persistent: set up once, started many times; borrow their memory. Emulated before MPI 4.

  template <class In, class Out>
  Persistent neighbor_allgather_init(const In& mine, Out&& all) const;
  template <class In, class Out>
  Persistent neighbor_allgatherv_init(const In& mine, Out&& all, std::span<const MPI_Count> counts) const;
  template <class In, class Out>
  Persistent neighbor_alltoall_init(const In& out, Out&& in) const;
  template <class In, class Out>
  Persistent neighbor_alltoallv_init(const In& out, std::span<const MPI_Count> out_counts, Out&& in,
                                     std::span<const MPI_Count> in_counts) const;
  Persistent neighbor_alltoallw_init(std::span<const ConstBuffer> out, std::span<const Buffer> in) const;

 protected:
  Neighborhood() = default;
  Neighborhood(MPI_Comm comm, Ownership ownership) : Comm(comm, ownership) {}

  std::vector<int> sources_;
  std::vector<int> destinations_;
  bool grid_ = false;     // neighbours 2d and 2d + 1 are the two of dimension d
  bool twisted_ = false;  // a grid with a periodic dimension of 1 or 2 ranks

 private:
  using Blocks = detail::NeighborBlocks;
  void call_same(detail::NeighborCall call, ConstBuffer out, Buffer in, const char* verb) const;
  MPI_Request icall_same(detail::NeighborCall call, ConstBuffer out, Buffer in, std::shared_ptr<Blocks>& keep,
                         const char* verb) const;
  Persistent init_same(detail::NeighborCall call, ConstBuffer out, Buffer in, const char* verb) const;
  void call_each(Blocks& blocks, const char* verb) const;
  MPI_Request icall_each(Blocks& blocks, const char* verb) const;
  Persistent init_each(std::shared_ptr<Blocks> blocks, const char* verb) const;

  std::shared_ptr<Blocks> blocks_of(std::span<const ConstBuffer> out, std::span<const Buffer> in,
                                    const char* verb) const;
  std::shared_ptr<Blocks> equal_blocks(ConstBuffer out, Buffer in, const char* verb) const;
  // `block` elements of T to each, and counts[i] from each.
  std::shared_ptr<Blocks> gather_blocks(ConstBuffer mine, Buffer all, std::span<const MPI_Count> counts,
                                        MPI_Count per_element, const char* verb) const;
  std::shared_ptr<Blocks> ragged_blocks(ConstBuffer out, std::span<const MPI_Count> out_counts, Buffer in,
                                        std::span<const MPI_Count> in_counts, MPI_Count per_element_out,
                                        MPI_Count per_element_in, const char* verb) const;
  Request<void> request_of(MPI_Request native, std::shared_ptr<Blocks> keep, const char* verb) const;
  // Throws Error (count) unless there is one value for each destination.
  void require_values(std::size_t values, const char* verb) const;
  // The tags of messages to destination i and from source i, on the internal communicator.
  int tag_to(std::size_t i) const noexcept { return first_tag + (grid_ ? static_cast<int>(i) : 0); }
  int tag_from(std::size_t i) const noexcept { return first_tag + (grid_ ? static_cast<int>(i ^ 1U) : 0); }
  // Of the internal communicator: 16384 to 16384 + 2 * dimensions belong to neighbourhood collectives.
  static constexpr int first_tag = 16384;
  Comm internal(const char* verb) const;

  template <class T, class Values>
  Request<std::vector<T>> exchange(Values values, const char* verb) const;
};

}  // namespace manyhands::mpi

#include "manyhands/mpi/neighborhood_impl.hpp"
