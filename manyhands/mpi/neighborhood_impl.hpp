#pragma once
// The bodies of neighborhood.hpp; included by it alone.

namespace manyhands::mpi {
namespace detail {

// One MPI call whose results become a vector; owns what is sent as well.
template <class T, class Sent>
class NeighborResults final : public Yields<std::vector<T>> {
 public:
  NeighborResults(Sent sent, std::size_t n) : sent_(std::move(sent)), slots_(n) {}
  bool advance(MPI_Request&, MPI_Status&) override { return true; }
  std::vector<T> take() override { return slots_.take(); }
  Sent& sent() noexcept { return sent_; }
  Slots<T>& slots() noexcept { return slots_; }
  std::shared_ptr<NeighborBlocks> keep;

 private:
  Sent sent_;
  Slots<T> slots_;
};

// Messages of unknown sizes to and from each neighbour.
template <class T, class Values>
class NeighborExchange final : public Yields<std::vector<T>> {
 public:
  explicit NeighborExchange(Values values) : values_(std::move(values)) {}
  // Other ranks count on this one: a request that was dropped is brought to its end.
  ~NeighborExchange() override {
    try {
      MPI_Request none = MPI_REQUEST_NULL;
      MPI_Status status{};
      Backoff backoff;
      while (is_active() && !advance(none, status)) backoff.pause();
    } catch (const manyhands::Error&) {  // nobody is left to be told
    }
  }
  bool advance(MPI_Request& native, MPI_Status&) override {
    native = MPI_REQUEST_NULL;
    bool all = true;
    for (auto& one : sending) all = (!one.valid() || one.test()) && all;
    for (auto& one : coming) all = (!one.valid() || one.test()) && all;
    return all;
  }
  std::vector<T> take() override {
    std::vector<T> all;
    all.reserve(coming.size());
    for (auto& one : coming) all.push_back(one.valid() ? one.get() : T{});
    return all;
  }
  const Values& values() const noexcept { return values_; }
  std::vector<Request<void>> sending;
  std::vector<Request<T>> coming;  // an empty request: from nobody

 private:
  Values values_;
};

// What is sent to all, as if it were one for each.
template <class T>
struct SameForAll {
  T value;
  const T& operator[](std::size_t) const noexcept { return value; }
};

// Starts to send `value`, which stays until the request is done.
template <class T>
Request<void> isend_lent(const Comm& comm, const T& value, To to) {
  if constexpr (Flat<T>) {
    return Request<void>(comm.isend(as_buffer(value), to));
  } else {
    return comm.isend(value, to);
  }
}

}  // namespace detail

template <class T, class Values>
Request<std::vector<T>> Neighborhood::exchange(Values values, const char* verb) const {
  const Comm internal_comm = internal(verb);
  auto owned = std::make_unique<detail::NeighborExchange<T, Values>>(std::move(values));
  owned->coming.resize(sources_.size());
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i] != proc_null)
      owned->coming[i] = internal_comm.irecv<T>({.source = sources_[i], .tag = tag_from(i)});
  }
  for (std::size_t i = 0; i < destinations_.size(); ++i) {
    if (destinations_[i] != proc_null)
      owned->sending.push_back(detail::isend_lent<T>(internal_comm, owned->values()[i],
                                                     {.dest = destinations_[i], .tag = tag_to(i)}));
  }
  return Request<std::vector<T>>(
      detail::RequestCore(MPI_REQUEST_NULL, std::move(owned), verb, detail::Dropped::wait));
}

template <class T>
inline std::vector<T> Neighborhood::neighbor_allgather(const T& value) const {
  if constexpr (Plain<T>) {
    const detail::Given<T> copy = value;
    detail::Slots<T> all(sources_.size());
    const std::span<T> in = all.span();
    call_same(detail::NeighborCall::allgather, as_buffer(copy), as_writable(in), "neighbor_allgather");
    return all.take();
  } else {
    return exchange<T>(detail::SameForAll<T>{value}, "neighbor_allgather").get();
  }
}

