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

void LateReceive::post(CommState& state) {
  const std::lock_guard lock(state.mutex);
  state.unmatched.push_back(this);
  state_.store(&state, std::memory_order_release);
  watch(state);
}

LateReceive::~LateReceive() { leave(); }

bool LateReceive::leave() noexcept {
  CommState* const state = state_.load(std::memory_order_acquire);
  if (state == nullptr) return false;
  const auto kept = state->shared_from_this();
  const std::lock_guard lock(state->mutex);
  if (!waits()) return false;  // another thread has just matched it
  auto& queue = state->unmatched;
  queue.erase(std::find(queue.begin(), queue.end(), this));
  unwatch(*state);
  state_.store(nullptr, std::memory_order_release);
  return true;
}

void LateReceive::lose() noexcept {
  failure_ = freed_error("irecv");
  state_.store(nullptr, std::memory_order_release);
}

std::exception_ptr freed_error(const char* verb) noexcept {
  try {
    fail(Errc::comm, verb, {}, "the communicator was freed before the operation was done");
  } catch (...) {
    return std::current_exception();
  }
}

void forget_waiting(CommState& state) noexcept {
  const std::lock_guard lock(state.mutex);
  const auto left = static_cast<int>(state.unmatched.size() + state.line.size());
  for (LateReceive* const late : state.unmatched) late->lose();
  state.unmatched.clear();
  for (InLine* const one : state.line) {
    one->lost();
    one->line_.store(nullptr, std::memory_order_release);
  }
  state.line.clear();
  driven.fetch_sub(left, std::memory_order_relaxed);
  const std::lock_guard all(waiting().mutex);
  std::erase(waiting().states, &state);
}

void finish_line(CommState& state) {
  const auto stands = [&state] {
    const std::lock_guard lock(state.mutex);
    return !state.line.empty();
  };
  for (Backoff backoff; stands(); backoff.pause()) advance_line(state);
}

InLine::~InLine() {
  CommState* const state = line_.load(std::memory_order_acquire);
  if (state == nullptr) return;
  const std::lock_guard lock(state->mutex);
  if (std::erase(state->line, this) != 0) unwatch(*state);
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
    InLine& done = *state.line.front();
    state.line.erase(state.line.begin());
    unwatch(state);
    done.line_.store(nullptr, std::memory_order_release);  // its owner may drop it now
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
    try {  // who drives is not to be told what befell another's receive
      int found = 0;
      MPI_Message message = MPI_MESSAGE_NULL;
      MPI_Status status{};
      check(MPI_Improbe(next.source_, next.tag_, state.comm, &found, &message, &status), "irecv",
            {.comm = state.comm, .source = next.source_, .tag = next.tag_});
      if (found == 0) {
        ++i;
        continue;
      }
      next.matched(message, status);
    } catch (...) {
      next.failure_ = std::current_exception();
    }
    queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(i));
    unwatch(state);
    next.state_.store(nullptr, std::memory_order_release);  // its owner may drop it now
  }
}

void drive_all() {
  if (driven.load(std::memory_order_relaxed) == 0) return;
  std::vector<std::shared_ptr<CommState>> states;
  {
    const std::lock_guard all(waiting().mutex);
    for (CommState* const state : waiting().states) states.push_back(state->shared_from_this());
  }
  for (const auto& state : states) {
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
