#include "manyhands/explore/world.hpp"

#include <cxxabi.h>
#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <mutex>
#include <utility>

#include "manyhands/base/error.hpp"
#include "manyhands/base/stack_trace.hpp"

namespace manyhands::exploring {
namespace {

constexpr std::uint32_t free_unwind_steps = 1000;  // done by a fiber that is unwound before it is made to end
constexpr std::uint32_t most_unwind_steps = 100'000;  // then it is given up

FiberNumber lowest(FiberSet set) noexcept { return static_cast<FiberNumber>(std::countr_zero(set)); }
FiberNumber highest(FiberSet set) noexcept { return 63 - static_cast<FiberNumber>(std::countl_zero(set)); }

// Switches the primitives' questions on, for this thread, while it lives.
class Watching {
 public:
  explicit Watching(shm::Scheduler& scheduler) {
    count(1);
    shm::detail::scheduler = &scheduler;
  }
  ~Watching() {
    shm::detail::scheduler = nullptr;
    count(-1);
  }
  Watching(const Watching&) = delete;
  Watching& operator=(const Watching&) = delete;

 private:
  static void count(int change) {
    static std::mutex mutex;
    static int explorers = 0;  // guarded by mutex: runs under way in this process
    const std::lock_guard lock(mutex);
    explorers += change;
    if (explorers > 0) {
      shm::detail::watch.fetch_or(shm::detail::watch_explore);
    } else {
      shm::detail::watch.fetch_and(~std::uint32_t{shm::detail::watch_explore});
    }
  }
};

std::string short_place(shm::Site site) {
  if (site == 0) return "?";
  std::string text = shm::describe(site);
  if (text.find("manyhands::Process::finish") != std::string::npos) return "the end of its scope";
  if (const auto function = text.find(" ("); function != std::string::npos) text.resize(function);
  if (const auto folder = text.rfind('/'); folder != std::string::npos) text.erase(0, folder + 1);
  return text;
}

}  // namespace

std::string describe_exception(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return fmt::format("{}: {}", demangle(typeid(e).name()), e.what());
  } catch (...) {
    const std::type_info* const type = abi::__cxa_current_exception_type();
    return type != nullptr ? demangle(type->name()) : "something";
  }
}

World::World(std::size_t stack_bytes, std::size_t max_steps)
    : stack_bytes_(stack_bytes), max_steps_(max_steps) {
  table_.resize(64);
}

World::~World() {
  for (const auto& slot : slots_)
    if (slot->token != 0) shm::leave_fiber(slot->token);
  for (const Spare& spare : spare_) shm::leave_fiber(spare.token);
}

// ---- A run.

RunEnd World::run(Chooser& chooser, void (*body)(void*), void* context) {
  shm::ensure_heap();
  chooser_ = &chooser;
  trace_.clear();
  state_ = {.pending = &pending_};
  count_ = 0;
  current_ = root;
  steps_ = preemptions_ = 0;
  unwanted_ = unwinding_ = main_returned_ = false;
  end_ = RunEnd::finished;
  main_error_ = chooser_error_ = nullptr;
  failures_.clear();
  deadlock_.clear();
  objects_.resize(1);
  ++run_number_;

  {
    const Watching watching(*this);
    root_token_ = shm::exchange_this_thread(0);
    launch("main", body, context);
    const FiberNumber first = decide();
    if (first != root) switch_to(first);
    if (end_ == RunEnd::deadlock) deadlock_ = describe_deadlock();
    unwind();
    shm::exchange_this_thread(root_token_);
  }
  if (chooser_error_ != nullptr) std::rethrow_exception(chooser_error_);
  if (!lost_.empty()) {
    throw Error(
        fmt::format("mh::explore: process '{}' could not be ended in a schedule that cannot go on: it "
                    "catches every exception and "
                    "continues. Let exceptions that are not std::exception pass",
                    std::exchange(lost_, {})));
  }
  return unwanted_ && end_ == RunEnd::finished ? RunEnd::unwanted : end_;
}

