#pragma once
// Collectives: what all ranks of a communicator do together, blocking; the second half of Comm.
//
//   auto config = world.bcast(world.rank() == 0 ? load() : Config{});
//   int mine = world.scatter(one_per_rank);
//   std::vector<int> all = world.gather(mine);
//   auto part = world.scatter_range(numbers);                   // cut into near-equal parts
//   double sum = world.allreduce(x, std::plus<>());
//   auto sums = world.allreduce(histogram, std::plus<>());      // element by element
//   mpi::Ragged<Edge> in = world.alltoall(edges);                // one part of any length for each rank
//
// Two forms of each. By value: sizes are exchanged where they differ, any packable type works, the result is
// returned.
// `_into`: memory of the caller's, equal counts unless counts are given, exactly one call of MPI, no
// allocation; takes and fills whatever is Direct (datatype.hpp), and mpi::in_place for a send buffer that is
// the receive buffer.
//
// Nonblocking ones by value, of anything but plain values, go on while this rank waits for messages and
// requests, or calls progress(). On Open MPI the first one on a communicator other than world() waits until
// all ranks have started it.
//
// All ranks call the same collectives in the same order with the same root and, for `_into`, matching sizes;
// otherwise MPI may report truncation, hang, or give wrong data. With MANYHANDS_CHECK=comm in the environment
// all blocking collectives compare operation and root first, and those `_into` memory also the size if it is
// the same on all ranks; all ranks throw Error if they differ. Errors: Error with class root, count, type ...

#include <numeric>
#include <vector>

#include "manyhands/mpi/alltoall_ops.hpp"
#include "manyhands/mpi/bcast_ops.hpp"
#include "manyhands/mpi/collective_calls.hpp"
#include "manyhands/mpi/gather_ops.hpp"
#include "manyhands/mpi/given.hpp"
#include "manyhands/mpi/op.hpp"
#include "manyhands/mpi/point_to_point.hpp"
#include "manyhands/mpi/ragged.hpp"
#include "manyhands/mpi/reduction_ops.hpp"
#include "manyhands/mpi/scatter_ops.hpp"

namespace manyhands::mpi {

// The counts of all ranks' parts, in elements, and where the parts begin (default: one behind the other).
struct Counts {
  std::span<const MPI_Count> counts;
  std::span<const MPI_Count> offsets = {};
  // For more than 2^31 elements in one rank's buffer; the same on all ranks, also on those whose counts are
  // not read.
  bool large = false;
  detail::Width width() const noexcept { return large ? detail::Width::wide : detail::Width::narrow; }
};

class Collectives : public PointToPoint {
 public:
  // Blocks until all ranks have called it.
  void barrier() const;
  Request<void> ibarrier() const;
  Persistent barrier_init() const;

  // ---- One to all.

  // The root's value, on every rank; a vector takes the root's size.
  template <class T>
  T bcast(T value, Root root = {}) const {
    return run<detail::BcastOf<T>>("bcast", root, std::move(value));
  }
  template <class T>
  Request<T> ibcast(T value, Root root = {}) const {
    return start<detail::BcastOf<T>, T>("ibcast", root, std::move(value));
  }
  // The root's `data` into that of the others, which has the same size.
  template <class T>
  void bcast_into(T&& data, Root root = {}) const {
    blocking("bcast", root.root, bytes_of(data), bcast_call(data, root));
  }
  template <class T>
  Request<void> ibcast_into(T&& data, Root root = {}) const {
    return detail::launch_request("ibcast", bcast_call(data, root));
  }
  template <class T>
  Persistent bcast_init(T&& data, Root root = {}) const {
    return detail::launch_persistent("bcast_init", bcast_call(data, root));
  }

