#include "manyhands/cli/rank.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <utility>

#include "manyhands/cli/output.hpp"

namespace manyhands::cli {
namespace {

// For a program that was told to end. Below the second after which Open MPI's daemon kills the rank process,
// which could then not end what the program had started.
constexpr std::int64_t grace_ns = 600'000'000;
// Between a report of a failure and the end of the rank process, at which the launcher ends the other ranks:
// so the report of another host is there before that end is known, and a rank that died before this one is
// heard as well.
constexpr timespec pause_after_report{0, 150'000'000};
constexpr std::string_view report_mark = "\x01manyhands-report ";

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

int rank_of_environment() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "PMI_ID"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return 0;
}

int local_rank_of_environment() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return rank_of_environment();
}

// The connection to `manyhands run`; none if it is on another host, or not ours.
UniqueFd connect_to(const std::string& name) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!socket || name.empty() || name.size() + 1 > sizeof address.sun_path) return {};
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) return {};
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != ::geteuid())
    return {};
  return socket;
}

struct Stream {
  Channel channel = Channel::out;
  UniqueFd from;
  UniqueFd to;       // the program's end
  std::string line;  // begun, on another host
};

Stream make_stream(Channel channel, bool terminal) {
  int ends[2] = {-1, -1};
  if (terminal && ::openpty(&ends[0], &ends[1], nullptr, nullptr, nullptr) == 0) {
    termios mode{};
    ::tcgetattr(ends[1], &mode);
    ::cfmakeraw(&mode);  // bytes pass unchanged
    ::tcsetattr(ends[1], TCSANOW, &mode);
    ::fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    ::fcntl(ends[1], F_SETFD, FD_CLOEXEC);
  } else if (::pipe2(ends, O_CLOEXEC) != 0) {
    throw_errno("make a pipe for the program's output");
  }
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return {channel, UniqueFd(ends[0]), UniqueFd(ends[1]), {}};
}

// One core of those that the process may use, by turns.
void bind_to_core(int local_rank) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  const int count = CPU_COUNT(&allowed);
  int wanted = count == 0 ? 0 : local_rank % count;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || wanted-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ::sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

// Puts `first` before what the variable has, with a colon between them.
void prepend(const char* variable, const std::string& first) {
  const char* const others = std::getenv(variable);
  ::setenv(variable, others == nullptr || *others == '\0' ? first.c_str() : (first + ":" + others).c_str(),
           1);
}

// Those of `libraries` (paths, with colons between them) that this host has.
void preload(const std::string& libraries) {
  std::string there;
  for (std::size_t start = 0; start < libraries.size();) {
    const std::size_t end = std::min(libraries.find(':', start), libraries.size());
    const std::string library = libraries.substr(start, end - start);
    if (::access(library.c_str(), R_OK) == 0) there += (there.empty() ? "" : ":") + library;
    start = end + 1;
  }
  if (there.empty()) return;
  prepend("LD_PRELOAD", there);
  prepend("ASAN_OPTIONS", "verify_asan_link_order=0");  // its library need not be the very first
}

class Rank {
 public:
  Rank(RankOptions options, std::span<char*> program)
      : options_(std::move(options)),
        program_(program),
        rank_(rank_of_environment()),
        socket_(connect_to(options_.socket)) {}

