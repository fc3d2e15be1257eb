#include "manyhands/task/callback_thread.hpp"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace manyhands::task {

void CallbackThread::post(std::function<void()> callback) {
  std::unique_lock lock(mutex_);
  if (closed_) {
    lock.unlock();
    callback();
    return;
  }
  queue_.push_back(std::move(callback));
  if (!thread_.joinable()) {
    sigset_t all;  // signals are for the program's own threads
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] {
      if (around_) {
        around_([this] { run(); });
      } else {
        run();
      }
    });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  lock.unlock();
  posted_.notify_one();
}

void CallbackThread::close() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  lock.unlock();
  posted_.notify_one();
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void CallbackThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    posted_.wait(lock, [this] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const auto callback = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    callback();
    lock.lock();
  }
}

}  // namespace manyhands::task
