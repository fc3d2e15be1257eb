#pragma once
// The small process that `manyhands run` puts between the launcher (mpiexec) and each rank's program.
//
// It starts the program and waits for it. So it knows how the program ended, which mpiexec tells in its own
// words or not at all; it takes the program's output, so that lines can stay whole and be told from the
// launcher's texts; and when `manyhands run`, mpiexec or it itself dies, the program and whatever that
// started die too.
//
// Between it and `manyhands run`: a Unix socket of packets (SOCK_SEQPACKET) with an abstract name; both sides
// check that the other belongs to the same user. Packets up: a Report; with `hello` go the reading ends of
// the program's output. Packets down: one letter, the first perhaps with what the program is to read. On
// another host the socket is not there: then the output and the reports, as lines of standard error, go
// through mpiexec.
//
// The library that is preloaded into the program (mpi_stage.cpp) tells how far that has come with MPI.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "manyhands/base/unique_fd.hpp"
#include "manyhands/cli/launch_plan.hpp"
#include "manyhands/cli/stage.hpp"

namespace manyhands::cli {

enum class Channel : std::uint8_t { out, err };  // of a program's output

enum class ReportKind : std::uint8_t {
  ready,        // the program is not there yet: awaits what it is to read (wants_input)
  hello,        // rank and pid of the program; two descriptors come with it: Channel::out and err, to be read
  entered,      // MPI_Init has begun
  aborting,     // MPI_Abort has begun; code: its argument
  segment,      // a file of shared memory was made: `name`
  exited,       // code: its exit status
  signalled,    // code: the signal
  not_started,  // code: errno of execve
};

struct Report {
  ReportKind kind = ReportKind::hello;
  bool was_ended = false;  // it had been told to end, by the launcher or by us
  std::int32_t rank = 0;
  std::int32_t pid = 0;
  std::int32_t code = 0;
  std::int64_t time_ns = 0;  // CLOCK_MONOTONIC
  Stage stage = Stage::unknown;
  std::array<char, 16> name{};  // behind mpich_segment_prefix, and a zero
};

// A report as a line of text, without its end, and back: what it says of the job `socket`. `line` may hold a
// program's own text in front, which is left in it; nullopt, and `line` as it was, if there is no report.
std::string to_line(const Report& report, const std::string& socket);
std::optional<Report> take_report(std::string& line, const std::string& socket);

inline constexpr char take_input = 'i';  // a descriptor comes with it
inline constexpr char end_gently = 't';  // SIGTERM to the program
inline constexpr char end_now = 'k';     // SIGKILL to it and to all that it started

// How it is started: the first argument of `manyhands`, and what each of the following means.
inline constexpr std::string_view rank_command = "rank-of-run";
struct RankOptions {
  std::string socket;     // without the leading zero byte
  std::string preload;    // for LD_PRELOAD: paths with colons between them; "": nothing
  bool terminal = false;  // the program's standard output shall be a terminal, so that it comes line by line
  bool tag_output = false;
  bool is_local = true;       // the socket must be there: else `manyhands run` was killed meanwhile
  bool hides_status = false;  // the launcher is told 0 whatever the program's exit status is
  Binding bind = Binding::none;
  Input input =
      Input::none;  // first: rank 0 waits for take_input before it starts its program, all: every rank
};
std::vector<std::string> to_arguments(const RankOptions& options);

// "SIGSEGV (Segmentation fault)"
std::string signal_name(int signal);

// main() of that process. `arguments` begins behind rank_command and ends with the program and its own.
int run_rank(std::span<char*> arguments);

// True if a child of `pid` has ended with a failure, and `pid` has not waited for it.
bool has_failed_child(int pid);

// Removes the file of MPICH's shared memory that a report `segment` names, if it is still there.
void remove_segment(const Report& report);

// Makes the end of input what the calling process reads.
void take_no_input();

// Kills all processes below `pid` (not itself), however they were started. For subreapers.
void kill_descendants(int pid);

}  // namespace manyhands::cli
