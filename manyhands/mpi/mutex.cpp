#include "manyhands/mpi/mutex.hpp"

#include <array>

namespace manyhands::mpi {
namespace {

constexpr int i_am_next = 1;  // tags
constexpr int it_is_yours = 2;
constexpr int your_turn = 7;
constexpr std::array<std::byte, 0> nothing{};

}  // namespace

Mutex::Mutex(const Comm& comm) : comm_(comm.dup()), last_(comm_, comm_.rank() == 0 ? 1 : 0) {}

void Mutex::lock() {
  if (held_) detail::fail(Errc::other, "Mutex::lock", {.comm = comm_.native()}, "this rank holds it already");
  const int before = last_.fetch_op(0, 0, comm_.rank() + 1, replace);
  if (before != 0) {
    auto told = comm_.isend(std::span(nothing), {.dest = before - 1, .tag = i_am_next});
    comm_.recv_into(std::span<std::byte>(), {.source = before - 1, .tag = it_is_yours});
    told.wait();
  }
  held_ = true;
}

bool Mutex::try_lock() {
  if (held_) return false;
  held_ = last_.compare_and_swap(0, 0, 0, comm_.rank() + 1) == 0;
  return held_;
}

void Mutex::unlock() {
  if (!held_)
    detail::fail(Errc::other, "Mutex::unlock", {.comm = comm_.native()}, "this rank does not hold it");
  held_ = false;
  if (last_.compare_and_swap(0, 0, comm_.rank() + 1, 0) == comm_.rank() + 1) return;
  const auto next = comm_.recv_into(std::span<std::byte>(), {.tag = i_am_next});
  comm_.send(std::span(nothing), {.dest = next.source, .tag = it_is_yours});
}

namespace detail {

TurnInOrder::TurnInOrder(const Comm& comm)
    : comm_(internal_of(state_of(comm.native()))), rank_(comm.rank()), size_(comm.size()) {
  if (rank_ > 0) {
    check(MPI_Recv(nullptr, 0, MPI_BYTE, rank_ - 1, your_turn, comm_, MPI_STATUS_IGNORE), "in_rank_order",
          {.comm = comm_});
  }
}

TurnInOrder::~TurnInOrder() {
  if (rank_ + 1 < size_) MPI_Send(nullptr, 0, MPI_BYTE, rank_ + 1, your_turn, comm_);
}

}  // namespace detail
}  // namespace manyhands::mpi
