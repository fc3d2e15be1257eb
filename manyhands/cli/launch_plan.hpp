#pragma once
// What `manyhands run` is going to start: which MPI the program was built for, which launcher belongs to it,
// and the variables that containers, root and small machines need. Decides only; job.hpp runs it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manyhands/base/error.hpp"

namespace manyhands::cli {

// The command line or the program is wrong: exit status 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

enum class MpiKind : std::uint8_t { openmpi, mpich };
// "Open MPI", "MPICH".
std::string_view name_of(MpiKind kind) noexcept;
// "openmpi" or "mpich", as on the command line. Throws UsageError for anything else.
MpiKind mpi_kind_of(std::string_view text);

enum class Binding : std::uint8_t { none, core };
enum class Input : std::uint8_t { none, first, all };  // the ranks that read our standard input

struct RunOptions {
  int ranks = 1;
  std::optional<MpiKind> mpi;  // as the user said; else it is found out
  bool tag_output = false;     // each line begins with its rank: "[2] text"
  std::string hosts;           // as the launcher takes them; "": this machine
  std::string hostfile;
  bool dry_run = false;
  bool verbose = false;  // the launcher's own texts too
  bool force = false;    // more ranks than the machine bears
  double timeout_s = 0;  // 0: none
  Binding bind = Binding::none;
  Input input = Input::first;
  std::vector<std::string> variables;  // "NAME" or "NAME=VALUE"
  std::vector<std::string> program;    // and its arguments

  bool is_local() const { return hosts.empty() && hostfile.empty(); }
};

// What the plan depends on beside the options.
struct Machine {
  int cores = 1;  // that this process may use
  bool is_root = false;
  bool may_copy_directly = true;     // process_vm_readv between two processes is permitted (Open MPI's CMA)
  std::uint64_t free_memory = 0;     // bytes
  std::uint64_t free_processes = 0;  // that may still be started
};
// Looks at this machine; starts two short-lived processes.
Machine survey();

struct LaunchPlan {
  MpiKind mpi = MpiKind::openmpi;
  std::string launcher;              // path of mpiexec
  std::vector<std::string> command;  // the launcher with its options, without the program
  std::vector<std::pair<std::string, std::string>> environment;  // what is set, or changed
  std::string preload;               // for the program: "" or a path for LD_PRELOAD
  std::string stage_library;         // preloaded as well, for us (mpi_stage.cpp); "": not there
  std::vector<std::string> program;  // path and arguments
  std::vector<std::string> notes;    // for standard error
};

// Throws UsageError if the program cannot be started, is no MPI program, or the machine does not bear so many
// ranks; Error if there is no launcher.
LaunchPlan plan_launch(const RunOptions& options, const Machine& machine);

// How many ranks the machine bears, and why not more.
struct Bearable {
  std::uint64_t ranks;
  std::string why;
};
Bearable bearable_ranks(const Machine& machine);

// The command line as a shell would read it.
std::string to_string(const LaunchPlan& plan);

}  // namespace manyhands::cli