  int run() {
    if (options_.is_local && !socket_) return 1;
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // of mpiexec
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // what the program leaves behind becomes ours
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2})
      sigaddset(&signals, signal);
    ::sigprocmask(SIG_BLOCK, &signals, &outer_mask_);
    ::signal(SIGPIPE, SIG_IGN);
    signals_ = UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    input_ = await_input();
    listen_for_stage();
    streams_[0] = make_stream(Channel::out, options_.terminal);
    streams_[1] = make_stream(Channel::err, false);
    start();
    if (socket_)
      hand_over_streams();
    else
      send(make_report(ReportKind::hello, 0));
    while (!status_) {
      wait_and_forward(was_ended_ || has_prompt() ? 100 : -1);
      if (was_ended_ && !status_ && now_ns() > end_ns_) kill_descendants(::getpid());
    }
    last_words();
    return finish(*status_);
  }

 private:
  Report make_report(ReportKind kind, int code) const {
    return {.kind = kind,
            .was_ended = was_ended_,
            .rank = rank_,
            .pid = child_,
            .code = code,
            .time_ns = now_ns(),
            .stage = stage_};
  }

  // What the program is to read, if that comes from us: blocks until `manyhands run` has sent it.
  UniqueFd await_input() {
    const bool wants = options_.input == Input::all || (options_.input == Input::first && rank_ == 0);
    if (!wants || !socket_) return {};
    send(make_report(ReportKind::ready, 0));
    char order = 0;
    iovec part{&order, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = 0;
    do {
      got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (got != 1 || order != take_input || header == nullptr || header->cmsg_type != SCM_RIGHTS)
      ::_exit(1);  // `manyhands run` is dead, or ends the job
    int file = -1;
    std::memcpy(&file, CMSG_DATA(header), sizeof file);
    return UniqueFd(file);
  }

  void listen_for_stage() {
    if (options_.preload.empty()) return;
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const std::string name = fmt::format("{}-{}", options_.socket, ::getpid());
    const int yes = 1;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (!socket || name.size() + 1 > sizeof address.sun_path) return;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) != 0 ||
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0)
      return;
    stage_socket_ = std::move(socket);
    stage_name_ = name;
  }

  // What the program has said of itself; others of this user could as well, other users not.
  void take_stages() {
    for (;;) {
      std::array<char, 64> text{};
      iovec part{text.data(), text.size() - 1};
      alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control{};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      const ssize_t got = stage_socket_ ? ::recvmsg(stage_socket_.get(), &message, 0) : -1;
      if (got < 0) return;
      ucred sender{.pid = 0, .uid = static_cast<uid_t>(-1), .gid = 0};
      const cmsghdr* const header = CMSG_FIRSTHDR(&message);
      if (header != nullptr && header->cmsg_type == SCM_CREDENTIALS)
        std::memcpy(&sender, CMSG_DATA(header), sizeof sender);
      if (got > 0 && sender.uid == ::geteuid())
        take_stage(static_cast<StageLetter>(text[0]), text.data() + 1);
    }
  }

  void take_stage(StageLetter letter, const char* more) {
    switch (letter) {
      case StageLetter::loaded:
        if (stage_ == Stage::unknown) stage_ = Stage::outside;
        break;
      case StageLetter::entered:
        stage_ = Stage::entered;
        send(make_report(ReportKind::entered, 0));
        break;
      case StageLetter::finalized:
        stage_ = Stage::finalized;
        break;
      case StageLetter::aborted:
        send(make_report(ReportKind::aborting, std::atoi(more)));
        break;
      case StageLetter::segment: {
        Report report = make_report(ReportKind::segment, 0);
        if (std::strlen(more) >= report.name.size()) break;
        std::strcpy(report.name.data(), more);
        segments_.push_back(report);
        send(report);
        break;
      }
    }
  }

  void start() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("make a pipe");
    const UniqueFd told(ends[0]);
    UniqueFd tell(ends[1]);
    const pid_t self = ::getpid();
    child_ = ::fork();
    if (child_ < 0) throw_errno("start a process for the program");
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != self) ::_exit(1);
      if (input_)
        ::dup2(input_.get(), STDIN_FILENO);
      else if (rank_ != 0)
        take_no_input();  // it is rank 0's; MPICH's launcher leaves the others an open pipe
      for (const auto& stream : streams_) {
        if (stream.to) ::dup2(stream.to.get(), file_of(stream.channel));
      }
      ::signal(SIGPIPE, SIG_DFL);
      ::sigprocmask(SIG_SETMASK, &outer_mask_, nullptr);
      if (stage_socket_) ::setenv(stage_variable, stage_name_.c_str(), 1);
      if (options_.bind == Binding::core) bind_to_core(local_rank_of_environment());
      preload(options_.preload);
      ::execvp(program_.front(), program_.data());  // the span ends with the null pointer of argv
      const int error = errno;
      [[maybe_unused]] const auto written = ::write(tell.get(), &error, sizeof error);
      ::_exit(127);
    }
    tell.reset();
    input_.reset();
    for (auto& stream : streams_) stream.to.reset();
    int error = 0;
    if (::read(told.get(), &error, sizeof error) == static_cast<ssize_t>(sizeof error)) exec_error_ = error;
  }

  bool has_prompt() const {
    return !options_.tag_output && (is_prompt(streams_[0].line) || is_prompt(streams_[1].line));
  }

  // One round of waiting: signals, orders, output. timeout_ms as for poll.
  void wait_and_forward(int timeout_ms) {
    std::array<pollfd, 5> polled{};
    polled[0] = {signals_.get(), POLLIN, 0};
    polled[1] = {socket_.get(), POLLIN, 0};  // -1 is passed over
    for (std::size_t i = 0; i < streams_.size(); ++i) polled[2 + i] = {streams_[i].from.get(), POLLIN, 0};
    polled[4] = {stage_socket_.get(), POLLIN, 0};
    const int ready = ::poll(polled.data(), polled.size(), timeout_ms);
    if (ready < 0 && errno != EINTR) throw_errno("wait for the program");
    if (ready == 0 && has_prompt()) {
      for (auto& stream : streams_) {
        if (is_prompt(stream.line)) write_all(file_of(stream.channel), std::exchange(stream.line, {}));
      }
    }
    if (polled[4].revents != 0) take_stages();
    if (polled[0].revents != 0) take_signals();
    if (socket_ && polled[1].revents != 0) take_orders();
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      if (polled[2 + i].revents != 0) static_cast<void>(forward(streams_[i]));
    }
  }

  void note_end() {
    if (!std::exchange(was_ended_, true)) end_ns_ = now_ns() + grace_ns;
  }

  void take_signals() {
    signalfd_siginfo signal{};
    while (::read(signals_.get(), &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
      if (signal.ssi_signo == SIGCHLD) continue;
      if (signal.ssi_signo != SIGUSR1 && signal.ssi_signo != SIGUSR2) note_end();
      if (child_ > 0) ::kill(child_, static_cast<int>(signal.ssi_signo));
    }
    int status = 0;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid == child_) status_ = status;
    }
  }

  void take_orders() {
    char order = 0;
    const ssize_t got = ::recv(socket_.get(), &order, 1, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {  // `manyhands run` is dead
      kill_descendants(::getpid());
      // The first of us to end makes mpiexec kill the others, who need a moment to do the same.
      const timespec pause{0, 200'000'000};
      ::nanosleep(&pause, nullptr);
      kill_descendants(::getpid());
      for (const auto& segment : segments_) remove_segment(segment);
      ::_exit(1);
    }
    note_end();
    if (order == end_gently) ::kill(child_, SIGTERM);
    if (order == end_now) kill_descendants(::getpid());
  }

  static int file_of(Channel channel) { return channel == Channel::out ? STDOUT_FILENO : STDERR_FILENO; }

  // `manyhands run` reads the program's output itself: so nothing is lost if this process is killed first.
  void hand_over_streams() {
    const Report report = make_report(ReportKind::hello, 0);
    iovec part{const_cast<Report*>(&report), sizeof report};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(2 * sizeof(int));
    const std::array<int, 2> files{streams_[0].from.get(), streams_[1].from.get()};
    std::memcpy(CMSG_DATA(header), files.data(), sizeof files);
    static_cast<void>(
        ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL));  // a broken socket is seen by take_orders
    for (auto& stream : streams_) stream.from.reset();
  }

  // On another host, whole lines, if wanted with the rank in front, to mpiexec. False if nothing is left to
  // read for now.
  bool forward(Stream& stream) {
    if (!stream.from) return false;
    std::array<char, 16384> bytes;
    const ssize_t got = ::read(stream.from.get(), bytes.data(), bytes.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got <= 0) {
      stream.from.reset();
      return false;
    }
    std::string& line = stream.line;
    line.append(bytes.data(), static_cast<std::size_t>(got));
    for (std::size_t end; (end = line.find('\n')) != std::string::npos; line.erase(0, end + 1))
      write_all(file_of(stream.channel), tag() + line.substr(0, end + 1));
    return true;
  }

  std::string tag() const { return options_.tag_output ? fmt::format("[{}] ", rank_) : std::string(); }

  static void write_all(int to, std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(to, text.data(), text.size());
      if (written < 0 && errno != EINTR) return;
      text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
    }
  }

  void send(const Report& report) const {
    if (socket_)
      static_cast<void>(::send(socket_.get(), &report, sizeof report, MSG_NOSIGNAL));
    else
      write_all(STDERR_FILENO, to_line(report, options_.socket) + "\n");
  }

  // What the program wrote before it ended; what it left running may hold the pipes open, and is not waited
  // for.
  void last_words() {
    for (auto& stream : streams_) {
      while (forward(stream)) {
      }
      if (!stream.line.empty())
        write_all(file_of(stream.channel), tag() + stream.line + (options_.tag_output ? "\n" : ""));
    }
  }

  // Reports how the program ended, from what waitpid said of it; returns the exit status to end with.
  int finish(int status) {
    const bool signalled = WIFSIGNALED(status);
    const int code = signalled ? WTERMSIG(status) : WEXITSTATUS(status);
    take_stages();
    if (signalled || was_ended_) kill_descendants(::getpid());
    const auto kind = exec_error_ != 0 ? ReportKind::not_started
                      : signalled      ? ReportKind::signalled
                                       : ReportKind::exited;
    send(make_report(kind, exec_error_ != 0 ? exec_error_ : code));
    if (!was_ended_ && (signalled ? !socket_ : code != 0)) ::nanosleep(&pause_after_report, nullptr);
    for (const auto& segment : segments_) remove_segment(segment);
    if (options_.hides_status) return 0;
    return signalled ? 128 + code : code;
  }

  RankOptions options_;
  std::span<char*> program_;
  int rank_;
  UniqueFd socket_;  // -1: `manyhands run` is on another host
  UniqueFd signals_;
  UniqueFd input_;         // for the program
  UniqueFd stage_socket_;  // of what is preloaded into it; none: nothing is
  std::string stage_name_;
  Stage stage_ = Stage::unknown;
  std::vector<Report> segments_;
  sigset_t outer_mask_{};
  std::array<Stream, 2> streams_{};
  pid_t child_ = -1;
  int exec_error_ = 0;
  bool was_ended_ = false;     // told to end
  std::int64_t end_ns_ = 0;    // then: when it is killed if it does not
  std::optional<int> status_;  // of waitpid, once the program has ended
};

