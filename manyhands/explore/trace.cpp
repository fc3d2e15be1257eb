#include "manyhands/explore/trace.hpp"

#include <algorithm>
#include <bit>

namespace manyhands::exploring {

void Trace::clear() noexcept {
  events_.clear();
  count_ = 0;
  ++run_;
  needs_full_scan_ = false;
  has_watched_ = false;
}

void Trace::join(Clock& into, const Clock& from) const noexcept {
  for (FiberNumber i = 0; i < count_; ++i) into[i] = std::max(into[i], from[i]);
}

Trace::ObjectClocks& Trace::object_at(ObjectNumber object) {
  if (object >= objects_.size()) objects_.resize(object + 1);
  ObjectClocks& found = objects_[object];
  if (found.run != run_) {
    found.run = run_;
    found.writes.fill(0);
    found.all.fill(0);
    found.last = no_depth;
  }
  return found;
}

void Trace::add_fiber(FiberNumber fiber, FiberNumber parent) {
  count_ = fiber + 1;
  if (fibers_.size() < count_) fibers_.resize(count_);
  FiberClocks& made = fibers_[fiber];
  if (fiber == parent) {
    made.clock.fill(0);
  } else {
    // Entries of fibers that are not there yet are 0 in every clock.
    made.clock = fibers_[parent].clock;
  }
  made.watched.fill(0);
}

void Trace::join_past(Clock& clock, FiberNumber fiber, const Action& action) const noexcept {
  if (needs_full_scan_) {
    join(clock, everything_);
    if (has_watched_) join(clock, fibers_[fiber].watched);
  }
  const FiberSet others = action.object == all_objects ? ~FiberSet{0} : action.watches;
  if (others != 0) {
    for (FiberNumber i = 0; i < count_; ++i)
      if ((others & only(i)) != 0) join(clock, fibers_[i].clock);
  }
  for_each_object(action, [&](ObjectNumber object) {
    if (object < objects_.size() && objects_[object].run == run_)
      join(clock, action.reads ? objects_[object].writes : objects_[object].all);
  });
}

void Trace::add(FiberNumber fiber, const Action& action, bool preempts, bool timed_out) {
  const Depth here = depth();
  Event event{action, fiber, no_depth, preempts, timed_out};
  Clock& clock = fibers_[fiber].clock;
  join_past(clock, fiber, action);
  clock[fiber] = here + 1;
  if (action.object == all_objects) {
    if (!needs_full_scan_) everything_.fill(0);
    join(everything_, clock);
    needs_full_scan_ = true;
  } else {
    for_each_object(action, [&](ObjectNumber number) {
      ObjectClocks& object = object_at(number);
      join(object.all, clock);
      if (!action.reads) object.writes = object.all;
      event.previous_on_object = object.last;
      object.last = here;
    });
    if (action.more[0] != no_object) {  // one chain cannot show it for each of its objects
      if (!needs_full_scan_) everything_.fill(0);
      needs_full_scan_ = true;
    }
  }
  if (action.timed && action.watches != 0) {
    if (!needs_full_scan_) everything_.fill(0);
    for (FiberNumber i = 0; i < count_; ++i)
      if ((action.watches & only(i)) != 0) join(fibers_[i].watched, clock);
    needs_full_scan_ = true;
    has_watched_ = true;
  }
  events_.push_back(event);
  if (event_clocks_.size() <= here) event_clocks_.resize(here + 16);
  std::copy_n(clock.begin(), count_, event_clocks_[here].begin());
}

FiberSet Trace::initials(Depth depth, FiberNumber fiber, const Action& action, FiberSet enough) const {
  FiberSet present = 0;
  FiberSet found = 0;
  std::array<Depth, max_fibers> first;
  const auto comes_first = [&](const Clock& clock) {
    for (FiberSet rest = present; rest != 0; rest &= rest - 1) {
      const auto other = static_cast<FiberNumber>(std::countr_zero(rest));
      if (first[other] < clock[other]) return false;
    }
    return true;
  };
  for (Depth i = depth + 1; i < static_cast<Depth>(events_.size()); ++i) {
    const FiberNumber by = events_[i].fiber;
    if ((present & only(by)) != 0 || precedes_event(depth, i)) continue;
    if (comes_first(event_clocks_[i])) found |= only(by);
    if ((found & enough) != 0) return found;
    present |= only(by);
    first[by] = i;
  }
  if ((present & only(fiber)) == 0) {
    Clock clock = fibers_[fiber].clock;
    join_past(clock, fiber, action);
    if (comes_first(clock)) found |= only(fiber);
  }
  return found;
}

}  // namespace manyhands::exploring