void World::switch_to(FiberNumber next) noexcept {
  Fiber& from = fiber_of(current_);
  from.switch_to(*arrive_at(next));
}

Fiber* World::arrive_at(FiberNumber next) noexcept {
  current_ = next;
  shm::exchange_this_thread(next == root ? root_token_ : slots_[next]->token);
  return &fiber_of(next);
}

FiberNumber World::launch(std::string_view name, void (*body)(void*), void* context) {
  if (count_ == max_fibers)
    throw Error(
        fmt::format("mh::explore: a program with more than {} processes cannot be explored", max_fibers - 1));
  const FiberNumber number = count_;
  if (slots_.size() == number) slots_.push_back(std::make_unique<Slot>());
  Slot& slot = *slots_[number];
  if (slot.fiber == nullptr) slot.fiber = std::make_unique<Fiber>(stack_bytes_);
  const std::string full_name = name.empty() ? fmt::format("Process-{}", number) : std::string(name);
  if (slot.token == 0 || slot.name != full_name) {
    if (slot.token != 0) spare_.push_back({std::move(slot.name), slot.token});
    slot.token = take_token(full_name);
    slot.name = full_name;
  }
  slot.world = this;
  slot.number = number;
  slot.body = body;
  slot.context = context;
  slot.starter = current_;
  slot.first_step_past = slot.timed_out = false;
  slot.joined = 0;
  slot.in_wait = false;
  slot.given_up = no_object;
  slot.unwind_steps = 0;
  slot.fiber->start(&run_slot, &slot);
  ++count_;
  state_.live |= only(number);
  if (!unwanted_) trace_.add_fiber(number, current_ == root ? number : current_);
  switch_to(number);
  return number;
}

// An entry among the participants by that name, a spare one if possible: entering costs more than a run.
shm::ThreadToken World::take_token(std::string_view name) {
  constexpr std::size_t most_spare = std::size_t{2} * max_fibers;
  const auto found =
      std::find_if(spare_.begin(), spare_.end(), [&](const Spare& spare) { return spare.name == name; });
  if (found != spare_.end()) {
    const shm::ThreadToken token = found->token;
    spare_.erase(found);
    return token;
  }
  if (spare_.size() > most_spare) {
    shm::leave_fiber(spare_.front().token);
    spare_.erase(spare_.begin());
  }
  return shm::enter_fiber(name);
}

Fiber* World::run_slot(void* context) {
  Slot& slot = *static_cast<Slot*>(context);
  World& world = *slot.world;
  try {
    slot.body(slot.context);
    if (slot.number == 0) world.main_returned_ = !world.unwinding_;
  } catch (const Unwind&) {
  } catch (...) {
    if (world.unwinding_) {
      // of no interest: it would not be there without us
    } else if (slot.number == 0) {
      world.main_error_ = std::current_exception();
    } else {
      world.failures_.push_back(
          fmt::format("{} threw {}", slot.name, describe_exception(std::current_exception())));
    }
  }
  return world.arrive_at(world.end_current());
}

// The current fiber has nothing left to do. Returns who goes on.
FiberNumber World::end_current() {
  Slot& slot = *slots_[current_];
  const FiberNumber number = current_;
  // The end of a fiber is part of its last step, unless it matters to others: whoever waits for a lock of a
  // holder that ended will find that out.
  const ObjectNumber held = held_by(number);
  if (held != no_object && !unwinding_) {
    try {
      announce({.kind = shm::OpKind::release, .ends = true, .object = held}, {});
    } catch (const Unwind&) {
    }
  }
  if (held != no_object) shm::leave_fiber(std::exchange(slot.token, 0));
  state_.live &= ~only(number);
  if (unwinding_) return root;
  if (!std::exchange(slot.first_step_past, true)) return slot.starter;
  return decide();
}