// Empty for a process that has ended, also between the opening and the reading: getline() notes that in the
// stream, where an iterator over its buffer would throw.
std::string stat_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text;
  std::getline(file, text, '\0');
  return text;
}

std::map<int, std::vector<int>> children_by_parent() {
  std::map<int, std::vector<int>> children;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string text = stat_of(name);
    const auto end = text.rfind(')');  // of the name, which may hold anything
    char state = 'Z';
    int parent = 0;
    if (end == std::string::npos || std::sscanf(text.c_str() + end + 1, " %c %d", &state, &parent) != 2)
      continue;
    if (state != 'Z' && state != 'X') children[parent].push_back(std::atoi(name.c_str()));
  }
  return children;
}

}  // namespace

std::vector<std::string> to_arguments(const RankOptions& options) {
  std::string flags = "-";
  if (options.terminal) flags += 'p';
  if (options.tag_output) flags += 't';
  if (options.is_local) flags += 'l';
  if (options.bind == Binding::core) flags += 'b';
  if (options.hides_status) flags += 'h';
  if (options.input == Input::first) flags += 'f';
  if (options.input == Input::all) flags += 'a';
  return {std::string(rank_command), options.socket, flags, options.preload.empty() ? "-" : options.preload};
}

std::string signal_name(int signal) {
  const char* const name = sigabbrev_np(signal);
  const char* const text = sigdescr_np(signal);
  if (name == nullptr) return fmt::format("signal {}", signal);
  return fmt::format("SIG{} ({})", name, text == nullptr ? "" : text);
}

