#pragma once
// Intercomm: two groups of ranks that talk to each other: what spawn, accept and connect give, or create()
// makes.
//
// Messages go to ranks of the other group, and come from there. In collectives the data crosses: what one
// group sends, the other receives. Those with a root have it in one group: the root itself says
// mpi::root_here, its fellows mpi::proc_null, and the other group names the root's rank.
//
//   if (parent) config = parent->bcast(config, {.root = 0});          // in the children
//   kids.bcast(config, {.root = rank == 0 ? mpi::root_here : mpi::proc_null});
//
// Two forms of each, as of Comm. By value: sizes are exchanged where they differ, any packable type works,
// and vectors of other lengths on each rank come as a Ragged. `_into`: memory of the caller's, one call of
// MPI. MPI has no scan and no mpi::in_place between groups. All ranks of both groups call the same
// collectives in the same order, the ones that say mpi::proc_null, too.
//
// The nonblocking forms by value of ranges and objects are several calls of MPI, one after the other as they
// are tested: between start and end of one, no other collective of the same Intercomm may begin. The others
// may be under way together.
//
// Errors are exceptions, as of Comm: class root, count, ...

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/given.hpp"
#include "manyhands/mpi/intercomm_ops.hpp"
#include "manyhands/mpi/op.hpp"

namespace manyhands::mpi {

// A resource: moved, not copied.
class Intercomm : public PointToPoint {
 public:
  Intercomm() = default;  // empty
  // Of two groups that have no rank in common: each calls it with its own communicator and leader. `peer`
  // holds both leaders, and is read on them alone; remote_leader is the other leader's rank there. Collective
  // over `local`.
  static Intercomm create(const Comm& local, int leader, const Comm& peer, int remote_leader, int tag = 0);
  // The same without communicators, from groups (of Sessions, say); leaders are ranks of their groups, and
  // `tag` tells apart what is made at the same time. Collective over both groups. Throws Unsupported where
  // the MPI is older than MPI 4 (features().sessions).
  static Intercomm create_from_groups(const Group& local, int leader, const Group& remote, int remote_leader,
                                      const std::string& tag, const Info& info = {});
  // Raw handles in: takes ownership, or refers to one that another frees. Throws Error (comm) for
  // MPI_COMM_NULL and communicators of one group.
  static Intercomm adopt(MPI_Comm raw);
  static Intercomm view(MPI_Comm raw);
  // view() of what Fortran holds.
  static Intercomm from_fortran(MPI_Fint handle) { return view(MPI_Comm_f2c(handle)); }

  // rank() and size() are those of this rank's own group.
  int remote_size() const { return state("remote_size").peers; }
  Group remote_group() const;

  // ---- Collective over both groups.

  // One communicator of both groups; the ranks of the one that says high come last.
  Comm merge(bool high) const;
  Intercomm dup() const;
  // One Intercomm for each color >= 0 that ranks of both groups give, of these ranks; a rank whose color none
  // of the other group gives, or that says mpi::undefined, gets an empty one.
  Intercomm split(int color, const SplitOptions& options = {}) const;
  // Waits for all messages, and ends it.
  void disconnect();

  // Blocks until all ranks of the other group have called it.
  void barrier() const;
  Request<void> ibarrier() const;

  // ---- One to all of the other group.

  // The root's value: plain, flat of any size, or any object; other ranks of the root's group get theirs
  // back.
  template <class T>
  T bcast(T value, Root root) const {
    return run<detail::InterBcastOf<T>>("bcast", checked("bcast", root), std::move(value));
  }
  template <class T>
  Request<T> ibcast(T value, Root root) const {
    return start<detail::InterBcastOf<T>, T>("ibcast", checked("ibcast", root), std::move(value));
  }
  // The root's `data` into that of the other group, which has the same size.
  template <class D>
  void bcast_into(D&& data, Root root) const {
    detail::launch_blocking(bcast_call(data, root));
  }
  template <class D>
  Request<void> ibcast_into(D&& data, Root root) const {
    return detail::launch_request("ibcast", bcast_call(data, root));
  }

