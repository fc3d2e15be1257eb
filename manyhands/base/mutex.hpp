#pragma once
// Mutex and MutexLock: std::mutex with clang's thread-safety annotations, which libstdc++'s lacks.
//
// A field says MH_GUARDED_BY(mutex_), a function MH_REQUIRES(mutex_); the clang-dev preset then proves at
// compile time that each access holds its lock. With other compilers the macros vanish. Source:
// https://clang.llvm.org/docs/ThreadSafetyAnalysis.html

#include <mutex>

#if defined(__clang__)
#define MH_ATTRIBUTE(x) __attribute__((x))
#else
#define MH_ATTRIBUTE(x)
#endif
#define MH_GUARDED_BY(x) MH_ATTRIBUTE(guarded_by(x))
#define MH_REQUIRES(...) MH_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define MH_EXCLUDES(...) MH_ATTRIBUTE(locks_excluded(__VA_ARGS__))

namespace manyhands {

class MH_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() MH_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void unlock() MH_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  [[nodiscard]] bool try_lock() MH_ATTRIBUTE(try_acquire_capability(true)) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

// Holds a Mutex for a scope. Works with std::condition_variable_any through lock() and unlock().
class MH_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) MH_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() MH_ATTRIBUTE(release_capability()) {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() MH_ATTRIBUTE(acquire_capability()) {
    mutex_.lock();
    held_ = true;
  }
  void unlock() MH_ATTRIBUTE(release_capability()) {
    held_ = false;
    mutex_.unlock();
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

}  // namespace manyhands
