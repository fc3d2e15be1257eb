#include "manyhands/task/callback_thread.hpp"

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
  if (!thread_.running()) thread_ = OwnThread([this] { run(); });
  lock.unlock();
  posted_.notify_one();
}

void CallbackThread::close() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  lock.unlock();
  posted_.notify_one();
  thread_.join();
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