template <class T>
Request<std::vector<T>> Neighborhood::ineighbor_allgather(T value) const {
  if constexpr (Plain<T>) {
    auto owned = std::make_unique<detail::NeighborResults<T, T>>(std::move(value), sources_.size());
    const std::span<T> in = owned->slots().span();
    const MPI_Request native = icall_same(detail::NeighborCall::allgather, as_buffer(owned->sent()),
                                          as_writable(in), owned->keep, "ineighbor_allgather");
    return Request<std::vector<T>>(
        detail::RequestCore(native, std::move(owned), "ineighbor_allgather", detail::Dropped::detach));
  } else {
    return exchange<T>(detail::SameForAll<T>{std::move(value)}, "ineighbor_allgather");
  }
}

template <class R>
std::vector<std::ranges::range_value_t<R>> Neighborhood::neighbor_alltoall(const R& values) const {
  using T = std::ranges::range_value_t<R>;
  require_values(std::ranges::size(values), "neighbor_alltoall");
  if constexpr (Plain<T>) {
    detail::Slots<T> received(sources_.size());
    const std::span<T> in = received.span();
    if constexpr (Flat<R>) {
      call_same(detail::NeighborCall::alltoall, as_buffer(values), as_writable(in), "neighbor_alltoall");
    } else {
      auto sent = detail::Slots<T>::copy_of(values);
      const std::span<T> out = sent.span();
      call_same(detail::NeighborCall::alltoall, as_buffer(out), as_writable(in), "neighbor_alltoall");
    }
    return received.take();
  } else {
    return exchange<T>(std::span(std::ranges::data(values), std::ranges::size(values)), "neighbor_alltoall")
        .get();
  }
}

template <class T>
Request<std::vector<T>> Neighborhood::ineighbor_alltoall(std::vector<T>&& values) const {
  require_values(values.size(), "ineighbor_alltoall");
  if constexpr (Plain<T>) {
    auto owned = std::make_unique<detail::NeighborResults<T, detail::Slots<T>>>(
        detail::Slots<T>::take_over(std::move(values)), sources_.size());
    const std::span<T> out = owned->sent().span();
    const std::span<T> in = owned->slots().span();
    const MPI_Request native = icall_same(detail::NeighborCall::alltoall, as_buffer(out), as_writable(in),
                                          owned->keep, "ineighbor_alltoall");
    return Request<std::vector<T>>(
        detail::RequestCore(native, std::move(owned), "ineighbor_alltoall", detail::Dropped::detach));
  } else {
    return exchange<T>(std::move(values), "ineighbor_alltoall");
  }
}

// ---- Into memory of the caller's.

template <class In, class Out>
void Neighborhood::neighbor_allgather_into(const In& mine, Out&& all) const {
  call_same(detail::NeighborCall::allgather, as_buffer(mine), as_writable(all), "neighbor_allgather");
}
template <class In, class Out>
Request<void> Neighborhood::ineighbor_allgather_into(const In& mine, Out&& all) const {
  std::shared_ptr<Blocks> keep;
  const MPI_Request native = icall_same(detail::NeighborCall::allgather, as_buffer(mine), as_writable(all),
                                        keep, "ineighbor_allgather");
  return request_of(native, std::move(keep), "ineighbor_allgather");
}
template <class In, class Out>
Persistent Neighborhood::neighbor_allgather_init(const In& mine, Out&& all) const {
  return init_same(detail::NeighborCall::allgather, as_buffer(mine), as_writable(all),
                   "neighbor_allgather_init");
}