// The lock that the fiber has; all_objects if there are several.
ObjectNumber World::held_by(FiberNumber fiber) const noexcept {
  ObjectNumber held = no_object;
  for (ObjectNumber i = 1; i < objects_.size(); ++i) {
    // Looked at only if the fiber took it and did not release it: else its block may be another one's by now.
    if ((objects_[i].takers & only(fiber)) == 0 || shm::header_of(objects_[i].offset).refs.load() == 0)
      continue;
    if (shm::at<shm::LockState>(objects_[i].offset).owner() != slots_[fiber]->token) continue;
    held = held == no_object ? i : all_objects;
  }
  return held;
}

// ---- Steps.

void World::step(const shm::Operation& operation, shm::Readiness ready) {
  // A new process ran to its first step at once, and what it does before that nobody sees: no step.
  if (operation.kind == shm::OpKind::start) return;
  Action action = action_of(operation, false);
  action.blocks = ready.holds != nullptr;
  if (action.kind == shm::OpKind::join && knows_the_end(ready)) return;
  announce(action, ready);
}

bool World::step_or_time_out(const shm::Operation& operation, shm::Readiness ready) {
  return announce(action_of(operation, true), ready);
}

// Whether the current fiber waits for ends that it knows of, as a Process's destructor does after join().
bool World::knows_the_end(const shm::Readiness& ready) {
  if (unwinding_ || ready.holds == nullptr) return false;
  FiberSet watched = 0;
  asked_about_ = &watched;
  const bool holds = ready.holds(ready.context);
  asked_about_ = nullptr;
  return holds && watched != 0 && (watched & ~slots_[current_]->joined) == 0;
}

std::uint32_t World::start(std::string_view name, void (*body)(void*), void* context) {
  if (unwinding_) throw Unwind{};
  return launch(name, body, context);
}

bool World::ended(std::uint32_t number) const {
  if (number >= count_) return true;  // of an earlier run
  if (asked_about_ != nullptr) {
    *asked_about_ |= only(number);
    return has_ended(number);
  }
  if (current_ == root || unwinding_ || (slots_[current_]->joined & only(number)) != 0)
    return has_ended(number);
  // Asked by the program itself: a step, since the answer depends on when it is asked.
  struct Question {
    const World* world;
    std::uint32_t number;
  };
  const Question question{this, number};
  const shm::Readiness ready{[](const void* context) {
                               const auto& asked = *static_cast<const Question*>(context);
                               return asked.world->ended(asked.number);
                             },
                             &question};
  auto& self = const_cast<World&>(*this);  // whoever asks need not know that others may go on meanwhile
  return self.announce({.kind = shm::OpKind::join, .timed = true, .reads = true}, ready);
}

Action World::action_of(const shm::Operation& operation, bool timed) {
  Action action{.kind = operation.kind, .timed = timed, .site = operation.site};
  if (operation.object != 0 && operation.kind != shm::OpKind::join)
    action.object = number_of(operation.object);
  if (operation.more.size() > action.more.size()) {
    throw Error(fmt::format("mh::explore: {} locks are taken at once at {}; it can follow at most {}",
                            operation.more.size() + 1, short_place(operation.site), action.more.size() + 1));
  }
  for (std::size_t i = 0; i < operation.more.size(); ++i) action.more[i] = number_of(operation.more[i]);
  switch (operation.kind) {
    case shm::OpKind::load:
    case shm::OpKind::join:
      action.reads = true;
      break;
    case shm::OpKind::wait:
      action.reads = objects_[action.object].kind == shm::BlockKind::event;
      break;
    default:
      break;
  }
  return action;
}

