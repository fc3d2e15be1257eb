#include "manyhands/shm/company.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "manyhands/base/error.hpp"
#include "manyhands/base/own_thread.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::shm {

bool is_alone_with(const Block& block) noexcept {
  // Once this is the last process, only a thread of it can make others know the block.
  return header_of(block.offset()).refs.load() <= 1 && !block.is_named() && alone_in_process();
}

bool Company::is_gone() noexcept {
  if (!next_look_.passed()) return false;
  next_look_ = Deadline(every);
  sweep_now_and_then();  // somebody may have been killed with nobody to tell
  return !bounded_ && is_alone_with(block_);
}

void throw_alone(const char* what, Offset object, Site site, const char* could) {
  throw Error(fmt::format("{} {} at {} would last for ever: no other process or thread is left that could {}",
                          what, describe_target(object), describe(site), could));
}

std::vector<StuckThread> all_stuck_in(const Block& block) {
  if (block.is_named()) return {};
  const std::vector<pid_t> holders = holders_of(block.offset());
  if (holders.size() != header_of(block.offset()).refs.load()) return {};  // messages may name it
  std::size_t threads = 0;                                                 // that are to be stuck
  for (const pid_t pid : holders) {
    const std::size_t count = pid == ::getpid() ? static_cast<std::size_t>(busy_threads()) : threads_of(pid);
    if (count == 0) return {};  // not known
    threads += count;
  }
  const HeapView heap = own_heap();
  std::vector<WaitEdge> waits;  // without time limit, of threads of the holders
  for (const ThreadToken token : live_threads()) {
    if (std::find(holders.begin(), holders.end(), describe_thread(token).pid) == holders.end()) continue;
    const auto edge = read_wait(token, heap);
    if (edge && !edge->bounded) waits.push_back(*edge);
  }
  std::map<ThreadToken, StuckThread> stuck;
  for (const WaitEdge& wait : waits) {
    if (wait.holder == 0 && wait.target == block.offset())
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
  for (const auto& [token, thread] : stuck) all.push_back(thread);
  return all;
}

}  // namespace manyhands::shm
