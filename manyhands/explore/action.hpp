#pragma once
// Action: what a fiber is about to do, as the search sees it, and which actions commute.
//
// One thread.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "manyhands/shm/schedule.hpp"

namespace manyhands::exploring {

// Fibers are numbered in the order in which a run starts them; 0 is the main one.
using FiberNumber = std::uint32_t;
using FiberSet = std::uint64_t;  // a bit for each
inline constexpr std::uint32_t max_fibers = 64;
constexpr FiberSet only(FiberNumber fiber) noexcept { return FiberSet{1} << fiber; }

// Blocks are numbered from 1 in the order in which a run names them first, since a block may lie elsewhere in
// each run.
using ObjectNumber = std::uint32_t;
inline constexpr ObjectNumber no_object = 0;
inline constexpr ObjectNumber all_objects = UINT32_MAX;  // commutes with nothing

struct Action {
  shm::OpKind kind = shm::OpKind::load;
  bool timed = false;   // may be chosen before it is ready
  bool blocks = false;  // cannot be chosen before it is ready
  bool reads = false;   // leaves the object as it is: commutes with others that do
  bool ends = false;    // the fiber ends, still holding the lock `object`
  bool proper = false;  // the release of a lock by its holder
  ObjectNumber object = no_object;
  std::array<ObjectNumber, 7> more{};  // further ones, before the first no_object: several locks in one step
  shm::Site site = 0;
  FiberSet watches = 0;  // whether these fibers have ended decides what it does
};

// Whether the action is about `object` by number; all_objects is not looked at.
constexpr bool is_about(const Action& action, ObjectNumber object) noexcept {
  if (action.object == object) return true;
  return object != no_object && action.more[0] != no_object &&
         std::find(action.more.begin(), action.more.end(), object) != action.more.end();
}
// Calls visit(object) for each.
template <class Visit>
constexpr void for_each_object(const Action& action, Visit visit) {
  if (action.object == no_object) return;
  visit(action.object);
  for (std::size_t i = 0; i < action.more.size() && action.more[i] != no_object; ++i) visit(action.more[i]);
}

// Whether two actions are the same step of a program, as far as can be told from outside.
constexpr bool same_step(const Action& a, const Action& b) noexcept {
  return a.kind == b.kind && a.timed == b.timed && a.ends == b.ends && a.object == b.object &&
         a.more == b.more && a.site == b.site;
}

// Whether the order of two actions, by two fibers, may matter. An action without time limit that watches a
// fiber only happens after that fiber's last one: there is no other order.
constexpr bool dependent(FiberNumber fiber_a, const Action& a, FiberNumber fiber_b,
                         const Action& b) noexcept {
  if (a.object == all_objects || b.object == all_objects) return true;
  if (a.timed && (a.watches & only(fiber_b)) != 0) return true;
  if (b.timed && (b.watches & only(fiber_a)) != 0) return true;
  if (a.object == no_object || (a.reads && b.reads)) return false;
  bool shared = is_about(b, a.object);
  for (std::size_t i = 0; !shared && i < a.more.size() && a.more[i] != no_object; ++i)
    shared = is_about(b, a.more[i]);
  return shared;
}

}  // namespace manyhands::exploring