ObjectNumber World::number_of(shm::Offset offset) {
  const auto slot_of = [&](shm::Offset of) {
    return (of >> 6) * 0x9e37'79b9'7f4a'7c15 >> 32 & (table_.size() - 1);
  };
  for (std::size_t i = slot_of(offset);; i = (i + 1) & (table_.size() - 1)) {
    TableEntry& entry = table_[i];
    if (entry.run == run_number_ && entry.offset == offset) return entry.object;
    if (entry.run == run_number_) continue;
    const shm::BlockHeader& header = shm::header_of(offset);
    entry = {offset, static_cast<ObjectNumber>(objects_.size()), run_number_};
    const ObjectNumber number = entry.object;
    Object object{.offset = offset, .kind = header.kind, .number = header.number};
    // A Value begins with its own lock.
    if ((header.kind == shm::BlockKind::lock || header.kind == shm::BlockKind::value) &&
        header.size >= sizeof(shm::LockState)) {
      object.is_lock = true;
      object.name = shm::at<shm::LockState>(offset).name;
    }
    objects_.push_back(object);
    if (objects_.size() * 2 > table_.size()) {
      std::vector<TableEntry> old(table_.size() * 2);
      old.swap(table_);
      for (const TableEntry& moved : old) {
        if (moved.run != run_number_) continue;
        std::size_t at = slot_of(moved.offset);
        while (table_[at].run == run_number_) at = (at + 1) & (table_.size() - 1);
        table_[at] = moved;
      }
    }
    return number;
  }
}

// The current fiber is about to do `action`; returns when it may, and whether it was ready.
bool World::announce(const Action& action, shm::Readiness ready) {
  if (unwinding_) return unwind_step(action, ready);
  Slot& me = *slots_[current_];
  const FiberNumber number = current_;
  me.ready = ready;
  pending_[number] = {action, trace_.depth()};
  if (!std::exchange(me.first_step_past, true)) {
    switch_to(me.starter);
  } else if (const FiberNumber next = decide(); next != number) {
    switch_to(next);
  }
  if (unwinding_) return unwind_step(action, ready);
  me.joined |= pending_[number].action.watches & ~state_.live;
  return !me.timed_out;
}

// Says who can go on now.
void World::find_enabled() {
  state_.enabled = state_.ready = 0;
  for (FiberSet rest = state_.live; rest != 0; rest &= rest - 1) {
    const FiberNumber fiber = lowest(rest);
    const Slot& slot = *slots_[fiber];
    Action& action = pending_[fiber].action;
    bool ready = true;
    if (slot.ready.holds != nullptr) {
      asked_about_ = &action.watches;
      const shm::ThreadToken before = shm::exchange_this_thread(slot.token);
      ready = slot.ready.holds(slot.ready.context);
      shm::exchange_this_thread(before);
      asked_about_ = nullptr;
    }
    if (ready) state_.ready |= only(fiber);
    if (ready || action.timed) state_.enabled |= only(fiber);
  }
}

// Who goes on; root if the run is over. Called by whichever fiber was the last to go on.
FiberNumber World::decide() {
  find_enabled();
  try {
    if (state_.live == 0) return stop(RunEnd::finished);
    if (state_.enabled == 0 || steps_ == max_steps_) {
      if (!unwanted_) chooser_->stop(state_, trace_);
      return stop(state_.enabled == 0 ? RunEnd::deadlock : RunEnd::step_limit);
    }
    ++steps_;
    FiberNumber next = root;
    if (!unwanted_) {
      if (const auto choice = chooser_->choose(state_, trace_)) {
        next = choice->fiber;
        note_chosen(next, choice->preempts);
      } else {
        unwanted_ = true;
      }
    }
    if (unwanted_) next = preferred(state_, state_.enabled);
    slots_[next]->timed_out = (state_.ready & only(next)) == 0;
    follow_locks(*slots_[next], pending_[next].action);
    state_.previous = next;
    return next;
  } catch (...) {
    chooser_error_ = std::current_exception();
    return stop(RunEnd::unwanted);
  }
}