  // Item i of the root's `items` to rank i, which returns it: items of plain values, of vectors (also
  // Ragged), or of objects. Read on the root only, where there must be one for each rank.
  template <class Items>
  auto scatter(const Items& items, Root root = {}) const {
    using Op = detail::ScatterOf<Items>;
    return run<Op>("scatter", root, items);
  }
  template <class Items>
  auto iscatter(const Items& items, Root root = {}) const {
    using Op = detail::ScatterOf<Items>;
    return start<Op, typename Op::Result>("iscatter", root, items);
  }
  // The root's range cut into size() parts whose lengths differ by one at most; the first ones are the
  // longer.
  template <Flat Range>
  auto scatter_range(const Range& range, Root root = {}) const {
    return run<detail::ScatterRange<std::ranges::range_value_t<Range>>>("scatter_range", root, range);
  }
  // Equal parts of the root's `send` into each rank's `recv`; the root may pass mpi::in_place as `recv`.
  template <class S, class R>
  void scatter_into(const S& send, R&& recv, Root root = {}) const {
    blocking("scatter", root.root, -1, scatter_call(send, recv, root));
  }
  template <class S, class R>
  Request<void> iscatter_into(const S& send, R&& recv, Root root = {}) const {
    return detail::launch_request("iscatter", scatter_call(send, recv, root));
  }
  template <class S, class R>
  Persistent scatter_init(const S& send, R&& recv, Root root = {}) const {
    return detail::launch_persistent("scatter_init", scatter_call(send, recv, root));
  }
  // Parts of given counts; `parts` is read on the root.
  template <class S, class R>
  void scatterv_into(const S& send, const Counts& parts, R&& recv, Root root = {}) const {
    blocking("scatterv", root.root, -1, scatterv_call(send, parts, recv, root));
  }
  template <class S, class R>
  Request<void> iscatterv_into(const S& send, const Counts& parts, R&& recv, Root root = {}) const {
    return detail::launch_request("iscatterv", scatterv_call(send, parts, recv, root));
  }
  template <class S, class R>
  Persistent scatterv_init(const S& send, const Counts& parts, R&& recv, Root root = {}) const {
    return detail::launch_persistent("scatterv_init", scatterv_call(send, parts, recv, root));
  }

  // ---- All to one.

  // Every rank's `value`, on the root: a vector of plain values or objects, a Ragged of vectors. Elsewhere it
  // is empty.
  template <class T>
  [[gnu::always_inline]] auto gather(const T& value, Root root = {}) const {
    return run<detail::GatherOf<T>>("gather", root, detail::given(value));
  }
  template <class T>
  [[gnu::always_inline]] auto igather(const T& value, Root root = {}) const {
    using Op = detail::StartedGatherOf<T>;
    return start<Op, typename Op::Result>("igather", root, detail::given(value));
  }
  // Equal parts into the root's `recv`, which has size() times as many elements; read on the root only.
  template <class S, class R>
  void gather_into(const S& send, R&& recv, Root root = {}) const {
    blocking("gather", root.root, -1, gather_call(send, recv, root));
  }
  template <class S, class R>
  Request<void> igather_into(const S& send, R&& recv, Root root = {}) const {
    return detail::launch_request("igather", gather_call(send, recv, root));
  }
  template <class S, class R>
  Persistent gather_init(const S& send, R&& recv, Root root = {}) const {
    return detail::launch_persistent("gather_init", gather_call(send, recv, root));
  }
  template <class S, class R>
  void gatherv_into(const S& send, R&& recv, const Counts& parts, Root root = {}) const {
    blocking("gatherv", root.root, -1, gatherv_call(send, recv, parts, root));
  }
  template <class S, class R>
  Request<void> igatherv_into(const S& send, R&& recv, const Counts& parts, Root root = {}) const {
    return detail::launch_request("igatherv", gatherv_call(send, recv, parts, root));
  }
  template <class S, class R>
  Persistent gatherv_init(const S& send, R&& recv, const Counts& parts, Root root = {}) const {
    return detail::launch_persistent("gatherv_init", gatherv_call(send, recv, parts, root));
  }

  // ---- All to all.

