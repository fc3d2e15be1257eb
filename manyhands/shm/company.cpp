#include "manyhands/shm/company.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "manyhands/base/error.hpp"
#include "manyhands/base/own_thread.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::shm {

bool is_alone_with(const Block& block) noexcept {
  // Once this is the last process, only a thread of it can make others know the block.
  return header_of(block.offset()).refs.load() <= 1 && !block.is_named() && alone_in_process();
}

bool Company::is_gone() {
  if (!next_look_.passed()) return false;
  next_look_ = Deadline(every);
  sweep_now_and_then();  // somebody may have been killed with nobody to tell
  if (bounded_) return false;
  if (meeting_.doors.empty()) {
    if (is_alone_with(block_)) return true;
    meeting_ = {.doors = {block_.offset()}, .targets = {block_.offset()}};
  }
  std::vector<StuckThread> found = all_stuck_in(meeting_);
  const bool again = !found.empty() && found == last_;
  last_ = std::move(found);
  if (!last_.empty()) next_look_ = Deadline(to_be_sure);
  return again;
}

void throw_alone(const char* what, Offset object, Site site, const char* could) {
  throw Error(fmt::format("{} {} at {} would last for ever: no other process or thread is left that could {}",
                          what, describe_target(object), describe(site), could));
}

std::vector<StuckThread> all_stuck_in(const Meeting& meeting) {
  const HeapView heap = own_heap();
  std::vector<WaitEdge> waits;  // without time limit
  for (const ThreadToken token : entered_threads()) {
    const auto edge = read_wait(token, heap);
    if (edge && !edge->bounded) waits.push_back(*edge);
  }
  std::set<pid_t> holders;
  for (const Offset door : meeting.doors) {
    if (Block::is_named(door)) return {};
    const std::size_t refs = header_of(door).refs.load();
    if (refs > waits.size()) return {};  // some process that knows it waits for nothing; cheap, and the rule
    const std::vector<pid_t> here = holders_of(door);
    if (here.size() != refs) return {};  // messages may name it
    holders.insert(here.begin(), here.end());
  }
  std::size_t threads = 0;  // that are to be stuck
  for (const pid_t pid : holders) {
    const bool here = pid == ::getpid();
    if (!here && !names_nothing(pid)) return {};
    const std::size_t count = here ? static_cast<std::size_t>(busy_threads()) : threads_of(pid);
    if (count == 0) return {};  // not known
    threads += count;
  }
  std::erase_if(waits, [&](const WaitEdge& wait) {
    const ThreadInfo waiter = describe_thread(wait.waiter);
    return !waiter.alive || !holders.contains(waiter.pid) ||
           (wait.waiter != this_thread_token() && !is_asleep(wait.waiter));
  });
  std::map<ThreadToken, StuckThread> stuck;
  for (const WaitEdge& wait : waits) {
    if (wait.holder == 0 &&
        std::find(meeting.targets.begin(), meeting.targets.end(), wait.target) != meeting.targets.end())
      stuck[wait.waiter] = {.thread = wait.waiter, .sequence = wait.sequence, .joins = false};
  }
  for (std::size_t before = 0; before != stuck.size();) {
    before = stuck.size();
    for (const WaitEdge& wait : waits) {
      if (wait.holder != 0 && !wait.holds && stuck.contains(wait.holder) && !stuck.contains(wait.waiter))
        stuck[wait.waiter] = {.thread = wait.waiter, .sequence = wait.sequence, .joins = true};
    }
  }
  if (stuck.size() != threads) return {};
  std::vector<StuckThread> all;
  all.reserve(stuck.size());
  for (const auto& [token, thread] : stuck) all.push_back(thread);
  return all;
}

}  // namespace manyhands::shm