std::string to_line(const Report& report, const std::string& socket) {
  return fmt::format("{}{} {} {} {} {} {} {} {}", report_mark, socket, static_cast<int>(report.kind),
                     report.was_ended ? 1 : 0, report.rank, report.pid, report.code,
                     static_cast<int>(report.stage), report.name[0] == '\0' ? "-" : report.name.data());
}

std::optional<Report> take_report(std::string& line, const std::string& socket) {
  const std::string mark = fmt::format("{}{} ", report_mark, socket);
  const auto at = line.find(mark);
  int kind = 0;
  int was_ended = 0;
  int stage = 0;
  Report report;
  if (at == std::string::npos ||
      std::sscanf(line.c_str() + at + mark.size(), "%d %d %d %d %d %d %15s", &kind, &was_ended, &report.rank,
                  &report.pid, &report.code, &stage, report.name.data()) != 7 ||
      kind < 0 || kind > static_cast<int>(ReportKind::not_started) || stage < 0 ||
      stage > static_cast<int>(Stage::finalized))
    return std::nullopt;
  report.kind = static_cast<ReportKind>(kind);
  report.was_ended = was_ended != 0;
  report.stage = static_cast<Stage>(stage);
  report.time_ns = now_ns();  // the other host's clock says nothing here
  line.erase(at);
  return report;
}