  // As gather, on every rank.
  template <class T>
  [[gnu::always_inline]] auto allgather(const T& value) const {
    return run<detail::AllgatherOf<T>>("allgather", detail::given(value));
  }
  template <class T>
  [[gnu::always_inline]] auto iallgather(const T& value) const {
    using Op = detail::StartedAllgatherOf<T>;
    return start<Op, typename Op::Result>("iallgather", detail::given(value));
  }
  template <class S, class R>
  void allgather_into(const S& send, R&& recv) const {
    blocking("allgather", -1, bytes_of(recv), allgather_call(send, recv));
  }
  template <class S, class R>
  Request<void> iallgather_into(const S& send, R&& recv) const {
    return detail::launch_request("iallgather", allgather_call(send, recv));
  }
  template <class S, class R>
  Persistent allgather_init(const S& send, R&& recv) const {
    return detail::launch_persistent("allgather_init", allgather_call(send, recv));
  }
  template <class S, class R>
  void allgatherv_into(const S& send, R&& recv, const Counts& parts) const {
    blocking("allgatherv", -1, -1, allgatherv_call(send, recv, parts));
  }
  template <class S, class R>
  Request<void> iallgatherv_into(const S& send, R&& recv, const Counts& parts) const {
    return detail::launch_request("iallgatherv", allgatherv_call(send, recv, parts));
  }
  template <class S, class R>
  Persistent allgatherv_init(const S& send, R&& recv, const Counts& parts) const {
    return detail::launch_persistent("allgatherv_init", allgatherv_call(send, recv, parts));
  }

