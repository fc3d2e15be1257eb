#pragma once
// GeneralizedRequest: something of one's own that others wait for as for any request of MPI.
//
//   mpi::GeneralizedRequest work;
//   std::jthread worker([&] { compute(); work.complete(); });
//   mpi::Request<void> request = work.request();      // for wait_all, co_await, ...
//   request.wait();
//
// Source: MPI 3.1, 12.2.

#include <functional>
#include <memory>

#include "manyhands/mpi/request.hpp"

namespace manyhands::mpi {

// A resource: moved, not copied.
class GeneralizedRequest {
 public:
  // `on_cancel` is called if somebody cancels the request before it is complete; it may call complete().
  explicit GeneralizedRequest(std::function<void()> on_cancel = {});
  GeneralizedRequest(GeneralizedRequest&& other) noexcept = default;
  GeneralizedRequest& operator=(GeneralizedRequest&&) = delete;
  // Completes it, so that nobody waits for ever.
  ~GeneralizedRequest();

  // What is waited for; once.
  Request<void> request();
  // The operation is done. Any thread (ThreadLevel::multiple); once. What `status` says is what status() of
  // the request gives then.
  void complete(const Status& status = {.source = undefined_rank, .tag = undefined_rank});

 private:
  static constexpr int undefined_rank = MPI_UNDEFINED;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace manyhands::mpi
