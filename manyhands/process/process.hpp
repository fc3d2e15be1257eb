#pragma once
// Process: one process that runs one function, like Python's multiprocessing.Process; it starts at
// construction, like std::jthread.
//
//   mh::Value<double> sum(0.0);
//   mh::Process p{[](mh::Value<double> sum, double x) { sum.update([x](double s) { return s + x; }); },
//                 sum, 3.0};
//   p.join();
//
// Function and arguments travel as a Pool's do (wire/call.hpp); what the function returns is dropped. Handles
// to shared memory (Array, Value, Lock, Queue ...) refer to the same memory in both processes. An exception
// that leaves the function is printed with its stack, and the exit code is 1.
//
// The destructor waits for the process; while an exception is passing by, and if that wait fails
// (DeadlockError, Interrupted), it kills it instead. Processes never outlive the one that started them,
// unless detached. Standard input is empty (/dev/null), Ctrl-C is left to the program.

#include <sys/types.h>

#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/process/shared_codec.hpp"
#include "manyhands/process/start.hpp"
#include "manyhands/wire/call.hpp"

namespace manyhands {

struct ProcessOptions {
  std::string name = {};        // "Process-1", "Process-2" ... if empty
  Start start = Start::zygote;  // with fork, any closure works; refused while other threads run
};

namespace process {

// What differs between a real process and a fiber of mh::explore.
class ProcessLife {
 public:
  virtual ~ProcessLife() = default;
  virtual bool join(const Deadline& deadline, const std::source_location& where) = 0;
  virtual pid_t pid() = 0;
  virtual std::optional<int> exit_code() = 0;
  virtual void signal(int number) = 0;
  virtual int sentinel() = 0;
  virtual void detach() = 0;

  std::string name;
};

// The call as it travels, or, for a fiber, as it is.
struct PackedCall {
  const wire::Function& thunk;
  const wire::Writer& writer;
  const std::vector<shm::BlockPtr>& named;
};
bool is_explored() noexcept;
std::unique_ptr<ProcessLife> start_process(const ProcessOptions& options, const PackedCall& call);
std::unique_ptr<ProcessLife> start_fiber(const ProcessOptions& options, void (*body)(void*),
                                         std::shared_ptr<void> call);

template <class F, class... Args>
struct FiberCall {
  F f;
  std::tuple<Args...> args;
  static void run(void* self) {
    auto& call = *static_cast<FiberCall*>(self);
    std::apply([&](Args&... values) { static_cast<void>(wire::call_with(call.f, values...)); }, call.args);
  }
};

}  // namespace process

// One thread at a time.
class Process {
 public:
  // Starts the process; blocks for the fraction of a millisecond that asking for it takes, not until it runs.
  // Throws Error if it cannot be started: other threads run and mh::init was not called, the zygote is gone,
  // a handle cannot travel; SystemError, ResourceExhausted.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, ProcessOptions> && !std::is_same_v<std::decay_t<F>, Process>)
  explicit Process(F&& f, Args&&... args)
      : Process(ProcessOptions{}, std::forward<F>(f), std::forward<Args>(args)...) {}

  // mh::Process p{{.name = "p1"}, f, args...}
  template <class F, class... Args>
  Process(ProcessOptions options, F&& f, Args&&... args) {
    using Fn = std::decay_t<F>;
    static_assert(wire::can_call<Fn, wire::Travelling<Args>...>,
                  "the process's function cannot be called with these arguments (as copies)");
    if (process::is_explored()) {
      using Call = process::FiberCall<Fn, wire::Travelling<Args>...>;
      auto call = std::make_shared<Call>(
          Call{std::forward<F>(f), {wire::Travelling<Args>(std::forward<Args>(args))...}});
      life_ = process::start_fiber(options, &Call::run, std::move(call));
      return;
    }
    const shm::Parcel parcel;
    wire::Writer writer(process_out_of_band_from);
    const std::tuple<wire::Travelling<Args>...> values(std::forward<Args>(args)...);
    const auto reach = process::reach_of(options.start);
    std::apply([&](const auto&... value) { wire::pack_call<Fn>(writer, f, reach, value...); }, values);
    life_ = process::start_process(
        options, {wire::call_thunk<Fn, wire::Travelling<Args>...>(), writer, parcel.blocks()});
  }

  Process(Process&& other) noexcept;
  Process& operator=(
      Process&& other) noexcept;  // waits for the process that is replaced, as the destructor does
  ~Process();

  // Waits for the end of the process; true once it has ended, false if `timeout` passed before. Throws
  // Interrupted as waits for a Pool do; DeadlockError if both wait for each other through a Lock.
  bool join(TimeLimit timeout = Deadline::never,
            const std::source_location& where = std::source_location::current());

  [[nodiscard]] bool is_alive() const;
  // Waits for the moment until it is known, usually none.
  pid_t pid() const;
  const std::string& name() const noexcept;
  // Nothing while it runs; then 0, the code it exited with (1 after an exception), or the negative signal
  // that ended it.
  std::optional<int> exit_code() const;

  void terminate();  // SIGTERM; nothing if it has ended
  void kill();       // SIGKILL

  // A descriptor that is readable once the process has ended, for poll(); lives as long as this object.
  int sentinel() const;

  // From here on the process runs by itself, also after the end of the program; this object knows it no more.
  // Not with Start::fork: Error.
  void detach();
  [[nodiscard]] bool joinable() const noexcept { return life_ != nullptr; }

 private:
  static constexpr std::size_t process_out_of_band_from = 4096;  // bytes
  process::ProcessLife& life() const;
  void finish() noexcept;
  void end() noexcept;

  std::unique_ptr<process::ProcessLife> life_;   // null: moved from or detached
  int exceptions_ = std::uncaught_exceptions();  // that were passing when the process was started
};

struct ProcessInfo {
  std::string name;
  pid_t pid = 0;
};
// The processes that this one started with mh::Process and that still run. Python's active_children().
std::vector<ProcessInfo> active_children();

namespace this_process {
// What mh::Process named this process; "main" in the program itself.
std::string name();
// Who started it, with its name; nullopt in the program itself. Python's parent_process().
std::optional<ProcessInfo> parent();
}  // namespace this_process

}  // namespace manyhands