  // Item i to rank i, and what all ranks sent here: std::vector<T> of size() plain values or objects,
  // std::vector<std::vector<T>> or Ragged<T> of parts of any length. The same type comes back.
  template <class Items>
  Items alltoall(const Items& items) const {
    return run<detail::AlltoallOf<Items>>("alltoall", items);
  }
  template <class Items>
  Request<Items> ialltoall(const Items& items) const {
    return start<detail::StartedAlltoallOf<Items>, Items>("ialltoall", items);
  }
  // Equal parts; both have size() of them.
  template <class S, class R>
  void alltoall_into(const S& send, R&& recv) const {
    blocking("alltoall", -1, bytes_of(recv), alltoall_call(send, recv));
  }
  template <class S, class R>
  Request<void> ialltoall_into(const S& send, R&& recv) const {
    return detail::launch_request("ialltoall", alltoall_call(send, recv));
  }
  template <class S, class R>
  Persistent alltoall_init(const S& send, R&& recv) const {
    return detail::launch_persistent("alltoall_init", alltoall_call(send, recv));
  }
  template <class S, class R>
  void alltoallv_into(const S& send, const Counts& send_parts, R&& recv, const Counts& recv_parts) const {
    blocking("alltoallv", -1, -1, alltoallv_call(send, send_parts, recv, recv_parts));
  }
  template <class S, class R>
  Request<void> ialltoallv_into(const S& send, const Counts& send_parts, R&& recv,
                                const Counts& recv_parts) const {
    return detail::launch_request("ialltoallv", alltoallv_call(send, send_parts, recv, recv_parts));
  }
  template <class S, class R>
  Persistent alltoallv_init(const S& send, const Counts& send_parts, R&& recv,
                            const Counts& recv_parts) const {
    return detail::launch_persistent("alltoallv_init", alltoallv_call(send, send_parts, recv, recv_parts));
  }
  // A buffer for each rank, of any datatype, anywhere.
  void alltoallw(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const;
  Request<void> ialltoallw(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const;
  Persistent alltoallw_init(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const;

  // ---- Reductions (op.hpp): of a plain value, element by element of a range, or of objects.
  //
  // Objects (and texts, as a whole) are combined in the order of the ranks: in the blocking forms up a tree,
  // two values in memory at a time; in the others after all were gathered where the result is wanted. An
  // operation on objects that throws does so on the rank that called it; the ranks that wait for its result
  // throw Error (op), which names that rank.

  // value_0 op value_1 op ... on the root; a value-initialised T elsewhere.
  template <class T, class F>
  [[gnu::always_inline]] T reduce(const T& value, const F& op, Root root = {}) const {
    return run<detail::ReductionOf<T, F>>("reduce", detail::Kind::reduce, root, detail::given(value), op);
  }
  template <class T, class F>
  [[gnu::always_inline]] Request<T> ireduce(const T& value, const F& op, Root root = {}) const {
    return start<detail::StartedReductionOf<T, F>, T>("ireduce", detail::Kind::reduce, root,
                                                      detail::given(value), op);
  }
  template <class S, class R, class F>
  void reduce_into(const S& send, R&& recv, const F& op, Root root = {}) const {
    reduce_blocking("reduce", root.root, send, recv, op, detail::ReduceHere{root.root});
  }
  template <class S, class R, class F>
  Request<void> ireduce_into(const S& send, R&& recv, const F& op, Root root = {}) const {
    return reduce_request("ireduce", send, recv, op, detail::ReduceHere{root.root});
  }
  template <class S, class R, class F>
  Persistent reduce_init(const S& send, R&& recv, const F& op, Root root = {}) const {
    return reduce_persistent("reduce_init", send, recv, op, detail::ReduceHere{root.root});
  }

  // The same on every rank.
  template <class T, class F>
  [[gnu::always_inline]] T allreduce(const T& value, const F& op) const {
    return run<detail::ReductionOf<T, F>>("allreduce", detail::Kind::allreduce, Root{}, detail::given(value),
                                          op);
  }
  template <class T, class F>
  [[gnu::always_inline]] Request<T> iallreduce(const T& value, const F& op) const {
    return start<detail::StartedReductionOf<T, F>, T>("iallreduce", detail::Kind::allreduce, Root{},
                                                      detail::given(value), op);
  }
  template <class S, class R, class F>
  void allreduce_into(const S& send, R&& recv, const F& op) const {
    reduce_blocking("allreduce", -1, send, recv, op, &detail::allreduce);
  }
  template <class S, class R, class F>
  Request<void> iallreduce_into(const S& send, R&& recv, const F& op) const {
    return reduce_request("iallreduce", send, recv, op, &detail::allreduce);
  }
  template <class S, class R, class F>
  Persistent allreduce_init(const S& send, R&& recv, const F& op) const {
    return reduce_persistent("allreduce_init", send, recv, op, &detail::allreduce);
  }

  // Rank i gets the reduction of the values of ranks 0 ... i; exscan: of 0 ... i - 1, and a value-initialised
  // T on rank 0.
  template <class T, class F>
  [[gnu::always_inline]] T scan(const T& value, const F& op) const {
    return run<detail::ReductionOf<T, F>>("scan", detail::Kind::scan, Root{}, detail::given(value), op);
  }
  template <class T, class F>
  [[gnu::always_inline]] Request<T> iscan(const T& value, const F& op) const {
    return start<detail::StartedReductionOf<T, F>, T>("iscan", detail::Kind::scan, Root{},
                                                      detail::given(value), op);
  }
  template <class S, class R, class F>
  void scan_into(const S& send, R&& recv, const F& op) const {
    reduce_blocking("scan", -1, send, recv, op, &detail::scan);
  }
  template <class S, class R, class F>
  Request<void> iscan_into(const S& send, R&& recv, const F& op) const {
    return reduce_request("iscan", send, recv, op, &detail::scan);
  }
  template <class S, class R, class F>
  Persistent scan_init(const S& send, R&& recv, const F& op) const {
    return reduce_persistent("scan_init", send, recv, op, &detail::scan);
  }
  template <class T, class F>
  [[gnu::always_inline]] T exscan(const T& value, const F& op) const {
    return run<detail::ReductionOf<T, F>>("exscan", detail::Kind::exscan, Root{}, detail::given(value), op);
  }
  template <class T, class F>
  [[gnu::always_inline]] Request<T> iexscan(const T& value, const F& op) const {
    return start<detail::StartedReductionOf<T, F>, T>("iexscan", detail::Kind::exscan, Root{},
                                                      detail::given(value), op);
  }
  // `recv` of rank 0 is left as it is.
  template <class S, class R, class F>
  void exscan_into(const S& send, R&& recv, const F& op) const {
    reduce_blocking("exscan", -1, send, recv, op, &detail::exscan);
  }
  template <class S, class R, class F>
  Request<void> iexscan_into(const S& send, R&& recv, const F& op) const {
    return reduce_request("iexscan", send, recv, op, &detail::exscan);
  }
  template <class S, class R, class F>
  Persistent exscan_init(const S& send, R&& recv, const F& op) const {
    return reduce_persistent("exscan_init", send, recv, op, &detail::exscan);
  }

  // The element-wise reduction of all ranks' ranges, cut into size() parts, of which rank i gets the i-th.
  // Without counts the parts are near-equal, as those of scatter_range.
  template <Flat Range, class F>
  auto reduce_scatter(const Range& range, const F& op) const {
    const std::vector<MPI_Count> counts =
        detail::near_equal(static_cast<MPI_Count>(std::ranges::size(range)), size());
    return reduce_scatter(range, std::span<const MPI_Count>(counts), op);
  }
  template <Flat Range, class F>
  auto reduce_scatter(const Range& range, std::span<const MPI_Count> counts, const F& op) const {
    using T = std::ranges::range_value_t<Range>;
    detail::require_counts(state("reduce_scatter"), "reduce_scatter", counts,
                           static_cast<MPI_Count>(std::ranges::size(range)));
    std::vector<T> mine(static_cast<std::size_t>(counts[static_cast<std::size_t>(rank())]));
    reduce_scatter_into(range, mine, counts, op);
    return mine;
  }
  template <Flat Range, class F>
  auto ireduce_scatter(const Range& range, const F& op) const {
    return ireduce_scatter(range,
                           detail::near_equal(static_cast<MPI_Count>(std::ranges::size(range)), size()), op);
  }
  template <Flat Range, class F>
  auto ireduce_scatter(const Range& range, std::span<const MPI_Count> counts, const F& op) const {
    using T = std::ranges::range_value_t<Range>;
    return start<detail::ReduceScatterParts<T, F>, std::vector<T>>(
        "ireduce_scatter", std::vector<T>(std::ranges::begin(range), std::ranges::end(range)),
        std::vector<MPI_Count>(counts.begin(), counts.end()), op);
  }
  template <class S, class R, class F>
  void reduce_scatter_into(const S& send, R&& recv, const F& op) const {
    reduce_blocking("reduce_scatter", -1, send, recv, op, &detail::reduce_scatter_block);
  }
  template <class S, class R, class F>
  Request<void> ireduce_scatter_into(const S& send, R&& recv, const F& op) const {
    return reduce_request("ireduce_scatter", send, recv, op, &detail::reduce_scatter_block);
  }
  template <class S, class R, class F>
  Persistent reduce_scatter_init(const S& send, R&& recv, const F& op) const {
    return reduce_persistent("reduce_scatter_init", send, recv, op, &detail::reduce_scatter_block);
  }
  template <class S, class R, class F>
  void reduce_scatter_into(const S& send, R&& recv, std::span<const MPI_Count> counts, const F& op) const {
    reduce_blocking("reduce_scatter", -1, send, recv, op, detail::ReduceScatterBy{counts});
  }
  template <class S, class R, class F>
  Request<void> ireduce_scatter_into(const S& send, R&& recv, std::span<const MPI_Count> counts,
                                     const F& op) const {
    return reduce_request("ireduce_scatter", send, recv, op, detail::ReduceScatterBy{counts});
  }
  template <class S, class R, class F>
  Persistent reduce_scatter_init(const S& send, R&& recv, std::span<const MPI_Count> counts,
                                 const F& op) const {
    return reduce_persistent("reduce_scatter_init", send, recv, op,
                             detail::ReduceScatterBy{std::vector<MPI_Count>(counts.begin(), counts.end())});
  }

 protected:
  using PointToPoint::PointToPoint;

 private:
  // ---- By value: an operation of steps, run through or started. Out of line: see given.hpp.
  template <class... Args>
  static int root_among(const Args&... args) {
    int root = -1;
    const auto look_at = [&](const auto& argument) {
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(argument)>, Root>) root = argument.root;
    };
    (look_at(args), ...);
    return root;
  }
  template <class Op, class... Args>
  [[gnu::noinline]] auto run(const char* verb, Args&&... args) const {
    detail::CommState& here = state(verb);
    detail::verify(here, verb, root_among(args...), -1);
    Op operation(here, std::forward<Args>(args)...);
    return operation.run();
  }
  template <class Op, class T, class... Args>
  [[gnu::noinline]] Request<T> start(const char* verb, Args&&... args) const {
    auto operation = std::make_unique<Op>(state(verb), std::forward<Args>(args)...);
    if constexpr (!Op::one_step) operation->stand_in_line();
    detail::RequestCore core(MPI_REQUEST_NULL, std::move(operation), verb, detail::Dropped::wait);
    core.test();  // starts its first step
    return Request<T>(std::move(core));
  }

  // ---- Into memory: one call.
  template <class T>
  static MPI_Count bytes_of(const T& data) {
    if constexpr (Flat<T>) {
      return static_cast<MPI_Count>(std::ranges::size(data) * sizeof(std::ranges::range_value_t<T>));
    } else {
      return -1;
    }
  }
  template <class Call>
  void blocking(const char* verb, int root, MPI_Count bytes, const Call& call) const {
    detail::verify(state(verb), verb, root, bytes);
    detail::launch_blocking(call);
  }
  template <class T>
  static ConstBuffer send_buffer(const T& data) {
    if constexpr (std::is_same_v<T, InPlace>) {
      return detail::in_place_buffer();
    } else {
      static_assert(Direct<T>,
                    "the _into collectives take plain values, flat ranges and Buffers; others go by value");
      return as_buffer(data);
    }
  }
  template <class T>
  static Buffer recv_buffer(T& data) {
    if constexpr (std::is_same_v<std::remove_cv_t<T>, InPlace>) {
      return {MPI_IN_PLACE, 0, MPI_BYTE};
    } else {
      static_assert(Direct<T>,
                    "the _into collectives fill plain values, flat ranges and Buffers; others come by value");
      return as_writable(data);
    }
  }
  // The part of each rank in a buffer of all; 0 for one that is not looked at here.
  template <class B>
  B per_rank(const char* verb, B all, bool looked_at) const {
    all.count = looked_at && all.data != MPI_IN_PLACE ? equal_part(verb, all.count) : 0;
    return all;
  }
  // Throws Error (count) unless `count` elements are the same number for every rank.
  MPI_Count equal_part(const char* verb, MPI_Count count) const;

  auto bcast_call(auto& data, Root root) const {
    return [&here = state("bcast"), buffer = as_writable(data), root](detail::Launch& launch) {
      detail::bcast(here, buffer, root.root, launch);
    };
  }
  auto scatter_call(const auto& send, auto& recv, Root root) const {
    return [&here = state("scatter"), from = per_rank("scatter", send_buffer(send), rank() == root.root),
            to = recv_buffer(recv),
            root](detail::Launch& launch) { detail::scatter(here, from, to, root.root, launch); };
  }
  template <class S>
  auto scatterv_call(const S& send, const Counts& parts, auto& recv, Root root) const {
    return [&here = state("scatterv"), from = send_buffer(send), scaled = detail::Scaled<S>(parts),
            to = recv_buffer(recv), root, width = parts.width()](detail::Launch& launch) {
      if (here.rank == root.root) scaled.template require_within<S>(here, "scatterv", from.count);
      detail::scatterv(here, from, scaled.parts(), to, root.root, width, launch);
    };
  }
  auto gather_call(const auto& send, auto& recv, Root root) const {
    return [&here = state("gather"), from = send_buffer(send),
            to = per_rank("gather", recv_buffer(recv), rank() == root.root),
            root](detail::Launch& launch) { detail::gather(here, from, to, root.root, launch); };
  }
  template <class R>
  auto gatherv_call(const auto& send, R& recv, const Counts& parts, Root root) const {
    return [&here = state("gatherv"), from = send_buffer(send), scaled = detail::Scaled<R>(parts),
            to = recv_buffer(recv), root, width = parts.width()](detail::Launch& launch) {
      if (here.rank == root.root) scaled.template require_within<R>(here, "gatherv", to.count);
      detail::gatherv(here, from, to, scaled.parts(), root.root, width, launch);
    };
  }
  auto allgather_call(const auto& send, auto& recv) const {
    return [&here = state("allgather"), from = send_buffer(send),
            to = per_rank("allgather", recv_buffer(recv), true)](detail::Launch& launch) {
      detail::allgather(here, from, to, launch);
    };
  }
  template <class R>
  auto allgatherv_call(const auto& send, R& recv, const Counts& parts) const {
    return [&here = state("allgatherv"), from = send_buffer(send), scaled = detail::Scaled<R>(parts),
            to = recv_buffer(recv)](detail::Launch& launch) {
      scaled.template require_within<R>(here, "allgatherv", to.count);
      detail::allgatherv(here, from, to, scaled.parts(), launch);
    };
  }
  auto alltoall_call(const auto& send, auto& recv) const {
    return [&here = state("alltoall"), from = per_rank("alltoall", send_buffer(send), true),
            to = per_rank("alltoall", recv_buffer(recv), true)](detail::Launch& launch) {
      detail::alltoall(here, from, to, launch);
    };
  }
  template <class S, class R>
  auto alltoallv_call(const S& send, const Counts& send_parts, R& recv, const Counts& recv_parts) const {
    return [&here = state("alltoallv"), from = send_buffer(send), sent = detail::Scaled<S>(send_parts),
            to = recv_buffer(recv), received = detail::Scaled<R>(recv_parts),
            width = Counts{.counts = {}, .large = send_parts.large || recv_parts.large}.width()](
               detail::Launch& launch) {
      sent.template require_within<S>(here, "alltoallv", from.count);
      received.template require_within<R>(here, "alltoallv", to.count);
      detail::alltoallv(here, from, sent.parts(), to, received.parts(), width, launch);
    };
  }

  // What the reductions share: the operation's datatype instead of the buffers' own.
  template <class S, class R, class F, class Call>
  void reduce_blocking(const char* verb, int root, const S& send, R& recv, const F& op, Call call) const {
    const detail::OpHandle handle = detail::op_handle<detail::ElementOf<R>>(op);
    detail::CommState& here = state(verb);
    if constexpr (std::is_same_v<S, InPlace>) {
      detail::verify(here, verb, root, bytes_of(recv));
    } else {
      detail::verify(here, verb, root, bytes_of(send));
    }
    detail::Launch launch;
    call(here, detail::counted(send, handle.type()), detail::counted_writable(recv, handle.type()),
         handle.op(), launch);
  }
  template <class S, class R, class F, class Call>
  Request<void> reduce_request(const char* verb, const S& send, R& recv, const F& op, Call call) const {
    auto operation = std::make_unique<detail::ReductionInto<F, detail::ElementOf<R>>>(op);
    call(state(verb), detail::counted(send, operation->handle().type()),
         detail::counted_writable(recv, operation->handle().type()), operation->handle().op(),
         operation->launch());
    const MPI_Request native = operation->launch().request;
    return Request<void>(detail::RequestCore(native, std::move(operation), verb, detail::Dropped::wait));
  }
  template <class S, class R, class F, class Call>
  Persistent reduce_persistent(const char* verb, const S& send, R& recv, const F& op, Call call) const {
    auto kept = std::make_shared<detail::ReductionInto<F, detail::ElementOf<R>>>(op);
    return detail::launch_persistent(
        verb, [&here = state(verb), kept, from = detail::counted(send, kept->handle().type()),
               to = detail::counted_writable(recv, kept->handle().type()),
               call](detail::Launch& launch) { call(here, from, to, kept->handle().op(), launch); });
  }
};

}  // namespace manyhands::mpi