  // Item i of the root's `items` to rank i of the other group, which returns it: items of plain values, of
  // vectors (also Ragged), or of objects; a value-initialised one in the root's own group. Read on the root
  // only, where there must be one for each rank of the other group.
  template <class Items>
  auto scatter(const Items& items, Root root) const {
    using Op = detail::InterScatterOf<Items>;
    return run<Op>("scatter", checked("scatter", root), items);
  }
  template <class Items>
  auto iscatter(const Items& items, Root root) const {
    using Op = detail::InterScatterOf<Items>;
    return start<Op, typename Op::Result>("iscatter", checked("iscatter", root), items);
  }
  // The root's range cut into remote_size() parts whose lengths differ by one at most; the first ones are the
  // longer.
  template <Flat Range>
  auto scatter_range(const Range& range, Root root) const {
    using T = std::ranges::range_value_t<Range>;
    Ragged<T> parts;
    if (root.root == root_here) {
      const std::span<const T> all(std::ranges::data(range), std::ranges::size(range));
      std::size_t at = 0;
      for (const MPI_Count count : detail::near_equal(static_cast<MPI_Count>(all.size()), remote_size())) {
        parts.push_back(all.subspan(at, static_cast<std::size_t>(count)));
        at += static_cast<std::size_t>(count);
      }
    }
    return scatter(parts, root);
  }
  // Equal parts of the root's `send` into the `recv` of each rank of the other group.
  template <class S, class R>
  void scatter_into(const S& send, R&& recv, Root root) const {
    detail::launch_blocking(scatter_call(send, recv, root));
  }
  template <class S, class R>
  Request<void> iscatter_into(const S& send, R&& recv, Root root) const {
    return detail::launch_request("iscatter", scatter_call(send, recv, root));
  }
  // Parts of given counts, one for each rank of the other group; `parts` is read on the root.
  template <class S, class R>
  void scatterv_into(const S& send, const Counts& parts, R&& recv, Root root) const {
    detail::launch_blocking(scatterv_call(send, parts, recv, root));
  }
  template <class S, class R>
  Request<void> iscatterv_into(const S& send, const Counts& parts, R&& recv, Root root) const {
    return detail::launch_request("iscatterv", scatterv_call(send, parts, recv, root));
  }

  // ---- All of one group to one of the other.

  // To the root the value of each rank of the other group: a vector of plain values or objects, a Ragged of
  // vectors. Elsewhere it is empty.
  template <class T>
  [[gnu::always_inline]] auto gather(const T& value, Root root) const {
    return run<detail::InterGatherOf<T>>("gather", checked("gather", root), detail::given(value));
  }
  template <class T>
  [[gnu::always_inline]] auto igather(const T& value, Root root) const {
    using Op = detail::InterGatherOf<T>;
    return start<Op, typename Op::Result>("igather", checked("igather", root), detail::given(value));
  }
  // Equal parts into the root's `recv`, which has remote_size() times as many elements; read on the root
  // only.
  template <class S, class R>
  void gather_into(const S& send, R&& recv, Root root) const {
    detail::launch_blocking(gather_call(send, recv, root));
  }
  template <class S, class R>
  Request<void> igather_into(const S& send, R&& recv, Root root) const {
    return detail::launch_request("igather", gather_call(send, recv, root));
  }
  // Parts of given counts, one of each rank of the other group; `parts` is read on the root.
  template <class S, class R>
  void gatherv_into(const S& send, R&& recv, const Counts& parts, Root root) const {
    detail::launch_blocking(gatherv_call(send, recv, parts, root));
  }
  template <class S, class R>
  Request<void> igatherv_into(const S& send, R&& recv, const Counts& parts, Root root) const {
    return detail::launch_request("igatherv", gatherv_call(send, recv, parts, root));
  }

  // ---- All to all of the other group.

