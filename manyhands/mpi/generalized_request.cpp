#include "manyhands/mpi/generalized_request.hpp"

#include <atomic>

namespace manyhands::mpi {

struct GeneralizedRequest::State {
  MPI_Request native = MPI_REQUEST_NULL;
  std::shared_ptr<Status> status;  // of the one that completes it, written before that; read by MPI's query
  std::atomic<bool> completed{false};  // written once, by complete()
  bool given = false;                  // to a Request
};

namespace {

// What MPI holds of it.
struct Extra {
  std::function<void()> on_cancel;
  std::shared_ptr<Status> status;
};

int query(void* state, MPI_Status* status) {
  const Status& wanted = *static_cast<const Extra*>(state)->status;
  MPI_Status_set_elements_x(status, MPI_BYTE, wanted.bytes);
  MPI_Status_set_cancelled(status, wanted.cancelled ? 1 : 0);
  status->MPI_SOURCE = wanted.source;
  status->MPI_TAG = wanted.tag;
  return MPI_SUCCESS;
}

int release(void* state) {
  delete static_cast<Extra*>(state);
  return MPI_SUCCESS;
}

int cancel(void* state, int complete) {
  const auto& on_cancel = static_cast<Extra*>(state)->on_cancel;
  if (complete == 0 && on_cancel) on_cancel();
  return MPI_SUCCESS;
}

}  // namespace

GeneralizedRequest::GeneralizedRequest(std::function<void()> on_cancel)
    : state_((detail::require_active("GeneralizedRequest"), std::make_shared<State>())) {
  state_->status = std::make_shared<Status>(Status{.source = MPI_UNDEFINED, .tag = MPI_UNDEFINED});
  auto held = std::make_unique<Extra>(Extra{std::move(on_cancel), state_->status});
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
  detail::require_active("GeneralizedRequest::request");
  if (state_ == nullptr || state_->given)
    detail::fail(Errc::request, "GeneralizedRequest::request", {}, "it was given away already");
  state_->given = true;
  auto kept = std::make_unique<detail::Keeps<std::shared_ptr<State>>>(std::shared_ptr<State>(state_));
  return Request<void>(
      detail::RequestCore(state_->native, std::move(kept), "GeneralizedRequest", detail::Dropped::detach));
}

void GeneralizedRequest::complete(const Status& status) {
  detail::require_active("GeneralizedRequest::complete");
  if (state_ == nullptr || state_->completed.exchange(true))
    detail::fail(Errc::request, "GeneralizedRequest::complete", {}, "it was completed already");
  *state_->status = status;
  detail::check(MPI_Grequest_complete(state_->native), "GeneralizedRequest::complete");
}

}  // namespace manyhands::mpi
