// libmanyhands_mpi_stage.so, which `manyhands run` preloads into the programs of a job.
//
// It tells the process that stands above the program (rank.hpp) how far that has come with MPI. The launchers
// do not: MPICH's ends a job with status 0 when a rank leaves in the middle of it, and with both a rank that
// ends before MPI_Init leaves the others waiting there for ever.
//
// It stands in front of the calls that begin and end MPI, also those of Fortran, which come to the same
// functions. A message is a datagram to the socket whose abstract name is in MANYHANDS_RUN_STAGE: a letter
// (rank.hpp: StageLetter), and what belongs to it. Without the variable it is silent.

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "manyhands/cli/behind.hpp"
#include "manyhands/cli/stage.hpp"

namespace {

using namespace manyhands::cli;

// Blocks for a second at most, if the reader is slow.
void tell(StageLetter letter, const char* more = "") noexcept {
  const char* const name = std::getenv(stage_variable);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = name == nullptr ? 0 : std::strlen(name);
  const std::size_t more_length = std::strlen(more);
  char message[64];
  if (length == 0 || length + 1 > sizeof address.sun_path || more_length + 1 > sizeof message) return;
  std::memcpy(address.sun_path + 1, name, length);
  message[0] = static_cast<char>(letter);
  std::memcpy(message + 1, more, more_length);
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return;
  const timeval limit{1, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  static_cast<void>(::sendto(socket, message, more_length + 1, MSG_NOSIGNAL,
                             reinterpret_cast<const sockaddr*>(&address),
                             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length)));
  ::close(socket);
}

void* mpi_behind(const char* function) {
  if (void* const found = behind(function, "libmpi")) return found;
  std::fprintf(stderr, "manyhands run: %s was called, and no MPI library is loaded\n", function);
  std::abort();
}

template <class Function>
Function behind_as(const char* function) {
  return reinterpret_cast<Function>(mpi_behind(function));
}

std::atomic<int> begun{0};            // MPI_Init and sessions, minus their ends
thread_local bool is_inside = false;  // such a call comes from another one: a profiler's MPI_Init, say

template <class Call>
int begin(Call call) {
  if (is_inside) return call();
  is_inside = true;
  if (begun.fetch_add(1) == 0) tell(StageLetter::entered);
  const int code = call();
  is_inside = false;
  return code;
}

template <class Call>
int finish(Call call) {
  if (is_inside) return call();
  is_inside = true;
  const int code = call();
  if (begun.fetch_sub(1) == 1) tell(StageLetter::finalized);
  is_inside = false;
  return code;
}

[[gnu::constructor]] void say_that_we_are_there() { tell(StageLetter::loaded); }

}  // namespace

// An MPI_Comm is an int or a pointer; either passes as one.
using Init = int (*)(int*, char***);
using InitThread = int (*)(int*, char***, int, int*);
using SessionInit = int (*)(void*, void*, void*);
using SessionFinalize = int (*)(void*);
using Finalize = int (*)();
using Abort = int (*)(void*, int);

#define MH_EXPORT extern "C" __attribute__((visibility("default")))
#define MH_STAND_IN_FRONT(prefix)                                                                          \
  MH_EXPORT int prefix##MPI_Init(int* argc, char*** argv) {                                                \
    return begin([&] { return behind_as<Init>(#prefix "MPI_Init")(argc, argv); });                         \
  }                                                                                                        \
  MH_EXPORT int prefix##MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {            \
    return begin(                                                                                          \
        [&] { return behind_as<InitThread>(#prefix "MPI_Init_thread")(argc, argv, required, provided); }); \
  }                                                                                                        \
  MH_EXPORT int prefix##MPI_Session_init(void* info, void* handler, void* session) {                       \
    return begin(                                                                                          \
        [&] { return behind_as<SessionInit>(#prefix "MPI_Session_init")(info, handler, session); });       \
  }                                                                                                        \
  MH_EXPORT int prefix##MPI_Finalize() {                                                                   \
    return finish([] { return behind_as<Finalize>(#prefix "MPI_Finalize")(); });                           \
  }                                                                                                        \
  MH_EXPORT int prefix##MPI_Session_finalize(void* session) {                                              \
    return finish([&] { return behind_as<SessionFinalize>(#prefix "MPI_Session_finalize")(session); });    \
  }                                                                                                        \
  MH_EXPORT int prefix##MPI_Abort(void* comm, int code) {                                                  \
    char text[16];                                                                                         \
    std::snprintf(text, sizeof text, "%d", code);                                                          \
    tell(StageLetter::aborted, text);                                                                      \
    return behind_as<Abort>(#prefix "MPI_Abort")(comm, code);                                              \
  }

// NOLINTBEGIN(readability-identifier-naming): MPI's names
MH_STAND_IN_FRONT()
MH_STAND_IN_FRONT(P)
// NOLINTEND(readability-identifier-naming)

// MPICH's memory that ranks share has a name until all have it: who is killed before leaves it behind.
// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): the system's names are reserved.
MH_EXPORT int mkstemp(char* path) {
  const int file = behind_as<int (*)(char*)>("mkstemp")(path);
  constexpr std::size_t prefix = mpich_segment_prefix.size();
  if (file >= 0 && std::strncmp(path, mpich_segment_prefix.data(), prefix) == 0)
    tell(StageLetter::segment, path + prefix);
  return file;
}
