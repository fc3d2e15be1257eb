#include "manyhands/threads/worker_threads.hpp"

#include <chrono>
#include <utility>

namespace manyhands::threads {
namespace {

constexpr auto patience = std::chrono::milliseconds(200);  // of an idle thread above `core`

constinit thread_local const WorkerThreads* mine = nullptr;  // that this thread is one of

}  // namespace

bool WorkerThreads::call(const std::shared_ptr<Visit>& what) {
  std::list<Member> ended;
  {
    std::unique_lock lock(mutex_);
    if (idle_ > calls_) {
      ++calls_;
      lock.unlock();
      called_.notify_one();
      return true;
    }
    if (alive_ >= most_) return false;
    ended.splice(ended.end(), left_);
    const Place place = members_.emplace(members_.end());
    try {
      place->thread = std::thread([this, what, place] { run(*what, place); });
    } catch (...) {
      members_.erase(place);
      left_.splice(left_.end(), ended);
      throw;
    }
    ++alive_;  // before the new thread can look: it needs the mutex
  }
  for (Member& member : ended) {
    if (member.thread.joinable()) member.thread.join();
  }
  return true;
}

// Whether there is something to do; if not, this thread ends.
bool WorkerThreads::is_called_again(std::unique_lock<std::mutex>& lock) noexcept {
  const auto heard = [this] { return calls_ > 0 || ending_; };
  ++idle_;
  while (!heard()) {
    if (alive_ <= core_) {
      called_.wait(lock);
    } else if (!called_.wait_for(lock, patience, heard) && alive_ > core_) {
      break;
    }
  }
  --idle_;
  if (calls_ == 0) return false;
  --calls_;
  return true;
}

void WorkerThreads::run(Visit& what, Place place) noexcept {
  mine = this;
  for (;;) {
    what.visit();
    std::unique_lock lock(mutex_);
    if (is_called_again(lock)) continue;
    if (place->detached) {
      members_.erase(place);
    } else {
      left_.splice(left_.end(), members_, place);
    }
    --alive_;
    gone_.notify_all();
    return;  // `what`, which this thread keeps, owns this object
  }
}

int WorkerThreads::alive() noexcept {
  const std::lock_guard lock(mutex_);
  return alive_;
}

void WorkerThreads::end() noexcept {
  std::list<Member> ended;
  {
    std::unique_lock lock(mutex_);
    ending_ = true;
    called_.notify_all();
    if (mine == this) {
      for (auto* list : {&members_, &left_}) {
        for (Member& member : *list) {
          if (!std::exchange(member.detached, true)) member.thread.detach();
        }
      }
      return;
    }
    gone_.wait(lock, [this] { return alive_ == 0; });
    ended.splice(ended.end(), left_);
  }
  for (Member& member : ended) {
    if (member.thread.joinable()) member.thread.join();
  }
}

}  // namespace manyhands::threads
