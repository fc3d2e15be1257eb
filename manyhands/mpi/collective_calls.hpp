#pragma once
// MPI's collectives with our buffers and counts, each in its blocking, nonblocking and persistent form at
// once.
//
// A Launch says in which form, and keeps what must live until the operation is done: arrays of counts, and
// further requests where one operation became several (reductions of more than 2^31 elements). Counts of
// v-collectives above MPI's limit go through alltoallw, with the offset inside the datatype. Used by
// collectives.hpp and its like only.

#include <list>
#include <memory>
#include <span>
#include <vector>

#include "manyhands/mpi/communicator.hpp"
#include "manyhands/mpi/datatype.hpp"
#include "manyhands/mpi/op.hpp"
#include "manyhands/mpi/persistent.hpp"
#include "manyhands/mpi/request.hpp"

namespace manyhands::mpi {

// In the place of a send (or, on the root of a scatter, receive) buffer: what there is lies in the other one
// already.
struct InPlace {};
inline constexpr InPlace in_place{};

namespace detail {

enum class How { blocking, nonblocking, persistent };

// Lists, since empty ones cost nothing: a small collective takes less than a microsecond.
struct Launch {
  explicit Launch(How form = How::blocking) noexcept : how(form) {}
  How how;
  MPI_Request request = MPI_REQUEST_NULL;
  std::vector<MPI_Request> further;  // to be waited for after `request`
  std::list<std::vector<int>> ints;  // arrays that MPI reads until the operation is done
  std::list<std::vector<MPI_Datatype>> types;
  std::list<Datatype> made;  // what the types refer to

  int* keep(std::vector<int> values) { return ints.emplace_back(std::move(values)).data(); }
};

inline ConstBuffer in_place_buffer() noexcept { return {MPI_IN_PLACE, 0, MPI_BYTE}; }
inline bool is_in_place(const ConstBuffer& buffer) noexcept { return buffer.data == MPI_IN_PLACE; }

// Counts and offsets of a v-collective, in elements.
struct Parts {
  std::span<const MPI_Count> counts;
  std::span<const MPI_Count> offsets;  // empty: one part directly behind the other
};

// Throws Error (count) if a count or an offset is negative, or a part ends behind `size`.
void require_within(CommState& state, const char* verb, Parts parts, MPI_Count size);
// Throws Error (count) unless `send` is in place, or of `count` elements.
void require_alike(CommState& state, const char* verb, const ConstBuffer& send, MPI_Count count);

// Which form a v-collective takes; all ranks must choose alike. Only allgatherv can tell by itself, from
// counts that all ranks know; `wide` is for more than 2^31 elements in one rank's buffer.
enum class Width { narrow, wide };

void barrier(CommState& state, Launch& launch);
void bcast(CommState& state, const Buffer& data, int root, Launch& launch);
// The counts of the buffer that all ranks' parts lie in are per rank.
void gather(CommState& state, const ConstBuffer& send, const Buffer& recv, int root, Launch& launch);
void gatherv(CommState& state, const ConstBuffer& send, const Buffer& recv, Parts parts, int root,
             Width width, Launch& launch);
void scatter(CommState& state, const ConstBuffer& send, const Buffer& recv, int root, Launch& launch);
void scatterv(CommState& state, const ConstBuffer& send, Parts parts, const Buffer& recv, int root,
              Width width, Launch& launch);
void allgather(CommState& state, const ConstBuffer& send, const Buffer& recv, Launch& launch);
void allgatherv(CommState& state, const ConstBuffer& send, const Buffer& recv, Parts parts, Launch& launch);
void alltoall(CommState& state, const ConstBuffer& send, const Buffer& recv, Launch& launch);
void alltoallv(CommState& state, const ConstBuffer& send, Parts send_parts, const Buffer& recv,
               Parts recv_parts, Width width, Launch& launch);
void alltoallw(CommState& state, std::span<const ConstBuffer> send, std::span<const Buffer> recv,
               Launch& launch);
// `data` counts elements of the operation's datatype.
void reduce(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op, int root,
            Launch& launch);
void allreduce(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op, Launch& launch);
void reduce_scatter_block(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op,
                          Launch& launch);
void reduce_scatter(CommState& state, const ConstBuffer& send, const Buffer& recv,
                    std::span<const MPI_Count> counts, MPI_Op op, Launch& launch);
void scan(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op, Launch& launch);
void exscan(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op, Launch& launch);

// Whether MANYHANDS_CHECK=comm is in the environment: before each blocking collective all ranks compare what
// they are about to do, and all throw Error if operation, root or size differ. Costs an allreduce each.
extern const bool checks_communicate;
void compare_notes(CommState& state, const char* operation, int root, MPI_Count bytes);
inline void verify(CommState& state, const char* operation, int root, MPI_Count bytes) {
  if (checks_communicate) [[unlikely]]
    compare_notes(state, operation, root, bytes);
}

// Several requests, and what they need, as one operation.
class Launched final : public Yields<void> {
 public:
  explicit Launched(Launch&& launch) : launch_(std::move(launch)) {}
  bool advance(MPI_Request& native, MPI_Status&) override {
    if (next_ == launch_.further.size()) return true;
    native = launch_.further[next_++];
    return false;
  }
  Launch& launch() noexcept { return launch_; }

 private:
  Launch launch_;
  std::size_t next_ = 0;
};

// start(launch) as a Request; `kept` is destroyed when it is done.
template <class Start>
Request<void> launch_request(const char* verb, Start start) {
  auto operation = std::make_unique<Launched>(Launch(How::nonblocking));
  start(operation->launch());
  const MPI_Request native = operation->launch().request;
  return Request<void>(RequestCore(native, std::move(operation), verb, Dropped::wait));
}

// start(launch) as a Persistent: MPI's own where it has them, started anew each time elsewhere.
template <class Start>
Persistent launch_persistent(const char* verb, Start start) {
#if MH_MPI_HAS_PERSISTENT_COLLECTIVES
  auto kept = std::make_shared<std::pair<Launch, Start>>(Launch(How::persistent), std::move(start));
  kept->second(kept->first);
  if (kept->first.further.empty()) return Persistent(kept->first.request, kept, verb);
  fail(Errc::count, verb, {}, "a persistent reduction of more than 2^31 elements");
#else
  auto launch = std::make_shared<Launch>(Launch(How::nonblocking));
  return Persistent(
      [launch, start]() mutable {
        *launch = Launch(How::nonblocking);
        start(*launch);
        if (!launch->further.empty())
          fail(Errc::count, "start", {}, "a persistent reduction of more than 2^31 elements");
        return launch->request;
      },
      verb);
#endif
}

template <class Start>
void launch_blocking(const Start& start) {
  Launch launch;
  start(launch);
}

}  // namespace detail
}  // namespace manyhands::mpi
