// The child's side of mh::Process.

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <exception>
#include <string>

#include "manyhands/base/forks.hpp"
#include "manyhands/base/stack_trace.hpp"
#include "manyhands/base/streams.hpp"
#include "manyhands/process/message.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/process/process_record.hpp"
#include "manyhands/process/surroundings.hpp"
#include "manyhands/shm/barrier.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/wire/call.hpp"
#include "manyhands/wire/remote_error.hpp"

namespace manyhands {
namespace process {
namespace {

shm::Offset this_record = 0;  // of this process, if an mh::Process started it

class NoReply final : public wire::Reply {
 public:
  explicit NoReply(ProcessRecord& record) : record_(record) {}
  // The handles that the message names are ours by now, or were dropped: it must not keep them.
  void unpacked() override {
    if (const shm::Offset call = record_.call.exchange(0); call != 0) shm::release(call);
  }
  wire::Writer& writer() override { return writer_; }
  void value(const wire::Writer&) override {}

 private:
  ProcessRecord& record_;
  wire::Writer writer_;
};

// One write, so that the messages of several processes do not mix.
void print_error(const char* name, const std::exception_ptr& exception) {
  const auto stack = ThrowTracer::last_throw();
  const auto error = wire::record_of(exception, stack);
  std::string text = fmt::format("manyhands: process '{}' (pid {}) ended by an exception: {}: {}\n", name,
                                 ::getpid(), error.type, error.message);
  for (const void* frame : stack) {
    const std::string line = describe_address(frame);
    if (line.find("manyhands::wire::run_call<") != std::string::npos) break;  // ours from here on
    text += fmt::format("  at {}\n", line);
  }
  static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size()));
}

int run_call(ProcessRecord& record) {
  const ThrowTracer tracer;
  try {
    const auto thunk = reinterpret_cast<wire::CallThunk>(const_cast<void*>(wire::address_of(record.thunk)));
    NoReply reply(record);
    const shm::Offset message = record.call.load();
    const auto packet = open_message(message);
    wire::Reader reader(packet.message(), packet.buffers());
    thunk(reader, reply);
    return 0;
  } catch (...) {
    flush_streams();
    print_error(record.name.data(), std::current_exception());
    return 1;
  }
}

}  // namespace

namespace {

void record_last(ProcessRecord& record, ProcessState state, int status) noexcept {
  // What it was called with is not needed any more, and what that names waits for nobody.
  if (const shm::Offset call = record.call.exchange(0); call != 0) shm::release(call);
  record.status.store(status);
  record.state.store(static_cast<std::uint32_t>(state), std::memory_order_release);
  shm::futex_wake_all(record.state);
}

}  // namespace

void record_end(shm::Offset offset, int status, std::uint64_t peak_memory) noexcept {
  auto& record = shm::at<ProcessRecord>(offset);
  record.peak_memory.store(peak_memory);
  record_last(record, ProcessState::ended, status);
}

void record_failure(shm::Offset offset, int error) noexcept {
  record_last(shm::at<ProcessRecord>(offset), ProcessState::failed, error);
}

void run_process(shm::Offset offset) {
  auto& record = shm::at<ProcessRecord>(offset);
  this_record = offset;
  ::prctl(PR_SET_NAME, record.name.data());
  ::signal(SIGINT, SIG_IGN);  // Ctrl-C is the program's, whose end is ours
  if (const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC); null >= 0) {
    ::dup2(null, STDIN_FILENO);
    ::close(null);
  }
  apply_locale(record.surroundings);
  shm::name_this_process(record.name.data());
  record.pid.store(::getpid());
  record.thread.store(shm::this_thread_token());
  record.state.store(static_cast<std::uint32_t>(ProcessState::running), std::memory_order_release);
  shm::futex_wake_all(record.state);
  if (shm::watching_races()) shm::race::acquired(offset);
  const int forks_at_birth = forks();
  const int code = run_call(record);
  if (forks() != forks_at_birth) {  // a copy that the function forked and let return
    flush_streams();
    ::_exit(code);
  }
  shm::leave_barriers();  // an orderly end is no death
  if (shm::watching_races()) shm::race::released(offset);
  flush_streams();
  record.exit_code.store(code);
  ::_exit(code);
}

}  // namespace process

namespace this_process {

std::string name() {
  return process::this_record != 0 ? shm::at<process::ProcessRecord>(process::this_record).name.data()
                                   : "main";
}

std::optional<ProcessInfo> parent() {
  if (process::this_record == 0) return std::nullopt;
  const auto& record = shm::at<process::ProcessRecord>(process::this_record);
  return ProcessInfo{.name = record.parent_name.data(), .pid = record.parent};
}

}  // namespace this_process
}  // namespace manyhands
