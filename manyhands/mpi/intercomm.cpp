#include "manyhands/mpi/intercomm.hpp"

#include <fmt/format.h>

#include "manyhands/mpi/large.hpp"

namespace manyhands::mpi {
namespace {

void require_inter(MPI_Comm raw, const char* verb) {
  detail::require_active(verb);
  if (raw == MPI_COMM_NULL) detail::fail(Errc::comm, verb, {}, "the handle is MPI_COMM_NULL");
  int inter = 0;
  detail::check(MPI_Comm_test_inter(raw, &inter), verb);
  if (inter == 0) detail::fail(Errc::comm, verb, {.comm = raw}, "it has one group only: use mpi::Comm");
}

}  // namespace

Intercomm Intercomm::create(const Comm& local, int leader, const Comm& peer, int remote_leader, int tag) {
  detail::require_active("Intercomm::create");
  if (!local) detail::fail(Errc::comm, "Intercomm::create", {}, "the local communicator is empty");
  if (leader < 0 || leader >= local.size())
    detail::fail(Errc::rank, "Intercomm::create", {.comm = local.native()},
                 fmt::format("the leader {} is no rank of the local communicator", leader));
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Intercomm_create(local.native(), leader, peer.native(), remote_leader, tag, &made),
                "Intercomm::create", {.comm = local.native(), .dest = remote_leader, .tag = tag});
  return {made, Ownership::owned};
}

Intercomm Intercomm::adopt(MPI_Comm raw) {
  require_inter(raw, "Intercomm::adopt");
  return {raw, Ownership::owned};
}

Intercomm Intercomm::view(MPI_Comm raw) {
  require_inter(raw, "Intercomm::view");
  return {raw, Ownership::viewed};
}

Group Intercomm::remote_group() const {
  MPI_Group group = MPI_GROUP_NULL;
  detail::check(MPI_Comm_remote_group(state("remote_group").comm, &group), "remote_group");
  return Group::adopt(group);
}

Comm Intercomm::merge(bool high) const {
  const MPI_Comm from = state("merge").comm;
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Intercomm_merge(from, high ? 1 : 0, &made), "merge", {.comm = from});
  return Comm::adopt(made);
}

Intercomm Intercomm::dup() const {
  const MPI_Comm from = state("dup").comm;
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Comm_dup(from, &made), "dup", {.comm = from});
  return {made, Ownership::owned};
}

void Intercomm::disconnect() {
  MPI_Comm comm = state("disconnect").comm;
  MPI_Comm parent = MPI_COMM_NULL;
  MPI_Comm_get_parent(&parent);
  if (ownership_ == Ownership::viewed && comm != parent)
    detail::fail(Errc::comm, "disconnect", {.comm = comm}, "it is another's: only viewed here");
  state_ = nullptr;
  detail::check(MPI_Comm_disconnect(&comm), "disconnect");
}

void Intercomm::barrier() const {
  const MPI_Comm comm = state("barrier").comm;
  detail::check(MPI_Barrier(comm), "barrier", {.comm = comm});
}

Request<void> Intercomm::ibarrier() const {
  const MPI_Comm comm = state("ibarrier").comm;
  MPI_Request native = MPI_REQUEST_NULL;
  detail::check(MPI_Ibarrier(comm, &native), "ibarrier", {.comm = comm});
  return request_of(native, "ibarrier");
}

namespace {

void require_root(const detail::CommState& state, int root, const char* verb) {
  if (root == root_here || root == proc_null || (root >= 0 && root < state.peers)) return;
  detail::fail(
      Errc::root, verb, {.comm = state.comm, .root = root},
      fmt::format("the root is one of the {} ranks of the other group, mpi::root_here on the root itself, "
                  "mpi::proc_null in its group",
                  state.peers));
}

MPI_Count part_of(const detail::CommState& state, MPI_Count count, const char* verb) {
  if (state.peers == 0 || count % state.peers != 0)
    detail::fail(
        Errc::count, verb, {.comm = state.comm},
        fmt::format("{} elements cannot be split over the {} ranks of the other group", count, state.peers));
  return count / state.peers;
}

}  // namespace

