#include "manyhands/task/state.hpp"

#include <algorithm>
#include <condition_variable>

#include "manyhands/base/mutex.hpp"
#include "manyhands/base/own_thread.hpp"
#include "manyhands/task/seat.hpp"

namespace manyhands::task {
namespace {

// States filled by hand are few and rarely waited for: one mutex and condition for all of them.
struct Bell {
  std::mutex mutex;
  std::condition_variable rung;
};

Bell& bell() {
  static Bell instance;
  return instance;
}

template <class Ready>
bool wait_for_bell(Ready ready, const Deadline& deadline) {
  const SeatsLeft seats;  // what rings may be a task that waits for a thread
  std::unique_lock lock(bell().mutex);
  if (deadline.bounded()) return bell().rung.wait_for(lock, deadline.left(), ready);
  bell().rung.wait(lock, ready);
  return true;
}

}  // namespace

StateBase::~StateBase() {
  Node* node = continuations_.load(std::memory_order_relaxed);  // the last owner: nobody else is left
  if (node == finished()) return;
  while (node != nullptr) delete std::exchange(node, node->next);
}

void StateBase::on_ready(Continuation continuation) {
  auto node = std::make_unique<Node>(Node{[errand = Errand(), run = std::move(continuation)] { run(); },
                                          continuations_.load(std::memory_order_acquire)});
  while (node->next != finished()) {
    const bool first = node->next == nullptr;
    // release: finish() sees the node; acquire on failure: if finished, we see the outcome
    if (continuations_.compare_exchange_weak(node->next, node.get(), std::memory_order_release,
                                             std::memory_order_acquire)) {
      static_cast<void>(node.release());
      if (first) expect_continuation();
      return;
    }
  }
  node->run();
}

void StateBase::finish() {
  outcome_.released();
  Node* node = continuations_.exchange(finished(), std::memory_order_acq_rel);
  Node* first = nullptr;
  while (node != nullptr) {  // in the order of their registration
    Node* const next = node->next;
    node->next = first;
    first = node;
    node = next;
  }
  while (first != nullptr) {
    const std::unique_ptr<Node> current(first);
    first = first->next;
    dispatch(std::move(current->run));
  }
}

void ManualWait::notify() {
  {
    const std::lock_guard lock(bell().mutex);
  }  // a waiter is either before its check or asleep
  bell().rung.notify_all();
}

bool ManualWait::wait(const StateBase& state, const Source& source, const Deadline& deadline) {
  if (state.ready()) return true;
  if (source != nullptr && !source->wait(deadline)) return state.ready();
  return wait_for_bell([&] { return state.ready(); }, deadline);
}

void ManualWait::wait_any(std::span<StateBase* const> states, std::span<const Source> sources,
                          const Deadline& deadline) {
  const auto any_ready = [&] {
    return std::any_of(states.begin(), states.end(), [](const StateBase* s) { return s->ready(); });
  };
  if (any_ready()) return;
  std::vector<StateBase*> waited;
  for (const auto& source : sources) {
    // One that has come, or that nobody fills by way of another: its continuation rings the bell.
    if (source == nullptr || source->ready()) waited.clear();
    if (source == nullptr || source->ready()) break;
    waited.push_back(source.get());
  }
  if (!waited.empty()) waited.front()->wait_any(waited, deadline);
  wait_for_bell(any_ready, deadline);
}

}  // namespace manyhands::task