void World::note_chosen(FiberNumber fiber, bool preempts) {
  Action& action = pending_[fiber].action;
  if (action.kind == shm::OpKind::release && !action.ends && objects_[action.object].is_lock)
    action.proper = shm::at<shm::LockState>(objects_[action.object].offset).owner() == slots_[fiber]->token;
  if (preempts) ++preemptions_;
  trace_.add(fiber, action, preempts, (state_.ready & only(fiber)) == 0);
}

FiberNumber World::stop(RunEnd end) noexcept {
  end_ = end;
  return root;
}

// ---- The end of a run that cannot go on.

// Keeps track of who may have a lock, and of the lock that Condition::wait gives up: wait, release, wait,
// acquire.
void World::follow_locks(Slot& slot, const Action& action) noexcept {
  const bool is_lock = action.object < objects_.size() && objects_[action.object].is_lock;
  if (is_lock && action.kind == shm::OpKind::acquire && !slot.timed_out) {
    for_each_object(action, [&](ObjectNumber object) { objects_[object].takers |= only(slot.number); });
  } else if (is_lock && action.kind == shm::OpKind::release) {
    const auto& lock = shm::at<shm::LockState>(objects_[action.object].offset);
    if (lock.depth.load(std::memory_order_relaxed) == 0) objects_[action.object].takers &= ~only(slot.number);
  }
  if (action.kind == shm::OpKind::wait && objects_[action.object].kind == shm::BlockKind::condition) {
    slot.in_wait = true;
  } else if (slot.in_wait && is_lock && action.kind == shm::OpKind::release) {
    slot.given_up = action.object;
  } else {
    slot.in_wait = false;
    slot.given_up = no_object;
  }
}

void World::unwind() {
  if (state_.live == 0) return;
  unwinding_ = true;
  // The newest first: whoever started them may own what they use, and waits for them in its destructors.
  while (state_.live != 0) unwind(highest(state_.live));
}

void World::unwind(FiberNumber fiber) {
  // One that is thrown out of Condition::wait has guards that expect it to have the lock.
  const ObjectNumber lent = slots_[fiber]->given_up;
  std::uint32_t before = 0;
  if (lent != no_object)
    before = shm::at<shm::LockState>(objects_[lent].offset).word.exchange(slots_[fiber]->token);
  switch_to(fiber);
  if (before != 0) shm::at<shm::LockState>(objects_[lent].offset).word.store(before);
  if (has_ended(fiber)) return;
  state_.live &= ~only(fiber);  // gave itself up
  lost_ = slots_[fiber]->name;
  slots_[fiber]->fiber = nullptr;
}

// Steps that are possible are done, so that destructors that make some do not have to throw.
bool World::unwind_step(const Action& action, const shm::Readiness& ready) {
  Slot& me = *slots_[current_];
  if (++me.unwind_steps > most_unwind_steps) switch_to(root);  // for ever
  if (action.kind == shm::OpKind::release && !action.ends && objects_[action.object].is_lock) {
    // Destructors release what others released meanwhile, in a way that no schedule would: that is no error.
    std::uint32_t nobody = 0;
    shm::at<shm::LockState>(objects_[action.object].offset).word.compare_exchange_strong(nobody, me.token);
  }
  if (action.kind == shm::OpKind::release || action.kind == shm::OpKind::join) return true;
  const bool holds = ready.holds == nullptr || ready.holds(ready.context);
  if (holds && me.unwind_steps <= free_unwind_steps) return true;
  if (std::uncaught_exceptions() > 0) return holds;  // in a destructor
  throw Unwind{};
}

// ---- For people.

std::string World::object_name(ObjectNumber object) const {
  if (object == no_object || object == all_objects) return {};
  const Object& wanted = objects_[object];
  if (wanted.name[0] != '\0') return fmt::format("{} '{}'", shm::name_of(wanted.kind), wanted.name.data());
  const auto rank = std::count_if(objects_.begin() + 1, objects_.end(), [&](const Object& other) {
    return other.kind == wanted.kind && other.number <= wanted.number;
  });
  return fmt::format("{} {}", shm::name_of(wanted.kind), rank);
}

