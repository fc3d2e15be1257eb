#include "manyhands/mpi/late_receive.hpp"

#include <algorithm>

namespace manyhands::mpi::detail {
namespace {

// The communicators with something to drive.
struct Waiting {
  std::mutex mutex;
  std::vector<CommState*> states;  // guarded by mutex
};

Waiting& waiting() {
  static Waiting known;
  return known;
}

// Requires: the mutex of `state` is held.
void watch(CommState& state) {
  driven.fetch_add(1, std::memory_order_relaxed);
  const std::lock_guard all(waiting().mutex);
  auto& states = waiting().states;
  if (std::find(states.begin(), states.end(), &state) == states.end()) states.push_back(&state);
}
void unwatch(CommState& state) {
  driven.fetch_sub(1, std::memory_order_relaxed);
  if (!state.unmatched.empty() || !state.line.empty()) return;
  const std::lock_guard all(waiting().mutex);
  std::erase(waiting().states, &state);
}

}  // namespace

LateReceive::LateReceive(CommState& state, int source, int tag) : state_(&state), source_(source), tag_(tag) {
  const std::lock_guard lock(state.mutex);
  state.unmatched.push_back(this);
  watch(state);
}

LateReceive::~LateReceive() { leave(); }

void LateReceive::leave() noexcept {
  if (state_ == nullptr) return;
  const std::lock_guard lock(state_->mutex);
  auto& queue = state_->unmatched;
  queue.erase(std::find(queue.begin(), queue.end(), this));
  unwatch(*state_);
  state_ = nullptr;
}

InLine::~InLine() {
  if (line_ == nullptr) return;
  const std::lock_guard lock(line_->mutex);
  std::erase(line_->line, this);
  unwatch(*line_);
}

void InLine::join_line(CommState& state) {
  const std::lock_guard lock(state.mutex);
  state.line.push_back(this);
  line_ = &state;
  watch(state);
}

void advance_line(CommState& state) {
  const std::lock_guard lock(state.mutex);
  while (!state.line.empty() && state.line.front()->go_on()) {
    state.line.front()->line_ = nullptr;
    state.line.erase(state.line.begin());
    unwatch(state);
  }
}

void match_late(CommState& state) {
  const std::lock_guard lock(state.mutex);
  auto& queue = state.unmatched;
  for (std::size_t i = 0; i < queue.size();) {
    LateReceive& next = *queue[i];
    const auto earlier = [&](std::size_t j) { return queue[j]->overlaps(next.source_, next.tag_); };
    bool behind = false;
    for (std::size_t j = 0; j < i; ++j) behind = behind || earlier(j);
    if (behind) {
      ++i;
      continue;
    }
    int found = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status{};
    check(MPI_Improbe(next.source_, next.tag_, state.comm, &found, &message, &status), "irecv",
          {.comm = state.comm, .source = next.source_, .tag = next.tag_});
    if (found == 0) {
      ++i;
      continue;
    }
    queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(i));
    unwatch(state);
    next.state_ = nullptr;
    next.matched(message, status);
  }
}

void drive_all() {
  if (driven.load(std::memory_order_relaxed) == 0) return;
  std::vector<CommState*> states;
  {
    const std::lock_guard all(waiting().mutex);
    states = waiting().states;
  }
  for (CommState* const state : states) {
    match_late(*state);
    advance_line(*state);
  }
}

bool stands_behind_late(CommState& state, int source, int tag) {
  if (driven.load(std::memory_order_relaxed) == 0) [[likely]]
    return false;
  const std::lock_guard lock(state.mutex);
  return std::any_of(state.unmatched.begin(), state.unmatched.end(),
                     [&](const LateReceive* late) { return late->overlaps(source, tag); });
}

void pass_late(CommState& state, int source, int tag) {
  Backoff backoff;
  while (stands_behind_late(state, source, tag)) {
    match_late(state);
    backoff.pause();
  }
}

}  // namespace manyhands::mpi::detail
