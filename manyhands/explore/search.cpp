#include "manyhands/explore/search.hpp"

#include <fmt/core.h>

#include <bit>

#include "manyhands/base/error.hpp"

namespace manyhands::exploring {
namespace {

FiberNumber lowest(FiberSet set) noexcept { return static_cast<FiberNumber>(std::countr_zero(set)); }

std::string describe(FiberNumber fiber, const Action& action) {
  return fmt::format("process {}: {} at {}", fiber, action.ends ? "end" : shm::name_of(action.kind),
                     shm::describe(action.site));
}

}  // namespace

FiberNumber willing_fiber(const State& state) noexcept {
  if (state.previous == max_fibers || (state.ready & only(state.previous)) == 0) return max_fibers;
  return (*state.pending)[state.previous].action.kind == shm::OpKind::sleep ? max_fibers : state.previous;
}

FiberNumber preferred(const State& state, FiberSet among) noexcept {
  const FiberNumber willing = willing_fiber(state);
  if (willing != max_fibers && (among & only(willing)) != 0) return willing;
  FiberSet best = among & state.ready;
  // Who sleeps lets the others go first.
  for (FiberSet rest = best; rest != 0; rest &= rest - 1) {
    const FiberNumber fiber = lowest(rest);
    if ((*state.pending)[fiber].action.kind != shm::OpKind::sleep) return fiber;
  }
  if (best == 0) best = among;
  return lowest(best);
}

FiberSet Search::allowed(const Node& node) const noexcept {
  if (node.willing != max_fibers && node.preemptions >= options_.max_preemptions)
    return node.enabled & only(node.willing);
  return node.enabled;
}

std::uint32_t Search::preemptions_after(const Node& node) const noexcept {
  return node.preemptions + (node.willing != max_fibers && node.chosen != node.willing ? 1 : 0);
}

void Search::take(Node& node, FiberNumber fiber) noexcept {
  node.chosen = fiber;
  node.done |= only(fiber);
  node.todo |= only(fiber);
}

std::optional<Search::Choice> Search::choose(const State& state, const Trace& trace) {
  const bool repeated = next_ < path_.size();
  std::optional<Choice> choice;
  if (repeated) {
    choice = repeat(path_[next_], state);
  } else {
    choice = choose_new(state);
  }
  ++next_;
  if (!choice.has_value()) {
    // What sleeps is seen elsewhere.
    add_backtrack_points(state, state.live & ~state.ready, trace);
  } else if (next_ == path_.size()) {  // not done in this state before
    const Pending& chosen = (*state.pending)[choice->fiber];
    path_.back().action = chosen.action;
    add_backtrack_points(choice->fiber, chosen, trace);
  }
  return choice;
}

// What was not done in this run may be in a race, too.
void Search::stop(const State& state, const Trace& trace) { add_backtrack_points(state, state.live, trace); }

void Search::add_backtrack_points(const State& state, FiberSet fibers, const Trace& trace) {
  for (; fibers != 0; fibers &= fibers - 1)
    add_backtrack_points(lowest(fibers), (*state.pending)[lowest(fibers)], trace);
}

Search::Choice Search::repeat(const Node& node, const State& state) const {
  const Action& now = (*state.pending)[node.chosen].action;
  // The last node's choice is new: what it does there was announced, but not recorded.
  const bool recorded = next_ + 1 < path_.size();
  if ((state.enabled & only(node.chosen)) == 0 || state.enabled != node.enabled ||
      (recorded && !same_step(now, node.action))) {
    const std::string came = (state.live & only(node.chosen)) != 0
                                 ? describe(node.chosen, now)
                                 : fmt::format("process {} has ended", node.chosen);
    throw Error(fmt::format(
        "mh::explore: step {} of a schedule came out otherwise when the program was run again: expected {}, "
        "came {}{}. The "
        "explored program must do the same when its steps come in the same order: nothing in it may depend "
        "on the time, on "
        "addresses, on random numbers that are not seeded inside of it, or on what an earlier run left "
        "behind",
        next_ + 1,
        recorded ? describe(node.chosen, node.action) : fmt::format("process {} to go on", node.chosen), came,
        state.enabled != node.enabled ? ", and other processes could go on" : ""));
  }
  return {node.chosen, node.willing != max_fibers && node.chosen != node.willing};
}

std::optional<Search::Choice> Search::choose_new(const State& state) {
  Node node{};
  node.enabled = state.enabled;
  node.willing = willing_fiber(state);
  if (!path_.empty()) {
    const Node& parent = path_.back();
    node.preemptions = preemptions_after(parent);
    if (options_.reduction != Reduction::none) {
      for (FiberSet rest = parent.sleep & ~only(parent.chosen); rest != 0; rest &= rest - 1) {
        const FiberNumber fiber = lowest(rest);
        if (!dependent(fiber, (*state.pending)[fiber].action, parent.chosen, parent.action))
          node.sleep |= only(fiber);
      }
    }
  }
  const FiberSet choices = allowed(node);
  if (choices != node.enabled) bounded_ = true;
  const FiberSet awake = choices & ~node.sleep;
  if (awake == 0) return std::nullopt;
  const FiberNumber fiber = preferred(state, awake);
  take(node, fiber);
  if (options_.reduction != Reduction::partial_order) node.todo |= choices;
  path_.push_back(node);
  return Choice{fiber, node.willing != max_fibers && fiber != node.willing};
}

// For all events that could come after what `fiber` is about to do, where they come before it now.
void Search::add_backtrack_points(FiberNumber fiber, const Pending& pending, const Trace& trace) {
  if (options_.reduction != Reduction::partial_order) return;
  // No order but the present one: it could not be done before that event ...
  const auto unswappable = [&](Depth depth) {
    const Action& before = trace.events()[depth].action;
    if (pending.action.timed) return false;
    // ... as it was waiting for it (or for one that is dependent with it, whose own race is found). One that
    // waits for several objects may have waited for another of them, which others could give it first ...
    if (pending.action.more[0] == no_object && depth >= pending.announced_at &&
        (path_[depth].enabled & only(fiber)) == 0)
      return true;
    // ... or since the lock was held until then.
    return before.proper && pending.action.blocks && pending.action.kind == shm::OpKind::acquire &&
           is_about(pending.action, before.object);
  };
  trace.find_races(fiber, pending.action, unswappable, [&](Depth depth) {
    Node& node = path_[depth];
    const FiberSet known = node.todo | node.sleep;
    const FiberSet first = trace.initials(depth, fiber, pending.action, known) & node.enabled;
    if ((first & known) != 0) return;
    node.todo |= first != 0 ? only(lowest(first)) : node.enabled;
  });
}

bool Search::next_run() {
  next_ = 0;
  while (!path_.empty()) {
    Node& node = path_.back();
    if (options_.reduction != Reduction::none) node.sleep |= only(node.chosen);
    const FiberSet open = node.todo & allowed(node) & ~node.done & ~node.sleep;
    if (open != 0) {
      take(node, lowest(open));
      return true;
    }
    path_.pop_back();
  }
  return false;
}

}  // namespace manyhands::exploring
