#include "manyhands/mpi/environment.hpp"

#include <cxxabi.h>
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <typeinfo>

#include "manyhands/base/stack_trace.hpp"
#include "manyhands/base/streams.hpp"
#include "manyhands/mpi/communicator.hpp"
#include "manyhands/mpi/error.hpp"

namespace manyhands::mpi {
namespace {

std::string type_name(const std::type_info& type) {
  int status = 0;
  char* const plain = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = status == 0 ? plain : type.name();
  std::free(plain);
  return name;
}

// "manyhands: rank 2 of 4 (host a): WHAT", written at once so that the lines of several ranks stay whole.
void say(std::string_view what) {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const std::string line =
      fmt::format("manyhands: rank {} of {} (host {}): {}\n", rank, size, node_name(), what);
  flush_streams();
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

[[noreturn]] void end_job(int exit_status) {
  MPI_Abort(MPI_COMM_WORLD, exit_status);
  std::_Exit(exit_status);  // MPI_Abort of some MPIs returns when the launcher is gone
}

std::terminate_handler previous_handler = nullptr;  // set once, by the Environment

[[noreturn]] void end_job_on_terminate() {
  if (!is_active()) {
    if (previous_handler != nullptr) previous_handler();
    std::abort();
  }
  std::string what = "std::terminate was called";
  if (const auto error = std::current_exception()) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      what = fmt::format("uncaught exception {}: {}", type_name(typeid(e)), e.what());
    } catch (...) {
      const std::type_info* const type = abi::__cxa_current_exception_type();
      what = fmt::format("uncaught exception {}", type == nullptr ? "of an unknown type" : type_name(*type));
    }
  }
  say(what + "; the job ends");
  end_job(1);
}

// Large messages are unpacked into fresh memory, whose page faults cost more than the copy: memory that was
// freed is kept.
void keep_freed_memory() {
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
}

bool can_spawn() {
#if defined(MPICH_NUMVERSION)
  char port[MPI_MAX_PORT_NAME];
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  if (MPI_Open_port(MPI_INFO_NULL, port) != MPI_SUCCESS) return false;
  MPI_Close_port(port);
#endif
  return true;
}

bool has_cuda() {
#if defined(MPIX_CUDA_AWARE_SUPPORT) && MPIX_CUDA_AWARE_SUPPORT
  return MPIX_Query_cuda_support() == 1;
#else
  return false;
#endif
}

Features find_features() {
  Features found;
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  found.library.assign(text, static_cast<std::size_t>(length));
  found.library.resize(std::min(found.library.find('\n'), found.library.size()));
  MPI_Get_version(&found.version, &found.subversion);
  found.large_counts = MH_MPI_HAS_LARGE_COUNT != 0;
  found.sessions = MH_MPI_HAS_SESSIONS != 0;
  found.partitioned = MH_MPI_HAS_PARTITIONED != 0;
  found.persistent_collectives = MH_MPI_HAS_PERSISTENT_COLLECTIVES != 0;
  found.spawn = can_spawn();
  found.cuda = has_cuda();
  int* value = nullptr;
  int known = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, static_cast<void*>(&value), &known);
  if (known != 0) found.max_tag = *value;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_UNIVERSE_SIZE, static_cast<void*>(&value), &known);
  if (known != 0 && value != nullptr) found.universe_size = *value;
  const auto attribute = [](int key) -> std::optional<int> {
    int* held = nullptr;
    int there = 0;
    MPI_Comm_get_attr(MPI_COMM_WORLD, key, static_cast<void*>(&held), &there);
    if (there == 0 || held == nullptr) return std::nullopt;
    return *held;
  };
  found.app_number = attribute(MPI_APPNUM);
  if (found.app_number == MPI_UNDEFINED) found.app_number.reset();
  found.host_rank = attribute(MPI_HOST);
  found.io_rank = attribute(MPI_IO);
  for (auto* rank : {&found.host_rank, &found.io_rank}) {
    if (*rank == MPI_PROC_NULL) rank->reset();
  }
  found.wtime_is_global = attribute(MPI_WTIME_IS_GLOBAL).value_or(0) != 0;
  return found;
}

}  // namespace

std::string_view name_of(ThreadLevel level) noexcept {
  switch (level) {
    case ThreadLevel::single:
      return "single";
    case ThreadLevel::funneled:
      return "funneled";
    case ThreadLevel::serialized:
      return "serialized";
    case ThreadLevel::multiple:
      return "multiple";
  }
  return "unknown";
}

Environment::Environment(const EnvironmentOptions& options)
    : abort_on_exception_(options.abort_on_exception), exceptions_(std::uncaught_exceptions()) {
  int initialised = 0;
  int finalized = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalized);
  if (finalized != 0)
    detail::fail(Errc::not_active, "Environment", {},
                 "MPI was finalized already, and cannot be initialised again");
  int level = MPI_THREAD_SINGLE;
  if (initialised == 0) {
    detail::check(MPI_Init_thread(nullptr, nullptr, static_cast<int>(options.threads), &level),
                  "Environment");
    ours_ = true;
  } else {
    MPI_Query_thread(&level);
  }
  level_ = static_cast<ThreadLevel>(level);
  detail::require_active("Environment");
  if (level_ < options.threads) {
    const std::string why =
        fmt::format("thread level {} was asked for, this MPI gives {}{}", name_of(options.threads),
                    name_of(level_), ours_ ? "" : " (it was initialised before)");
    if (ours_) MPI_Finalize();
    throw Unsupported("Environment", why);
  }
  keep_freed_memory();
  if (abort_on_exception_) note_throws();
#ifdef OPEN_MPI
  // So that the first nonblocking collective of several steps need not wait for all ranks: see
  // start_internal().
  if (ours_) detail::internal_of(detail::state_of(MPI_COMM_WORLD));
#endif
  if (abort_on_exception_ && std::get_terminate() != end_job_on_terminate)
    previous_handler = std::set_terminate(end_job_on_terminate);
}

Environment::Environment(int& argc, char**& argv, const EnvironmentOptions& options) : Environment(options) {
  static_cast<void>(argc);  // since MPI 2 no argument is MPI's; taken for those who are used to it
  static_cast<void>(argv);
}

Environment::~Environment() {
  if (!is_active()) return;
  if (abort_on_exception_ && std::uncaught_exceptions() > exceptions_) {
    const std::string error = passing_exception(exceptions_);
    say(fmt::format("an exception leaves the scope of mpi::Environment{}{}; the job ends",
                    error.empty() ? "" : ": ", error));
    end_job(1);
  }
  if (ours_) MPI_Finalize();
}

void abort(std::string_view message, int exit_status) {
  if (!is_active()) {
    std::fprintf(stderr, "manyhands: %.*s\n", static_cast<int>(message.size()), message.data());
    std::_Exit(exit_status);
  }
  if (!message.empty()) say(message);
  end_job(exit_status);
}

const Features& features() {
  detail::require_active("features");
  static const Features found = find_features();
  return found;
}

bool is_thread_main() {
  detail::require_active("is_thread_main");
  int main = 0;
  detail::check(MPI_Is_thread_main(&main), "is_thread_main");
  return main != 0;
}

std::string node_name() {
  detail::require_active("node_name");
  char name[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  detail::check(MPI_Get_processor_name(name, &length), "node_name");
  return {name, static_cast<std::size_t>(length)};
}

double wtime() {
  detail::require_active("wtime");
  return MPI_Wtime();
}

double wtick() {
  detail::require_active("wtick");
  return MPI_Wtick();
}

}  // namespace manyhands::mpi