int run_rank(std::span<char*> arguments) {
  if (arguments.size() < 4) {
    std::fprintf(stderr, "manyhands %s is started by manyhands run\n", std::string(rank_command).c_str());
    return 2;
  }
  const std::string_view flags = arguments[1];
  const auto has = [&](char flag) { return flags.find(flag) != std::string_view::npos; };
  RankOptions options{.socket = arguments[0],
                      .preload = std::strcmp(arguments[2], "-") == 0 ? "" : arguments[2],
                      .terminal = has('p'),
                      .tag_output = has('t'),
                      .is_local = has('l'),
                      .hides_status = has('h'),
                      .bind = has('b') ? Binding::core : Binding::none,
                      .input = has('a')   ? Input::all
                               : has('f') ? Input::first
                                          : Input::none};
  return Rank(std::move(options), arguments.subspan(3)).run();
}

bool has_failed_child(int pid) {
  std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", pid));
  for (int child = 0; children >> child;) {
    const std::string text = stat_of(std::to_string(child));
    const auto end = text.rfind(')');
    if (end == std::string::npos || text.compare(end, 3, ") Z") != 0) continue;
    const auto code = text.find_last_of(' ');  // the last field: as of waitpid
    if (code != std::string::npos && std::atoi(text.c_str() + code) != 0) return true;
  }
  return false;
}

void remove_segment(const Report& report) {
  const std::string_view name(report.name.data());  // ends with a zero: the array was larger, or sscanf's
  if (name.empty() || name.find('/') != std::string_view::npos) return;
  ::unlink((std::string(mpich_segment_prefix) + std::string(name)).c_str());
}

void take_no_input() {
  if (const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC); nothing >= 0)
    ::dup2(nothing, STDIN_FILENO);
}

void kill_descendants(int pid) {
  for (int round = 0; round < 100; ++round) {  // what is being forked meanwhile is found in the next round
    const auto children = children_by_parent();
    std::vector<int> found{pid};
    for (std::size_t i = 0; i < found.size(); ++i) {
      const auto below = children.find(found[i]);
      if (below != children.end()) found.insert(found.end(), below->second.begin(), below->second.end());
    }
    if (found.size() == 1) return;
    for (std::size_t i = 1; i < found.size(); ++i) ::kill(found[i], SIGKILL);
    const timespec pause{0, 2'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace manyhands::cli