MPI_Count Intercomm::share_size(MPI_Count mine, int root) const {
  broadcast({&mine, 1, native_type<MPI_Count>()}, root, nullptr, "bcast");
  return mine;
}

void Intercomm::broadcast(Buffer data, int root, MPI_Request* request, const char* verb) const {
  const detail::CommState& here = state(verb);
  require_root(here, root, verb);
  detail::check(detail::with_count(data.count, data.type,
                                   [&](int n, MPI_Datatype type) {
                                     return request == nullptr
                                                ? MPI_Bcast(data.data, n, type, root, here.comm)
                                                : MPI_Ibcast(data.data, n, type, root, here.comm, request);
                                   }),
                verb, {.comm = here.comm, .root = root, .count = data.count, .type = data.type});
}

void Intercomm::exchange(Call call, ConstBuffer send, Buffer recv, int root, MPI_Request* request,
                         const char* verb) const {
  const detail::CommState& here = state(verb);
  const bool rooted = call == Call::gather || call == Call::scatter;
  if (rooted) require_root(here, root, verb);
  // The buffer with a part for each rank of the other group, where it matters.
  MPI_Count sent = send.count;
  MPI_Count received = recv.count;
  if (call == Call::alltoall || (call == Call::scatter && root == root_here))
    sent = part_of(here, sent, verb);
  if (call == Call::allgather || call == Call::alltoall || (call == Call::gather && root == root_here))
    received = part_of(here, received, verb);
  const int code = detail::with_counts(
      sent, send.type, received, recv.type, [&](int n, MPI_Datatype type, int m, MPI_Datatype other) {
        switch (call) {
          case Call::gather:
            return request == nullptr
                       ? MPI_Gather(send.data, n, type, recv.data, m, other, root, here.comm)
                       : MPI_Igather(send.data, n, type, recv.data, m, other, root, here.comm, request);
          case Call::scatter:
            return request == nullptr
                       ? MPI_Scatter(send.data, n, type, recv.data, m, other, root, here.comm)
                       : MPI_Iscatter(send.data, n, type, recv.data, m, other, root, here.comm, request);
          case Call::allgather:
            return request == nullptr
                       ? MPI_Allgather(send.data, n, type, recv.data, m, other, here.comm)
                       : MPI_Iallgather(send.data, n, type, recv.data, m, other, here.comm, request);
          case Call::alltoall:
            return request == nullptr
                       ? MPI_Alltoall(send.data, n, type, recv.data, m, other, here.comm)
                       : MPI_Ialltoall(send.data, n, type, recv.data, m, other, here.comm, request);
        }
        return MPI_ERR_ARG;
      });
  detail::check(code, verb, {.comm = here.comm, .root = root, .count = send.count, .type = send.type});
}

void Intercomm::combine(const void* send, void* recv, MPI_Count count, const detail::OpHandle& op, int root,
                        bool all, const char* verb) const {
  const detail::CommState& here = state(verb);
  if (!all) require_root(here, root, verb);
  MPI_Aint lower = 0;
  MPI_Aint extent = 0;
  detail::check(MPI_Type_get_extent(op.type(), &lower, &extent), verb);
  // Operations take no derived datatypes of many elements: larger ones go in steps.
  MPI_Count done = 0;
  do {
    const MPI_Count n = std::min(count - done, detail::large_limit);
    const auto* const from = static_cast<const std::byte*>(send) + done * extent;
    auto* const to = static_cast<std::byte*>(recv) + done * extent;
    const int code = all ? MPI_Allreduce(from, to, static_cast<int>(n), op.type(), op.op(), here.comm)
                         : MPI_Reduce(from, to, static_cast<int>(n), op.type(), op.op(), root, here.comm);
    detail::check(code, verb, {.comm = here.comm, .root = root, .count = count, .type = op.type()});
    done += n;
  } while (done < count);
}

}  // namespace manyhands::mpi
