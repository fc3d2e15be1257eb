#pragma once
// leave_behind: for what a fork has of its parent's and cannot destroy.
//
// A condition variable on which a thread of the parent waits is never free in the fork: its destructor would
// wait for that thread. Such objects stay as they are until the process ends.

#include <utility>
#include <vector>

namespace manyhands {

// Keeps what `thing` points to for the rest of the process. One thread.
template <class Pointer>
void leave_behind(Pointer thing) {
  static auto* const kept = new std::vector<Pointer>;  // reachable, so that nobody takes it for a leak
  kept->push_back(std::move(thing));
}

}  // namespace manyhands