// "Lock 'a' and Lock 'b'"
std::string World::object_names(const Action& action) const {
  std::string text;
  for_each_object(action,
                  [&](ObjectNumber object) { text += (text.empty() ? "" : " and ") + object_name(object); });
  return text;
}

std::string World::describe_wait(FiberNumber fiber) const {
  const Action& action = pending_[fiber].action;
  const std::string& name = slots_[fiber]->name;
  const std::string where = short_place(action.site);
  if (action.watches != 0) {
    std::string others;
    for (FiberSet rest = action.watches & state_.live; rest != 0; rest &= rest - 1)
      others += (others.empty() ? "" : " and ") + slots_[lowest(rest)]->name;
    return fmt::format("{} waits for the end of {} at {}", name, others.empty() ? "a process" : others,
                       where);
  }
  std::string text =
      fmt::format("{} waits for {} ({}) at {}", name, object_names(action), shm::name_of(action.kind), where);
  if (!objects_[action.object].is_lock) return text;
  // Of several, the first that somebody else has.
  ObjectNumber object = action.object;
  const auto is_held = [&](ObjectNumber of) {
    const shm::ThreadToken owner = shm::at<shm::LockState>(objects_[of].offset).owner();
    return owner != 0 && owner != slots_[fiber]->token;
  };
  for_each_object(action, [&](ObjectNumber other) {
    if (!is_held(object) && is_held(other)) object = other;
  });
  if (object != action.object || action.more[0] != no_object)
    text += ", of which " + object_name(object) + " is";
  const auto& lock = shm::at<shm::LockState>(objects_[object].offset);
  const shm::ThreadToken owner = lock.owner();
  const std::string since = short_place(lock.site.load(std::memory_order_relaxed));
  const char* const comma = action.more[0] == no_object ? "," : "";
  for (FiberNumber i = 0; i < count_ && owner != 0; ++i) {
    if (slots_[i]->token == owner)
      return text +
             fmt::format("{} held by {} since {}", comma, i == fiber ? "itself" : slots_[i]->name, since);
  }
  if (owner != 0)
    text += fmt::format("{} held by {} (has ended) since {}", comma, shm::describe_thread(owner).name, since);
  return text;
}

std::string World::describe_deadlock() const {
  std::string text;
  for (FiberSet rest = state_.live; rest != 0; rest &= rest - 1)
    text += (text.empty() ? "" : "\n") + describe_wait(lowest(rest));
  return text;
}

Schedule World::schedule() const {
  std::vector<Schedule::Step> steps;
  steps.reserve(trace_.depth());
  std::vector<std::string> names(objects_.size());
  for (ObjectNumber i = 1; i < objects_.size(); ++i) names[i] = object_name(i);
  for (const Trace::Event& event : trace_.events()) {
    const Action& action = event.action;
    Schedule::Step step{.process = event.fiber,
                        .name = slots_[event.fiber]->name,
                        .operation = action.ends ? "end" : shm::name_of(action.kind),
                        .object = {},
                        .where = action.ends ? "holding it" : short_place(action.site),
                        .preempts = event.preempts,
                        .timed_out = event.timed_out};
    for_each_object(action, [&](ObjectNumber object) {
      if (object < names.size()) step.object += (step.object.empty() ? "" : " and ") + names[object];
    });
    if (action.watches != 0) {
      step.object.clear();
      for (FiberSet rest = action.watches; rest != 0; rest &= rest - 1)
        step.object += (step.object.empty() ? "" : " and ") + slots_[lowest(rest)]->name;
    }
    steps.push_back(std::move(step));
  }
  return Schedule(std::move(steps));
}

}  // namespace manyhands::exploring
