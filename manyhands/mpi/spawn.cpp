#include "manyhands/mpi/spawn.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "manyhands/mpi/environment.hpp"

namespace manyhands::mpi {
namespace {

void require_spawn(const char* verb) {
  if (!features().spawn)
    throw Unsupported(verb, fmt::format("this MPI cannot start or meet other processes ({}); Open MPI can",
                                        features().library));
}

bool is_program(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

// Whether the program can be found here; true if it is looked for elsewhere.
bool can_be_found(const std::string& program, const Info& info) {
  for (const char* key : {"host", "hostfile", "add-host", "add-hostfile", "path", "wdir", "preload_binary",
                          "ompi_preload_binary", "ompi_prefix"}) {
    if (info.get(key)) return true;
  }
  if (program.find('/') != std::string::npos) return is_program(program);
  const char* const path = std::getenv("PATH");
  std::string_view folders = path == nullptr ? "" : path;
  while (!folders.empty()) {
    const std::size_t end = std::min(folders.find(':'), folders.size());
    if (is_program(std::filesystem::path(folders.substr(0, end)) / program)) return true;
    folders.remove_prefix(std::min(end + 1, folders.size()));
  }
  return is_program(program);  // some MPIs look into the working directory as well
}

// Arguments as MPI takes them.
class Arguments {
 public:
  explicit Arguments(const std::vector<std::string>& texts) {
    for (const std::string& text : texts) pointers_.push_back(const_cast<char*>(text.c_str()));
    pointers_.push_back(nullptr);
  }
  char** get() noexcept { return pointers_.data(); }

 private:
  std::vector<char*> pointers_;
};

// Throws an Error of class `code`, the root's, on all ranks if `mine` is not empty on the root.
void agree(const Comm& comm, int root, const std::string& mine, const char* verb, Errc code = Errc::spawn) {
  if (root < 0 || root >= comm.size())
    detail::fail(Errc::root, verb, {.comm = comm.native(), .root = root}, "there is no such rank");
  int told[] = {static_cast<int>(mine.size()), static_cast<int>(code)};
  detail::check(MPI_Bcast(told, 2, MPI_INT, root, comm.native()), verb);
  if (told[0] == 0) return;
  std::string text = mine;
  text.resize(static_cast<std::size_t>(told[0]));
  detail::check(MPI_Bcast(text.data(), told[0], MPI_CHAR, root, comm.native()), verb);
  if (static_cast<Errc>(told[1]) == Errc::unsupported) throw Unsupported(verb, text);
  detail::fail(static_cast<Errc>(told[1]), verb, {.comm = comm.native(), .root = root}, text);
}

std::string trouble_of(const std::string& program, int count, const Info& info) {
  if (count < 1) return fmt::format("{} processes of \"{}\"", count, program);
  if (!can_be_found(program, info)) return fmt::format("there is no program \"{}\"", program);
  return {};
}

}  // namespace

Intercomm spawn(const Comm& comm, const std::string& program, const SpawnOptions& options) {
  require_spawn("spawn");
  if (!comm) detail::fail(Errc::comm, "spawn", {}, "the communicator is empty");
  agree(comm, options.root,
        comm.rank() == options.root ? trouble_of(program, options.count, options.info) : std::string(),
        "spawn");
  Arguments args(options.args);
  MPI_Comm made = MPI_COMM_NULL;
  const std::string subject = "\"" + program + "\"";
  detail::check(MPI_Comm_spawn(program.c_str(), args.get(), options.count, options.info.native(),
                               options.root, comm.native(), &made, MPI_ERRCODES_IGNORE),
                "spawn", {.comm = comm.native(), .count = options.count, .subject = subject.c_str()});
  return Intercomm::adopt(made);
}

Intercomm spawn_multiple(const Comm& comm, std::span<const SpawnCommand> commands, int root) {
  require_spawn("spawn_multiple");
  if (!comm) detail::fail(Errc::comm, "spawn_multiple", {}, "the communicator is empty");
  std::string trouble;
  std::vector<char*> programs;
  std::vector<Arguments> args;
  std::vector<char**> argvs;
  std::vector<int> counts;
  std::vector<MPI_Info> infos;
  args.reserve(commands.size());
  if (comm.rank() == root) {
    if (commands.empty()) trouble = "there is nothing to start";
    for (const SpawnCommand& one : commands) {
      if (trouble.empty()) trouble = trouble_of(one.program, one.count, one.info);
      programs.push_back(const_cast<char*>(one.program.c_str()));
      args.emplace_back(one.args);
      argvs.push_back(args.back().get());
      counts.push_back(one.count);
      infos.push_back(one.info.native());
    }
  }
  agree(comm, root, trouble, "spawn_multiple");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(
      MPI_Comm_spawn_multiple(static_cast<int>(programs.size()), programs.data(), argvs.data(), counts.data(),
                              infos.data(), root, comm.native(), &made, MPI_ERRCODES_IGNORE),
      "spawn_multiple", {.comm = comm.native(), .root = root});
  return Intercomm::adopt(made);
}

std::optional<Intercomm> parent() {
  detail::require_active("parent");
  MPI_Comm raw = MPI_COMM_NULL;
  detail::check(MPI_Comm_get_parent(&raw), "parent");
  if (raw == MPI_COMM_NULL) return std::nullopt;
  MPI_Comm_set_errhandler(raw, MPI_ERRORS_RETURN);
  return Intercomm::view(raw);
}

Port::Port(const Info& info) {
  require_spawn("Port");
  char name[MPI_MAX_PORT_NAME];
  detail::check(MPI_Open_port(info.native(), name), "Port");
  name_ = name;
}

Port::~Port() {
  if (!name_.empty() && is_active()) MPI_Close_port(name_.c_str());
}

namespace {

struct Trouble {
  std::string what;  // empty: none
  Errc code = Errc::port;
};

#if defined(OPEN_MPI)
// The mpiexec that a port of Open MPI belongs to, "JOB.RANK:NUMBER" with the mpiexec in the upper half of
// JOB; nothing if it is no such port.
std::optional<unsigned long> launcher_of(const std::string& port) {
  unsigned long job = 0;
  unsigned long rank = 0;
  unsigned long number = 0;
  int end = 0;
  if (port.find_first_not_of("0123456789.:") != std::string::npos) return std::nullopt;
  if (std::sscanf(port.c_str(), "%10lu.%10lu:%10lu%n", &job, &rank, &number, &end) != 3 ||
      port.size() != static_cast<std::size_t>(end))
    return std::nullopt;
  return job >> 16;
}

// What keeps this job from meeting another at `port`: Open MPI reports it as an internal error, or waits.
Trouble trouble_at(const std::string& port, bool accepts) {
  const auto theirs = launcher_of(port);
  if (!theirs) return {"this is no port's name: Port::name() of who accepts"};
  char name[MPI_MAX_PORT_NAME];
  if (MPI_Open_port(MPI_INFO_NULL, name) != MPI_SUCCESS) return {};
  const auto ours = launcher_of(name);
  MPI_Close_port(name);
  if (!ours || *ours == *theirs) return {};
  if (accepts) return {"the port was opened by another job: the one that opens it accepts"};
  if (std::getenv("OMPI_MCA_pmix_server_uri") != nullptr) return {};
  return {
      "the port is that of a job which another mpiexec started. Open MPI brings such jobs together by a "
      "server only: start one by \"ompi-server -r FILE\", and both jobs with "
      "OMPI_MCA_pmix_server_uri=file:FILE in the environment",
      Errc::unsupported};
}
#else
Trouble trouble_at(const std::string& port, bool) {
  return {port.empty() ? "this is no port's name: Port::name() of who accepts" : ""};
}
#endif

template <class Call>
Intercomm meet(Call call, const Comm& comm, const std::string& port, const MeetOptions& options, bool accepts,
               const char* verb) {
  require_spawn(verb);
  if (!comm) detail::fail(Errc::comm, verb, {}, "the communicator is empty");
  const Trouble trouble = comm.rank() == options.root ? trouble_at(port, accepts) : Trouble();
  agree(comm, options.root, trouble.what.empty() ? "" : "\"" + port + "\": " + trouble.what, verb,
        trouble.code);
  std::string name = port;
  name.resize(MPI_MAX_PORT_NAME);
  const std::string subject = "\"" + port + "\"";
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(call(name.c_str(), options.info.native(), options.root, comm.native(), &made), verb,
                {.comm = comm.native(), .root = options.root, .subject = subject.c_str()});
  return Intercomm::adopt(made);
}

}  // namespace

Intercomm accept(const Comm& comm, const std::string& port, const MeetOptions& options) {
  return meet(&MPI_Comm_accept, comm, port, options, true, "accept");
}

Intercomm connect(const Comm& comm, const std::string& port, const MeetOptions& options) {
  return meet(&MPI_Comm_connect, comm, port, options, false, "connect");
}

Intercomm join(int socket) {
  require_spawn("join");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Comm_join(socket, &made), "join");
  if (made == MPI_COMM_NULL)
    detail::fail(Errc::intern, "join", {}, "the two processes share no MPI to meet through");
  return Intercomm::adopt(made);
}

void publish_name(const std::string& service, const std::string& port, const Info& info) {
  detail::require_active("publish_name");
  detail::check(MPI_Publish_name(service.c_str(), info.native(), port.c_str()), "publish_name",
                {.subject = service.c_str()});
}

void unpublish_name(const std::string& service, const std::string& port, const Info& info) {
  detail::require_active("unpublish_name");
  detail::check(MPI_Unpublish_name(service.c_str(), info.native(), port.c_str()), "unpublish_name",
                {.subject = service.c_str()});
}

std::optional<std::string> lookup_name(const std::string& service, const Info& info) {
  detail::require_active("lookup_name");
  char port[MPI_MAX_PORT_NAME];
  const int code = MPI_Lookup_name(service.c_str(), info.native(), port);
  if (code != MPI_SUCCESS && error_class(code) == Errc::name) return std::nullopt;
  detail::check(code, "lookup_name", {.subject = service.c_str()});
  return port;
}

}  // namespace manyhands::mpi
