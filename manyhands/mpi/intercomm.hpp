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
// Errors are exceptions, as of Comm.

#include <cstddef>
#include <ranges>
#include <span>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/op.hpp"
#include "manyhands/mpi/slots.hpp"

namespace manyhands::mpi {

// The root of a collective between two groups, on the root itself.
inline constexpr int root_here = MPI_ROOT;

// A resource: moved, not copied.
class Intercomm : public PointToPoint {
 public:
  Intercomm() = default;  // empty
  // Of two groups that have no rank in common: each calls it with its own communicator and leader. `peer`
  // holds both leaders, and is read on them alone; remote_leader is the other leader's rank there. Collective
  // over `local`.
  static Intercomm create(const Comm& local, int leader, const Comm& peer, int remote_leader, int tag = 0);
  // Raw handles in: takes ownership, or refers to one that another frees. Throws Error (comm) for
  // MPI_COMM_NULL and communicators of one group.
  static Intercomm adopt(MPI_Comm raw);
  static Intercomm view(MPI_Comm raw);

  // rank() and size() are those of this rank's own group.
  int remote_size() const { return state("remote_size").peers; }
  Group remote_group() const;

  // ---- Collective over both groups.

  // One communicator of both groups; the ranks of the one that says high come last.
  Comm merge(bool high) const;
  Intercomm dup() const;
  // Waits for all messages, and ends it.
  void disconnect();

  void barrier() const;
  Request<void> ibarrier() const;

  // The root's value: plain, flat of any size, or any object; other ranks of the root's group get theirs
  // back.
  template <class T>
  T bcast(T value, Root root) const;
  template <class D>
  void bcast_into(D&& data, Root root) const;
  template <class D>
  Request<void> ibcast_into(D&& data, Root root) const;

  // To the root one value of each rank of the other group; empty elsewhere.
  template <Plain T>
  std::vector<T> gather(const T& value, Root root) const;
  template <class S, class R>
  void gather_into(const S& send, R&& recv, Root root) const;
  template <class S, class R>
  Request<void> igather_into(const S& send, R&& recv, Root root) const;
  // values[i] of the root to rank i of the other group; T{} in the root's own group.
  template <Flat R>
  std::ranges::range_value_t<R> scatter(const R& values, Root root) const;
  template <class S, class R>
  void scatter_into(const S& send, R&& recv, Root root) const;
  template <class S, class R>
  Request<void> iscatter_into(const S& send, R&& recv, Root root) const;
  // What the ranks of the other group gave.
  template <Plain T>
  std::vector<T> allgather(const T& value) const;
  template <class S, class R>
  void allgather_into(const S& send, R&& recv) const;
  template <class S, class R>
  Request<void> iallgather_into(const S& send, R&& recv) const;
  // values[i] to rank i of the other group.
  template <Flat R>
  std::vector<std::ranges::range_value_t<R>> alltoall(const R& values) const;
  template <class S, class R>
  void alltoall_into(const S& send, R&& recv) const;
  template <class S, class R>
  Request<void> ialltoall_into(const S& send, R&& recv) const;

  // The values of the other group combined, on the root (T{} elsewhere), and on all ranks.
  template <Plain T, class F>
  T reduce(const T& value, const F& op, Root root) const;
  template <Flat S, Flat R, class F>
  void reduce_into(const S& send, R&& recv, const F& op, Root root) const;
  template <Plain T, class F>
  T allreduce(const T& value, const F& op) const;
  template <Flat S, Flat R, class F>
  void allreduce_into(const S& send, R&& recv, const F& op) const;

 private:
  Intercomm(MPI_Comm comm, Ownership ownership) : PointToPoint(comm, ownership) {}

