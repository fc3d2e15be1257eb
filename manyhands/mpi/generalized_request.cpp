#include "manyhands/mpi/generalized_request.hpp"

#include <atomic>

namespace manyhands::mpi {

struct GeneralizedRequest::State {
  MPI_Request native = MPI_REQUEST_NULL;
  std::function<void()> on_cancel;
  std::atomic<bool> completed{false};  // written once, by complete()
  bool given = false;                  // to a Request
};

namespace {

using OnCancel = std::function<void()>;

int query(void*, MPI_Status* status) {
  MPI_Status_set_elements(status, MPI_BYTE, 0);
  MPI_Status_set_cancelled(status, 0);
  status->MPI_SOURCE = MPI_UNDEFINED;
  status->MPI_TAG = MPI_UNDEFINED;
  return MPI_SUCCESS;
}

int release(void* state) {
  delete static_cast<OnCancel*>(state);
  return MPI_SUCCESS;
}

int cancel(void* state, int complete) {
  if (complete == 0 && *static_cast<OnCancel*>(state)) (*static_cast<OnCancel*>(state))();
  return MPI_SUCCESS;
}

}  // namespace

GeneralizedRequest::GeneralizedRequest(std::function<void()> on_cancel)
    : state_((detail::require_active("GeneralizedRequest"), std::make_shared<State>())) {
  auto held = std::make_unique<OnCancel>(std::move(on_cancel));
  detail::check(MPI_Grequest_start(query, release, cancel, held.get(), &state_->native),
                "GeneralizedRequest");
  static_cast<void>(held.release());  // release() deletes it
}

GeneralizedRequest::~GeneralizedRequest() {
  if (state_ == nullptr || !is_active()) return;
  if (!state_->completed.exchange(true)) MPI_Grequest_complete(state_->native);
  if (!state_->given) MPI_Request_free(&state_->native);
}

Request<void> GeneralizedRequest::request() {
  if (state_ == nullptr || state_->given)
    detail::fail(Errc::request, "GeneralizedRequest::request", {}, "it was given away already");
  state_->given = true;
  auto kept = std::make_unique<detail::Keeps<std::shared_ptr<State>>>(std::shared_ptr<State>(state_));
  return Request<void>(
      detail::RequestCore(state_->native, std::move(kept), "GeneralizedRequest", detail::Dropped::detach));
}

void GeneralizedRequest::complete() {
  detail::require_active("GeneralizedRequest::complete");
  if (state_ == nullptr || state_->completed.exchange(true))
    detail::fail(Errc::request, "GeneralizedRequest::complete", {}, "it was completed already");
  detail::check(MPI_Grequest_complete(state_->native), "GeneralizedRequest::complete");
}

}  // namespace manyhands::mpi
