#include "manyhands/task/callback_thread.hpp"

#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "manyhands/base/left_behind.hpp"
#include "manyhands/base/own_thread.hpp"

namespace manyhands::task {

class CallbackThread::Impl : public std::enable_shared_from_this<Impl> {
 public:
  void post(std::function<void()> callback) {
    std::unique_lock lock(mutex_);
    if (closed_) {
      lock.unlock();
      callback();
      return;
    }
    queue_.push_back(std::move(callback));
    if (!thread_.running()) thread_ = OwnThread([self = shared_from_this()] { self->run(); });
    lock.unlock();
    posted_.notify_one();
  }

  void close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    lock.unlock();
    posted_.notify_one();
    thread_.join();
  }

  bool has_thread() const noexcept { return ::getpid() == process_; }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      posted_.wait(lock, [this] { return closed_ || !queue_.empty(); });
      if (queue_.empty()) return;
      auto callback = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      std::exchange(callback, nullptr)();
      lock.lock();
    }
  }

  pid_t process_ = ::getpid();
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> queue_;  // guarded by mutex_
  bool closed_ = false;                      // guarded by mutex_
  OwnThread thread_;                         // started by the first post(), under mutex_
};

CallbackThread::CallbackThread() : impl_(std::make_shared<Impl>()) {}

CallbackThread::~CallbackThread() {
  close();
  if (!impl_->has_thread()) leave_behind(std::move(impl_));
}

void CallbackThread::post(std::function<void()> callback) { impl_->post(std::move(callback)); }

void CallbackThread::close() {
  if (impl_->has_thread()) impl_->close();
}

}  // namespace manyhands::task