  // `blocks`: parts that the buffer holds, of which MPI is told one.
  struct Part {
    MPI_Count count;
    MPI_Datatype type;
  };
  enum class Call { gather, scatter, allgather, alltoall };
  void exchange(Call call, ConstBuffer send, Buffer recv, int root, MPI_Request* request,
                const char* verb) const;
  void broadcast(Buffer data, int root, MPI_Request* request, const char* verb) const;
  void combine(const void* send, void* recv, MPI_Count count, const detail::OpHandle& op, int root, bool all,
               const char* verb) const;
  // The root's size, everywhere in the other group.
  MPI_Count share_size(MPI_Count mine, int root) const;
  static Request<void> request_of(MPI_Request native, const char* verb) {
    return Request<void>(detail::RequestCore(native, nullptr, verb, detail::Dropped::wait));
  }
  static bool receives(Root root) noexcept { return root.root >= 0; }
};

// ---- Bodies.

template <class T>
T Intercomm::bcast(T value, Root root) const {
  if constexpr (Plain<T>) {
    broadcast(as_writable(value), root.root, nullptr, "bcast");
  } else if constexpr (Resizable<T>) {
    const MPI_Count n = share_size(static_cast<MPI_Count>(std::ranges::size(value)), root.root);
    if (receives(root)) value.resize(static_cast<std::size_t>(n));
    broadcast(as_writable(value), root.root, nullptr, "bcast");
  } else {
    static_assert(detail::is_sendable<T>, "this type cannot be sent");
    std::vector<std::byte> bytes;
    if (root.root == root_here) {
      wire::Writer writer(wire::never_out_of_band);
      wire::pack(writer, value);
      bytes.assign(writer.bytes().begin(), writer.bytes().end());
    }
    const MPI_Count n = share_size(static_cast<MPI_Count>(bytes.size()), root.root);
    if (receives(root)) bytes.resize(static_cast<std::size_t>(n));
    broadcast(as_writable(bytes), root.root, nullptr, "bcast");
    if (receives(root)) value = detail::unpack_object<T>(bytes, {.comm = native(), .root = root.root});
  }
  return value;
}

template <class D>
void Intercomm::bcast_into(D&& data, Root root) const {
  broadcast(as_writable(data), root.root, nullptr, "bcast");
}
template <class D>
Request<void> Intercomm::ibcast_into(D&& data, Root root) const {
  MPI_Request native = MPI_REQUEST_NULL;
  broadcast(as_writable(data), root.root, &native, "ibcast");
  return request_of(native, "ibcast");
}

template <Plain T>
std::vector<T> Intercomm::gather(const T& value, Root root) const {
  detail::Slots<T> all(root.root == root_here ? static_cast<std::size_t>(remote_size()) : 0);
  const auto in = all.span();
  exchange(Call::gather, as_buffer(value), as_writable(in), root.root, nullptr, "gather");
  return all.take();
}
template <class S, class R>
void Intercomm::gather_into(const S& send, R&& recv, Root root) const {
  exchange(Call::gather, as_buffer(send), as_writable(recv), root.root, nullptr, "gather");
}
template <class S, class R>
Request<void> Intercomm::igather_into(const S& send, R&& recv, Root root) const {
  MPI_Request native = MPI_REQUEST_NULL;
  exchange(Call::gather, as_buffer(send), as_writable(recv), root.root, &native, "igather");
  return request_of(native, "igather");
}

template <Flat R>
std::ranges::range_value_t<R> Intercomm::scatter(const R& values, Root root) const {
  std::ranges::range_value_t<R> mine{};
  exchange(Call::scatter, as_buffer(values), as_writable(mine), root.root, nullptr, "scatter");
  return mine;
}
template <class S, class R>
void Intercomm::scatter_into(const S& send, R&& recv, Root root) const {
  exchange(Call::scatter, as_buffer(send), as_writable(recv), root.root, nullptr, "scatter");
}
template <class S, class R>
Request<void> Intercomm::iscatter_into(const S& send, R&& recv, Root root) const {
  MPI_Request native = MPI_REQUEST_NULL;
  exchange(Call::scatter, as_buffer(send), as_writable(recv), root.root, &native, "iscatter");
  return request_of(native, "iscatter");
}

template <Plain T>
std::vector<T> Intercomm::allgather(const T& value) const {
  detail::Slots<T> all(static_cast<std::size_t>(remote_size()));
  const auto in = all.span();
  exchange(Call::allgather, as_buffer(value), as_writable(in), detail::unset, nullptr, "allgather");
  return all.take();
}
template <class S, class R>
void Intercomm::allgather_into(const S& send, R&& recv) const {
  exchange(Call::allgather, as_buffer(send), as_writable(recv), detail::unset, nullptr, "allgather");
}
template <class S, class R>
Request<void> Intercomm::iallgather_into(const S& send, R&& recv) const {
  MPI_Request native = MPI_REQUEST_NULL;
  exchange(Call::allgather, as_buffer(send), as_writable(recv), detail::unset, &native, "iallgather");
  return request_of(native, "iallgather");
}

template <Flat R>
std::vector<std::ranges::range_value_t<R>> Intercomm::alltoall(const R& values) const {
  detail::Slots<std::ranges::range_value_t<R>> all(static_cast<std::size_t>(remote_size()));
  const auto in = all.span();
  exchange(Call::alltoall, as_buffer(values), as_writable(in), detail::unset, nullptr, "alltoall");
  return all.take();
}
template <class S, class R>
void Intercomm::alltoall_into(const S& send, R&& recv) const {
  exchange(Call::alltoall, as_buffer(send), as_writable(recv), detail::unset, nullptr, "alltoall");
}
template <class S, class R>
Request<void> Intercomm::ialltoall_into(const S& send, R&& recv) const {
  MPI_Request native = MPI_REQUEST_NULL;
  exchange(Call::alltoall, as_buffer(send), as_writable(recv), detail::unset, &native, "ialltoall");
  return request_of(native, "ialltoall");
}

template <Plain T, class F>
T Intercomm::reduce(const T& value, const F& op, Root root) const {
  T result{};
  state("reduce");
  combine(&value, &result, 1, detail::op_handle<T>(op), root.root, false, "reduce");
  return result;
}
template <Flat S, Flat R, class F>
void Intercomm::reduce_into(const S& send, R&& recv, const F& op, Root root) const {
  using T = std::ranges::range_value_t<S>;
  state("reduce");
  const std::size_t n = root.root == root_here ? std::ranges::size(recv) : std::ranges::size(send);
  combine(std::ranges::data(send), std::ranges::data(recv), static_cast<MPI_Count>(n),
          detail::op_handle<T>(op), root.root, false, "reduce");
}
template <Plain T, class F>
T Intercomm::allreduce(const T& value, const F& op) const {
  T result{};
  state("allreduce");
  combine(&value, &result, 1, detail::op_handle<T>(op), detail::unset, true, "allreduce");
  return result;
}
template <Flat S, Flat R, class F>
void Intercomm::allreduce_into(const S& send, R&& recv, const F& op) const {
  using T = std::ranges::range_value_t<S>;
  state("allreduce");
  if (std::ranges::size(send) != std::ranges::size(recv))
    detail::fail(Errc::count, "allreduce", {.comm = native()}, "send and receive buffers differ in size");
  combine(std::ranges::data(send), std::ranges::data(recv), static_cast<MPI_Count>(std::ranges::size(send)),
          detail::op_handle<T>(op), detail::unset, true, "allreduce");
}

}  // namespace manyhands::mpi
