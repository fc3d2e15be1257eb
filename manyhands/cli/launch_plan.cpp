#include "manyhands/cli/launch_plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "manyhands/base/cores.hpp"
#include "manyhands/base/elf.hpp"

namespace manyhands::cli {
namespace {

namespace fs = std::filesystem;

// Beyond this many per core starting alone takes minutes: 128 ranks of Open MPI on 2 cores need 17 s, 256
// never end.
constexpr std::uint64_t ranks_per_core = 64;
constexpr std::uint64_t memory_per_rank =
    24 << 20;  // bytes; an empty program of either MPI has 12 to 20 MB of its own
constexpr std::uint64_t processes_per_rank = 4;  // ours, the program, and the threads of both

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool is_executable_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

// As execvp looks for a program; "" if it is not there.
std::string find_on_path(const std::string& name) {
  std::string folders = environment("PATH");
  if (folders.empty()) folders = "/usr/local/bin:/usr/bin:/bin";
  for (std::size_t start = 0; start <= folders.size();) {
    const std::size_t end = std::min(folders.find(':', start), folders.size());
    const fs::path candidate = fs::path(end == start ? "." : folders.substr(start, end - start)) / name;
    if (is_executable_file(candidate)) return candidate;
    start = end + 1;
  }
  return {};
}

// The path that is going to be executed. Throws UsageError with the reason if there is none.
std::string find_program(const std::string& name) {
  if (name.find('/') == std::string::npos) {
    const std::string found = find_on_path(name);
    if (!found.empty()) return found;
    std::error_code error;
    if (fs::exists(name, error))
      throw UsageError(fmt::format(
          "there is no program {} on the PATH; the one in this folder is called ./{}", name, name));
    throw UsageError(fmt::format("there is no program {} on the PATH", name));
  }
  std::error_code error;
  const auto status = fs::status(name, error);
  if (!fs::exists(status)) throw UsageError(fmt::format("{}: there is no such file", name));
  if (fs::is_directory(status)) throw UsageError(fmt::format("{} is a folder", name));
  if (!is_executable_file(name)) throw UsageError(fmt::format("{} may not be executed (chmod +x?)", name));
  return name;
}

std::string quoted(const std::string& word) {
  if (!word.empty() &&
      word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%^") ==
          std::string::npos)
    return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

struct BuiltFor {
  MpiKind mpi;
  std::string library;  // the path of its MPI library; "" if it was not found
};

std::optional<MpiKind> kind_of_library(std::string_view name) {
  // libmpi.so.12 is what MPICH and its kin (Intel MPI, MVAPICH) call themselves; Debian's MPICH is
  // libmpich.so.12.
  if (name.starts_with("libmpich.so") || name.starts_with("libmpi.so.12")) return MpiKind::mpich;
  if (name.starts_with("libmpi.so.")) return MpiKind::openmpi;
  return std::nullopt;
}

std::optional<BuiltFor> built_for(const std::string& path) {
  for (const auto& library : needed_libraries(path, LibrarySearch::of_environment(), Follow::all)) {
    if (const auto kind = kind_of_library(library.name)) return BuiltFor{*kind, library.path};
  }
  return std::nullopt;
}

// Programs that run others: what they run may tell more.
bool runs_others(const std::string& path) {
  const std::string name = fs::path(path).filename();
  static constexpr std::array<std::string_view, 20> known{
      "bash", "dash",   "env", "gdb",     "julia", "lua", "nice",   "node",    "numactl", "perf",
      "perl", "python", "R",   "Rscript", "ruby",  "sh",  "strace", "taskset", "time",    "valgrind"};
  return std::any_of(known.begin(), known.end(), [&](std::string_view k) {
    return name == k ||
           (name.starts_with(k) && name.find_first_not_of("0123456789.-", k.size()) == std::string::npos);
  });
}

// Which MPI a launcher belongs to, by what it says of itself.
std::optional<MpiKind> kind_of_launcher(const std::string& path) {
  FILE* const pipe = ::popen(fmt::format("{} --version 2>&1 </dev/null", quoted(path)).c_str(), "re");
  if (pipe == nullptr) return std::nullopt;
  std::string said(4096, '\0');
  said.resize(std::fread(said.data(), 1, said.size(), pipe));
  ::pclose(pipe);
  if (said.find("OpenRTE") != std::string::npos || said.find("Open MPI") != std::string::npos)
    return MpiKind::openmpi;
  if (said.find("HYDRA") != std::string::npos || said.find("MPICH") != std::string::npos)
    return MpiKind::mpich;
  return std::nullopt;
}

std::string find_launcher(MpiKind kind, const std::string& library) {
  std::vector<std::string> candidates;
  if (!library.empty()) {  // an MPI in a folder of its own: PREFIX/lib/libmpi.so and PREFIX/bin/mpiexec
    std::error_code error;
    const fs::path bin = fs::canonical(library, error).parent_path().parent_path() / "bin";
    if (!error && bin != "/usr/bin" && bin != "/bin") candidates.push_back(bin / "mpiexec");
  }
  const std::string suffix = kind == MpiKind::openmpi ? "openmpi" : "mpich";
  for (const std::string& name : {"mpiexec." + suffix, "mpirun." + suffix, std::string("mpiexec"),
                                  std::string("mpirun"), std::string("mpiexec.hydra")}) {
    candidates.push_back(find_on_path(name));
  }
  for (const auto& path : candidates) {
    if (!path.empty() && is_executable_file(path) && kind_of_launcher(path) == kind) return path;
  }
  throw Error(fmt::format("no mpiexec of {} was found ({} on the PATH); on Debian it is in the package {}",
                          name_of(kind), "mpiexec." + suffix + " or mpiexec",
                          kind == MpiKind::openmpi ? "openmpi-bin" : "mpich"));
}

MpiKind default_kind() {
  for (const char* name : {"mpiexec", "mpirun", "mpiexec.openmpi", "mpiexec.mpich"}) {
    const std::string path = find_on_path(name);
    if (path.empty()) continue;
    if (const auto kind = kind_of_launcher(path)) return *kind;
  }
  throw Error(
      "no mpiexec of Open MPI or MPICH is on the PATH; on Debian they are in the packages openmpi-bin and "
      "mpich");
}

std::optional<MpiKind> wanted_kind(const RunOptions& options) {
  if (options.mpi) return options.mpi;
  const std::string wanted = environment("MANYHANDS_MPI");
  return wanted.empty() ? std::nullopt : std::optional(mpi_kind_of(wanted));
}

// Which MPI, from the first word of the command line that is built for one.
BuiltFor choose_mpi(const RunOptions& options, const std::string& program, std::vector<std::string>& notes) {
  const bool is_binary = is_elf(program);
  const bool may_hide_mpi = !is_binary || runs_others(program);
  std::optional<BuiltFor> found;
  if (is_binary) found = built_for(program);
  for (std::size_t i = 1; !found && may_hide_mpi && i < options.program.size(); ++i) {
    if (is_elf(options.program[i]) && is_executable_file(options.program[i]))
      found = built_for(options.program[i]);
  }
  if (const auto wanted = wanted_kind(options)) {
    if (found && found->mpi != *wanted && options.mpi) {
      throw UsageError(fmt::format("{} was built for {} ({}), not for {}", program, name_of(found->mpi),
                                   found->library, name_of(*wanted)));
    }
    if (!found) return {*wanted, ""};
  }
  if (found) return *found;
  if (!may_hide_mpi) {
    throw UsageError(fmt::format(
        "{} is no MPI program: it needs neither libmpi.so.40 (Open MPI) nor libmpich.so.12 (MPICH); if it "
        "loads MPI while it runs, say which: --mpi openmpi or --mpi mpich",
        program));
  }
  const MpiKind kind = default_kind();
  notes.push_back(fmt::format(
      "{} does not say which MPI it is for; taking {}, this machine's default (choose: --mpi openmpi|mpich)",
      program, name_of(kind)));
  return {kind, ""};
}

class Variables {
 public:
  explicit Variables(LaunchPlan& plan) : plan_(plan) {}
  // What the user has set stays.
  void set_unless_set(const char* name, const char* value) {
    if (std::getenv(name) == nullptr) plan_.environment.emplace_back(name, value);
  }

 private:
  LaunchPlan& plan_;
};

void prepare_openmpi(LaunchPlan& plan, const RunOptions& options, const Machine& machine) {
  Variables variables(plan);
  if (machine.is_root) {
    variables.set_unless_set("OMPI_ALLOW_RUN_AS_ROOT", "1");
    variables.set_unless_set("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  variables.set_unless_set("OMPI_MCA_hwloc_base_binding_policy",
                           "none");  // its default binds every job to the same cores
  if (options.is_local()) {
    variables.set_unless_set("OMPI_MCA_rmaps_base_oversubscribe", "1");
    if (options.ranks > machine.cores) variables.set_unless_set("OMPI_MCA_mpi_yield_when_idle", "1");
    if (!machine.may_copy_directly)
      variables.set_unless_set("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    const bool has_remote_shell =
        std::getenv("PATH") != nullptr && !(find_on_path("ssh").empty() && find_on_path("rsh").empty());
    if (!has_remote_shell)
      variables.set_unless_set("OMPI_MCA_plm", "isolated");  // else it refuses to start anything
    // No search for networks: starting two ranks takes 0.12 s instead of 0.32 s. tcp stays for spawned
    // processes.
    if (std::getenv("OMPI_MCA_btl") == nullptr && std::getenv("OMPI_MCA_pml") == nullptr) {
      variables.set_unless_set("OMPI_MCA_pml", "ob1");
      variables.set_unless_set("OMPI_MCA_btl", "self,vader,tcp");
    }
    // Its own choice among all finds nothing for windows over memory of one's own (Window::over) and for
    // those to which memory is attached (Window::dynamic) where process_vm_readv is forbidden; pt2pt does it
    // with messages.
    variables.set_unless_set("OMPI_MCA_osc", "sm,pt2pt,rdma");
  }
  plan.command = {plan.launcher, "-n", std::to_string(options.ranks)};
  if (!options.hosts.empty()) plan.command.insert(plan.command.end(), {"--host", options.hosts});
  if (!options.hostfile.empty()) plan.command.insert(plan.command.end(), {"--hostfile", options.hostfile});
  if (options.is_local()) return;
  for (const auto& variable : options.variables)  // to other hosts it takes only those that it is told
    plan.command.insert(plan.command.end(), {"-x", variable.substr(0, variable.find('='))});
}

// Beside bin/manyhands, in the build as where it is installed; "" if it is not there.
std::string own_library(std::string_view name) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path library = self.parent_path().parent_path() / "lib/manyhands" / name;
  return !error && fs::exists(library, error) ? library.string() : "";
}

void prepare_mpich(LaunchPlan& plan, const RunOptions& options, const Machine& machine) {
  Variables variables(plan);
  if (options.is_local() && !machine.may_copy_directly) variables.set_unless_set("UCX_TLS", "^cma");
  // MPICH polls without ever giving the core away: 200 allreduces of 7 ranks on 2 cores take 6 s, with this
  // 0.1 s.
  if (options.is_local() && options.ranks > machine.cores)
    plan.preload = own_library("libmanyhands_mpich_yield.so");
  // Over TCP about half of the jobs of MPICH 4.0 never end (see mpich_finalize.cpp).
  if (!options.is_local()) plan.preload = own_library("libmanyhands_mpich_finalize.so");
  plan.command = {plan.launcher, "-n", std::to_string(options.ranks)};
  if (!options.hosts.empty()) plan.command.insert(plan.command.end(), {"-hosts", options.hosts});
  if (!options.hostfile.empty()) plan.command.insert(plan.command.end(), {"-f", options.hostfile});
}

// Two siblings, as two ranks are: may one read the other's memory?
bool siblings_may_copy() {
  int word = 42;
  const pid_t owner = ::fork();
  if (owner == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) ::pause();
  }
  const pid_t reader = ::fork();
  if (reader == 0) {
    int copy = 0;
    const iovec to{&copy, sizeof copy};
    const iovec from{&word, sizeof word};
    ::_exit(::process_vm_readv(owner, &to, 1, &from, 1, 0) == static_cast<ssize_t>(sizeof copy) ? 0 : 1);
  }
  int status = 1;
  if (reader > 0) ::waitpid(reader, &status, 0);
  if (owner > 0) {
    ::kill(owner, SIGKILL);
    ::waitpid(owner, nullptr, 0);
  }
  return owner > 0 && reader > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::uint64_t free_memory() {
  const std::string info = text_of("/proc/meminfo");
  const auto at = info.find("MemAvailable:");
  return at == std::string::npos ? UINT64_MAX : std::strtoull(info.c_str() + at + 13, nullptr, 10) << 10;
}

std::uint64_t free_processes() {
  std::uint64_t left = UINT64_MAX;
  rlimit limit{};
  if (::geteuid() != 0 && ::getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    left = limit.rlim_cur;
  const std::string own = text_of("/proc/self/cgroup");
  if (const auto at = own.find("0::"); at != std::string::npos) {
    const fs::path folder = "/sys/fs/cgroup" + own.substr(at + 3, own.find('\n', at) - at - 3);
    const std::string most = text_of(folder / "pids.max");
    const std::string now = text_of(folder / "pids.current");
    if (!most.empty() && most.starts_with("max") == false && !now.empty()) {
      const auto max = std::strtoull(most.c_str(), nullptr, 10);
      const auto current = std::strtoull(now.c_str(), nullptr, 10);
      left = std::min<std::uint64_t>(left, max > current ? max - current : 0);
    }
  }
  return left;
}

}  // namespace

std::string_view name_of(MpiKind kind) noexcept { return kind == MpiKind::openmpi ? "Open MPI" : "MPICH"; }

MpiKind mpi_kind_of(std::string_view text) {
  if (text == "openmpi") return MpiKind::openmpi;
  if (text == "mpich") return MpiKind::mpich;
  throw UsageError(fmt::format("there is no MPI named '{}'; say openmpi or mpich", text));
}

Machine survey() {
  return {.cores = cpu_count(),
          .is_root = ::geteuid() == 0,
          .may_copy_directly = siblings_may_copy(),
          .free_memory = free_memory(),
          .free_processes = free_processes()};
}

Bearable bearable_ranks(const Machine& machine) {
  const std::uint64_t cores = static_cast<std::uint64_t>(machine.cores) * ranks_per_core;
  const std::uint64_t memory = machine.free_memory / memory_per_rank;
  const std::uint64_t processes = machine.free_processes / processes_per_rank;
  const std::uint64_t least = std::min({cores, memory, processes});
  if (least == cores)
    return {least, fmt::format("{} for each of its {} cores", ranks_per_core, machine.cores)};
  if (least == memory) return {least, fmt::format("{} MB of memory are free", machine.free_memory >> 20)};
  return {least, fmt::format("{} more processes are allowed", machine.free_processes)};
}

LaunchPlan plan_launch(const RunOptions& options, const Machine& machine) {
  LaunchPlan plan;
  plan.program = options.program;
  plan.program.front() = find_program(options.program.front());
  if (options.input == Input::all && !options.is_local())
    throw UsageError("--stdin all: is for ranks on this machine; on others only rank 0 can read it");
  if (options.is_local() && !options.force) {
    const Bearable most = bearable_ranks(machine);
    if (static_cast<std::uint64_t>(options.ranks) > most.ranks) {
      throw UsageError(fmt::format(
          "{} ranks are more than this machine bears: at most {} ({}); use --hosts for more machines, or "
          "--force to try it",
          options.ranks, most.ranks, most.why));
    }
  }
  const BuiltFor target = choose_mpi(options, plan.program.front(), plan.notes);
  plan.mpi = target.mpi;
  plan.launcher = find_launcher(target.mpi, target.library);
  if (plan.mpi == MpiKind::openmpi)
    prepare_openmpi(plan, options, machine);
  else
    prepare_mpich(plan, options, machine);
  plan.stage_library = own_library("libmanyhands_mpi_stage.so");
  for (const auto& variable : options.variables) {
    const auto equals = variable.find('=');
    if (equals != std::string::npos)
      plan.environment.emplace_back(variable.substr(0, equals), variable.substr(equals + 1));
  }
  return plan;
}

std::string to_string(const LaunchPlan& plan) {
  std::vector<std::string> words;
  words.reserve(plan.environment.size() + plan.command.size() + 2 + plan.program.size());
  for (const auto& [name, value] : plan.environment) words.push_back(name + "=" + quoted(value));
  for (const auto& word : plan.command) words.push_back(quoted(word));
  if (!plan.preload.empty()) words.insert(words.end(), {"env", "LD_PRELOAD=" + quoted(plan.preload)});
  for (const auto& word : plan.program) words.push_back(quoted(word));
  return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace manyhands::cli
