#pragma once
// Trace: what a run did so far, in the order in which it was done, and which of it had to come before which.
//
// An event comes before another if the two are dependent, or of one fiber, or linked by a chain of such
// pairs. Runs whose events come before each other in the same way end in the same way. Kept as vector clocks:
// clock(f)[g] is 1 + the depth of the last event of g that comes before all that f does from now on; 0 if
// there is none.
//
// One thread.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "manyhands/explore/action.hpp"

namespace manyhands::exploring {

using Depth = std::uint32_t;  // the index of an event in its run; also of the state before it
inline constexpr Depth no_depth = UINT32_MAX;

class Trace {
 public:
  struct Event {
    Action action;
    FiberNumber fiber = 0;
    Depth previous_on_object = no_depth;
    bool preempts = false;   // another fiber could have gone on
    bool timed_out = false;  // happened before it was ready
  };

  void clear() noexcept;
  // A fiber that `parent` started; the main fiber is its own parent. Requires that it has the next number.
  void add_fiber(FiberNumber fiber, FiberNumber parent);
  // `fiber` does `action`.
  void add(FiberNumber fiber, const Action& action, bool preempts, bool timed_out);

  const std::vector<Event>& events() const noexcept { return events_; }
  Depth depth() const noexcept { return static_cast<Depth>(events_.size()); }

  // Whether the event at `depth` comes before all that `fiber` does from now on.
  bool precedes(Depth depth, FiberNumber fiber) const noexcept {
    return depth < fibers_[fiber].clock[events_[depth].fiber];
  }

  // The events that `action`, which `fiber` is about to do, is in a race with: they are dependent, and
  // nothing else puts them in an order. Except those for which unswappable(depth) holds; then what comes
  // before them is looked at. Calls found(depth) for each.
  template <class Unswappable, class Found>
  void find_races(FiberNumber fiber, const Action& action, Unswappable unswappable, Found found) const {
    races_.clear();
    // An action on several objects may be impossible before the later event, as another of its objects was
    // not free then, and possible before the earlier one.
    const bool only_latest = action.more[0] == no_object;
    const auto consider = [&](Depth depth) {
      for (const Depth later : races_)
        if (only_latest && precedes_event(depth, later)) return false;
      if (unswappable(depth)) return false;
      races_.push_back(depth);
      found(depth);
      return true;
    };
    if (needs_full_scan_ || action.object == all_objects || action.more[0] != no_object ||
        (action.timed && action.watches != 0)) {
      for (Depth i = depth(); i-- > 0;) {
        const Event& event = events_[i];
        if (event.fiber != fiber && dependent(event.fiber, event.action, fiber, action) &&
            !precedes(i, fiber))
          consider(i);
      }
      return;
    }
    if (action.object == no_object || action.object >= objects_.size() || objects_[action.object].run != run_)
      return;
    for (Depth i = objects_[action.object].last; i != no_depth; i = events_[i].previous_on_object) {
      const Event& event = events_[i];
      // What was done to the object before a write comes before that.
      if (precedes(i, fiber)) {
        if (!event.action.reads) return;
      } else if (!(event.action.reads && action.reads) && consider(i) && !event.action.reads) {
        return;
      }
    }
  }

  // The fibers of which a step could be next, in the state before `depth`, on the way to a run where `action`
  // by `fiber` comes before the event at `depth`: those whose first event after `depth`, among the events
  // that need not come after the one at `depth` and `action` itself, comes after no other one of these. Looks
  // no further once one of `enough` is found. Source: P. Abdulla, S. Aronis, B. Jonsson, K. Sagonas, "Source
  // Sets" (2017): the initials of notdep(depth).action.
  FiberSet initials(Depth depth, FiberNumber fiber, const Action& action, FiberSet enough) const;

 private:
  using Clock = std::array<Depth, max_fibers>;  // only the first count_ entries hold
  struct FiberClocks {
    Clock clock;
    Clock watched;  // of those who looked, with a time limit, whether this fiber had ended
  };
  struct ObjectClocks {
    Clock writes;
    Clock all;
    Depth last = no_depth;  // event
    std::uint64_t run = 0;  // in which the rest holds
  };
  bool precedes_event(Depth depth, Depth later) const noexcept {
    return depth < event_clocks_[later][events_[depth].fiber];
  }
  void join(Clock& into, const Clock& from) const noexcept;
  // What comes before `action` if `fiber` does it now.
  void join_past(Clock& clock, FiberNumber fiber, const Action& action) const noexcept;
  ObjectClocks& object_at(ObjectNumber object);

  std::vector<Event> events_;
  std::vector<Clock> event_clocks_;   // of each event, itself included; longer than events_
  mutable std::vector<Depth> races_;  // of the last find_races()
  std::vector<FiberClocks> fibers_;   // only the first count_ are of this run
  FiberNumber count_ = 0;
  std::vector<ObjectClocks> objects_;
  Clock everything_{};            // of the last event on all_objects
  bool needs_full_scan_ = false;  // there is an event that the chains of objects do not show
  bool has_watched_ = false;
  std::uint64_t run_ = 1;
};

}  // namespace manyhands::exploring