template <class In, class Out>
void Neighborhood::neighbor_alltoall_into(const In& out, Out&& in) const {
  call_same(detail::NeighborCall::alltoall, as_buffer(out), as_writable(in), "neighbor_alltoall");
}
template <class In, class Out>
Request<void> Neighborhood::ineighbor_alltoall_into(const In& out, Out&& in) const {
  std::shared_ptr<Blocks> keep;
  const MPI_Request native =
      icall_same(detail::NeighborCall::alltoall, as_buffer(out), as_writable(in), keep, "ineighbor_alltoall");
  return request_of(native, std::move(keep), "ineighbor_alltoall");
}
template <class In, class Out>
Persistent Neighborhood::neighbor_alltoall_init(const In& out, Out&& in) const {
  return init_same(detail::NeighborCall::alltoall, as_buffer(out), as_writable(in), "neighbor_alltoall_init");
}

namespace detail {

// How many MPI elements one element of the user's has.
template <class R>
constexpr MPI_Count units_of() {
  if constexpr (Flat<R>) {
    return Unit<std::ranges::range_value_t<R>>::per_element;
  } else {
    return 1;
  }
}

}  // namespace detail

template <class In, class Out>
void Neighborhood::neighbor_allgatherv_into(const In& mine, Out&& all,
                                            std::span<const MPI_Count> counts) const {
  const char* const verb = "neighbor_allgatherv";
  const auto blocks = gather_blocks(as_buffer(mine), as_writable(all), counts,
                                    detail::units_of<std::remove_cvref_t<Out>>(), verb);
  call_each(*blocks, verb);
}
template <class In, class Out>
Request<void> Neighborhood::ineighbor_allgatherv_into(const In& mine, Out&& all,
                                                      std::span<const MPI_Count> counts) const {
  const char* const verb = "ineighbor_allgatherv";
  auto blocks = gather_blocks(as_buffer(mine), as_writable(all), counts,
                              detail::units_of<std::remove_cvref_t<Out>>(), verb);
  const MPI_Request native = icall_each(*blocks, verb);
  return request_of(native, std::move(blocks), verb);
}
template <class In, class Out>
Persistent Neighborhood::neighbor_allgatherv_init(const In& mine, Out&& all,
                                                  std::span<const MPI_Count> counts) const {
  const char* const verb = "neighbor_allgatherv_init";
  return init_each(gather_blocks(as_buffer(mine), as_writable(all), counts,
                                 detail::units_of<std::remove_cvref_t<Out>>(), verb),
                   verb);
}

template <class In, class Out>
void Neighborhood::neighbor_alltoallv_into(const In& out, std::span<const MPI_Count> out_counts, Out&& in,
                                           std::span<const MPI_Count> in_counts) const {
  const char* const verb = "neighbor_alltoallv";
  const auto blocks =
      ragged_blocks(as_buffer(out), out_counts, as_writable(in), in_counts, detail::units_of<In>(),
                    detail::units_of<std::remove_cvref_t<Out>>(), verb);
  call_each(*blocks, verb);
}
template <class In, class Out>
Request<void> Neighborhood::ineighbor_alltoallv_into(const In& out, std::span<const MPI_Count> out_counts,
                                                     Out&& in, std::span<const MPI_Count> in_counts) const {
  const char* const verb = "ineighbor_alltoallv";
  auto blocks = ragged_blocks(as_buffer(out), out_counts, as_writable(in), in_counts, detail::units_of<In>(),
                              detail::units_of<std::remove_cvref_t<Out>>(), verb);
  const MPI_Request native = icall_each(*blocks, verb);
  return request_of(native, std::move(blocks), verb);
}
template <class In, class Out>
Persistent Neighborhood::neighbor_alltoallv_init(const In& out, std::span<const MPI_Count> out_counts,
                                                 Out&& in, std::span<const MPI_Count> in_counts) const {
  const char* const verb = "neighbor_alltoallv_init";
  return init_each(ragged_blocks(as_buffer(out), out_counts, as_writable(in), in_counts,
                                 detail::units_of<In>(), detail::units_of<std::remove_cvref_t<Out>>(), verb),
                   verb);
}

}  // namespace manyhands::mpi