  // As gather, on every rank: what the ranks of the other group gave.
  template <class T>
  [[gnu::always_inline]] auto allgather(const T& value) const {
    return run<detail::InterGatherOf<T>>("allgather", everywhere, detail::given(value));
  }
  template <class T>
  [[gnu::always_inline]] auto iallgather(const T& value) const {
    using Op = detail::InterGatherOf<T>;
    return start<Op, typename Op::Result>("iallgather", everywhere, detail::given(value));
  }
  template <class S, class R>
  void allgather_into(const S& send, R&& recv) const {
    detail::launch_blocking(allgather_call(send, recv));
  }
  template <class S, class R>
  Request<void> iallgather_into(const S& send, R&& recv) const {
    return detail::launch_request("iallgather", allgather_call(send, recv));
  }
  template <class S, class R>
  void allgatherv_into(const S& send, R&& recv, const Counts& parts) const {
    detail::launch_blocking(allgatherv_call(send, recv, parts));
  }
  template <class S, class R>
  Request<void> iallgatherv_into(const S& send, R&& recv, const Counts& parts) const {
    return detail::launch_request("iallgatherv", allgatherv_call(send, recv, parts));
  }

  // Item i to rank i of the other group, and what its ranks sent here: std::vector<T> of plain values or
  // objects, std::vector<std::vector<T>> or Ragged<T> of parts of any length, remote_size() of them. The same
  // type comes back (a std::vector for other ranges of plain values).
  template <class Items>
  auto alltoall(const Items& items) const {
    return run<detail::InterAlltoallOf<Items>>("alltoall", items);
  }
  template <class Items>
  auto ialltoall(const Items& items) const {
    using Op = detail::InterAlltoallOf<Items>;
    return start<Op, typename Op::Result>("ialltoall", items);
  }
  // Equal parts; both have remote_size() of them.
  template <class S, class R>
  void alltoall_into(const S& send, R&& recv) const {
    detail::launch_blocking(alltoall_call(send, recv));
  }
  template <class S, class R>
  Request<void> ialltoall_into(const S& send, R&& recv) const {
    return detail::launch_request("ialltoall", alltoall_call(send, recv));
  }
  template <class S, class R>
  void alltoallv_into(const S& send, const Counts& send_parts, R&& recv, const Counts& recv_parts) const {
    detail::launch_blocking(alltoallv_call(send, send_parts, recv, recv_parts));
  }
  template <class S, class R>
  Request<void> ialltoallv_into(const S& send, const Counts& send_parts, R&& recv,
                                const Counts& recv_parts) const {
    return detail::launch_request("ialltoallv", alltoallv_call(send, send_parts, recv, recv_parts));
  }
  // A buffer for each rank of the other group, of any datatype, anywhere.
  void alltoallw(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const;
  Request<void> ialltoallw(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const;

  // ---- Reductions (op.hpp): of a plain value, element by element of a range, or of objects. What one group
  // gives, the other gets. Ranges have the same length on all ranks of both groups, also where nothing is
  // given.

  // The values of the other group combined, on the root; a value-initialised T elsewhere.
  template <class T, class F>
  [[gnu::always_inline]] T reduce(const T& value, const F& op, Root root) const {
    return run<detail::InterReductionOf<T, F>>("reduce", checked("reduce", root), detail::given(value), op);
  }
  template <class T, class F>
  [[gnu::always_inline]] Request<T> ireduce(const T& value, const F& op, Root root) const {
    return start<detail::InterReductionOf<T, F>, T>("ireduce", checked("ireduce", root), detail::given(value),
                                                    op);
  }
  // `recv` is filled on the root, where `send` is not read.
  template <class S, class R, class F>
  void reduce_into(const S& send, R&& recv, const F& op, Root root) const {
    reduce_blocking("reduce", root, send, recv, op, detail::ReduceTo{checked("reduce", root).root});
  }
  template <class S, class R, class F>
  Request<void> ireduce_into(const S& send, R&& recv, const F& op, Root root) const {
    return reduce_request("ireduce", root, send, recv, op, detail::ReduceTo{checked("ireduce", root).root});
  }

  // The same on every rank of both groups.
  template <class T, class F>
  [[gnu::always_inline]] T allreduce(const T& value, const F& op) const {
    return run<detail::InterReductionOf<T, F>>("allreduce", everywhere, detail::given(value), op);
  }
  template <class T, class F>
  [[gnu::always_inline]] Request<T> iallreduce(const T& value, const F& op) const {
    return start<detail::InterReductionOf<T, F>, T>("iallreduce", everywhere, detail::given(value), op);
  }
  template <class S, class R, class F>
  void allreduce_into(const S& send, R&& recv, const F& op) const {
    require_alike("allreduce", send, recv);
    reduce_blocking("allreduce", everywhere, send, recv, op, &detail::allreduce);
  }
  template <class S, class R, class F>
  Request<void> iallreduce_into(const S& send, R&& recv, const F& op) const {
    require_alike("iallreduce", send, recv);
    return reduce_request("iallreduce", everywhere, send, recv, op, &detail::allreduce);
  }

  // The element-wise reduction of the other group's ranges, cut into size() parts, of which rank i of this
  // group gets the i-th. Without counts the parts are near-equal, as those of scatter_range. Counts are those
  // of this rank's group, and the same on all its ranks.
  template <Flat Range, class F>
  auto reduce_scatter(const Range& range, const F& op) const {
    const std::vector<MPI_Count> counts =
        detail::near_equal(static_cast<MPI_Count>(std::ranges::size(range)), state("reduce_scatter").size);
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
  // Equal parts: `send` has size() times as many elements as `recv`.
  template <class S, class R, class F>
  void reduce_scatter_into(const S& send, R&& recv, const F& op) const {
    reduce_blocking("reduce_scatter", everywhere, send, recv, op, &detail::reduce_scatter_block);
  }
  template <class S, class R, class F>
  Request<void> ireduce_scatter_into(const S& send, R&& recv, const F& op) const {
    return reduce_request("ireduce_scatter", everywhere, send, recv, op, &detail::reduce_scatter_block);
  }
  template <class S, class R, class F>
  void reduce_scatter_into(const S& send, R&& recv, std::span<const MPI_Count> counts, const F& op) const {
    reduce_blocking("reduce_scatter", everywhere, send, recv, op, detail::InterReduceScatterBy{counts});
  }
  template <class S, class R, class F>
  Request<void> ireduce_scatter_into(const S& send, R&& recv, std::span<const MPI_Count> counts,
                                     const F& op) const {
    return reduce_request("ireduce_scatter", everywhere, send, recv, op,
                          detail::InterReduceScatterBy{counts});
  }

 private:
  static constexpr Root everywhere{detail::unset};

  Intercomm(MPI_Comm comm, Ownership ownership) : PointToPoint(comm, ownership) {}

  Root checked(const char* verb, Root root) const {
    detail::require_inter_root(state(verb), verb, root.root);
    return root;
  }
  // ---- By value: an operation of steps, run through or started. Out of line: see given.hpp.
  template <class Op, class... Args>
  [[gnu::noinline]] auto run(const char* verb, Args&&... args) const {
    Op operation(state(verb), std::forward<Args>(args)...);
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

  // The part of each rank of the other group in a buffer of all; 0 for one that is not looked at here.
  template <class B>
  B per_rank(const char* verb, B all, bool looked_at) const {
    all.count = looked_at ? detail::inter_part(state(verb), verb, all.count) : 0;
    return all;
  }
  auto bcast_call(auto& data, Root root) const {
    checked("bcast", root);
    return [&here = state("bcast"), buffer = as_writable(data), root](detail::Launch& launch) {
      detail::inter_bcast(here, buffer, root.root, launch);
    };
  }
  auto scatter_call(const auto& send, auto& recv, Root root) const {
    checked("scatter", root);
    return [&here = state("scatter"), from = per_rank("scatter", as_buffer(send), root.root == root_here),
            to = as_writable(recv),
            root](detail::Launch& launch) { detail::scatter(here, from, to, root.root, launch); };
  }
  template <class S>
  auto scatterv_call(const S& send, const Counts& parts, auto& recv, Root root) const {
    checked("scatterv", root);
    return [&here = state("scatterv"), from = as_buffer(send), scaled = detail::Scaled<S>(parts),
            to = as_writable(recv), root](detail::Launch& launch) {
      if (root.root == root_here) scaled.template require_within<S>(here, "scatterv", from.count);
      detail::inter_scatterv(here, from, scaled.parts(), to, root.root, launch);
    };
  }
  auto gather_call(const auto& send, auto& recv, Root root) const {
    checked("gather", root);
    return [&here = state("gather"), from = as_buffer(send),
            to = per_rank("gather", as_writable(recv), root.root == root_here),
            root](detail::Launch& launch) { detail::gather(here, from, to, root.root, launch); };
  }
  template <class R>
  auto gatherv_call(const auto& send, R& recv, const Counts& parts, Root root) const {
    checked("gatherv", root);
    return [&here = state("gatherv"), from = as_buffer(send), scaled = detail::Scaled<R>(parts),
            to = as_writable(recv), root](detail::Launch& launch) {
      if (root.root == root_here) scaled.template require_within<R>(here, "gatherv", to.count);
      detail::inter_gatherv(here, from, to, scaled.parts(), root.root, launch);
    };
  }
  auto allgather_call(const auto& send, auto& recv) const {
    return [&here = state("allgather"), from = as_buffer(send),
            to = per_rank("allgather", as_writable(recv), true)](detail::Launch& launch) {
      detail::allgather(here, from, to, launch);
    };
  }
  template <class R>
  auto allgatherv_call(const auto& send, R& recv, const Counts& parts) const {
    return [&here = state("allgatherv"), from = as_buffer(send), scaled = detail::Scaled<R>(parts),
            to = as_writable(recv)](detail::Launch& launch) {
      scaled.template require_within<R>(here, "allgatherv", to.count);
      detail::inter_allgatherv(here, from, to, scaled.parts(), launch);
    };
  }
  auto alltoall_call(const auto& send, auto& recv) const {
    return [&here = state("alltoall"), from = per_rank("alltoall", as_buffer(send), true),
            to = per_rank("alltoall", as_writable(recv), true)](detail::Launch& launch) {
      detail::alltoall(here, from, to, launch);
    };
  }
  template <class S, class R>
  auto alltoallv_call(const S& send, const Counts& send_parts, R& recv, const Counts& recv_parts) const {
    return [&here = state("alltoallv"), from = as_buffer(send), sent = detail::Scaled<S>(send_parts),
            to = as_writable(recv), received = detail::Scaled<R>(recv_parts)](detail::Launch& launch) {
      sent.template require_within<S>(here, "alltoallv", from.count);
      received.template require_within<R>(here, "alltoallv", to.count);
      detail::alltoallv(here, from, sent.parts(), to, received.parts(), detail::Width::narrow, launch);
    };
  }

  // What the reductions share: the operation's datatype instead of the buffers' own. The root gives nothing,
  // and so takes the length of what it gets.
  template <class S>
  static ConstBuffer given(const S& send, const Buffer& recv, Root root) {
    if (root.root == root_here) return {&nothing, recv.count, recv.type};
    return detail::counted(send, recv.type);
  }
  static Buffer taken(Buffer recv, Root root) {
    if (root.root != root_here && root.root != detail::unset) recv.data = &nothing;
    return recv;
  }
  // In the place of memory that is neither read nor written: MPICH 4.0 wants an address all the same.
  static inline char nothing = 0;
  template <class S, class R>
  void require_alike(const char* verb, const S& send, const R& recv) const {
    const detail::CommState& here = state(verb);
    if (as_buffer(send).count != as_buffer(recv).count)
      detail::fail(Errc::count, verb, {.comm = here.comm}, "send and receive buffers differ in size");
  }
  template <class S, class R, class F, class Call>
  void reduce_blocking(const char* verb, Root root, const S& send, R& recv, const F& op, Call call) const {
    detail::CommState& here = state(verb);
    const detail::OpHandle handle = detail::op_handle<detail::ElementOf<R>>(op);
    const Buffer to = detail::counted_writable(recv, handle.type());
    detail::Launch launch;
    call(here, given(send, to, root), taken(to, root), handle.op(), launch);
  }
  template <class S, class R, class F, class Call>
  Request<void> reduce_request(const char* verb, Root root, const S& send, R& recv, const F& op,
                               Call call) const {
    detail::CommState& here = state(verb);
    auto operation = std::make_unique<detail::ReductionInto<F, detail::ElementOf<R>>>(op);
    const Buffer to = detail::counted_writable(recv, operation->handle().type());
    call(here, given(send, to, root), taken(to, root), operation->handle().op(), operation->launch());
    const MPI_Request native = operation->launch().request;
    return Request<void>(detail::RequestCore(native, std::move(operation), verb, detail::Dropped::wait));
  }
};

}  // namespace manyhands::mpi
