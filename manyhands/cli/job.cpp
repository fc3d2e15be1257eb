#include "manyhands/cli/job.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <list>
#include <system_error>
#include <utility>

#include "manyhands/base/unique_fd.hpp"
#include "manyhands/cli/input.hpp"
#include "manyhands/cli/noise.hpp"
#include "manyhands/cli/output.hpp"
#include "manyhands/cli/rank.hpp"

namespace manyhands::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// The steps of an end by force, from its beginning; the last is well below the two seconds that are promised.
constexpr milliseconds kill_programs_after{400};
constexpr milliseconds end_launcher_after{600};
constexpr milliseconds kill_all_after{1300};
constexpr milliseconds grace_for_others{
    500};  // after a rank's exit status other than 0: they may be about to end as well
constexpr milliseconds partial_line_after{100};  // a prompt without a line's end is shown after so long
constexpr milliseconds hold_for{900};            // longer than grace_for_others

struct Stream {
  UniqueFd from;
  Lines lines;
};

// The connection to one rank process.
struct Connection {
  UniqueFd socket;
  int rank = -1;  // unknown until it has said so
  int pid = 0;
  bool has_ended = false;           // its program, as it has reported
  std::array<Stream, 2> streams{};  // by Channel; none until it has said hello
};

constexpr std::array<Channel, 2> channels{Channel::out, Channel::err};

// Reads once. False if there is nothing to be read for now; closes the descriptor at its end.
template <class OnBytes>
bool read_some(UniqueFd& from, OnBytes on_bytes) {
  if (!from) return false;
  std::array<char, 65536> bytes;
  const ssize_t got = ::read(from.get(), bytes.data(), bytes.size());
  if (got > 0) {
    on_bytes(std::string_view(bytes.data(), static_cast<std::size_t>(got)));
    return true;
  }
  if (got == 0 || (errno != EAGAIN && errno != EINTR))
    from.reset();  // EIO: the other end of a terminal is closed
  return false;
}

// One packet and the descriptors that came with it. False: none for now, or `socket` was closed (and is
// reset).
bool receive(UniqueFd& socket, Report& report, std::array<UniqueFd, 2>& files) {
  iovec part{&report, sizeof report};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got != static_cast<ssize_t>(sizeof report)) {
    socket.reset();
    return false;
  }
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(2 * sizeof(int))) {
    std::array<int, 2> numbers{};
    std::memcpy(numbers.data(), CMSG_DATA(header), sizeof numbers);
    for (std::size_t i = 0; i < files.size(); ++i) files[i] = UniqueFd(numbers[i]);
  }
  return true;
}

class Listener {
 public:
  Listener() : socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    std::uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random))
      throw_errno("get random bytes");
    name_ = fmt::format("manyhands-run-{}-{:016x}", ::getpid(), random);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name_.data(), name_.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name_.size());
    if (!socket_ || ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
        ::listen(socket_.get(), 1024) != 0)
      throw_errno("listen for the ranks");
  }
  const std::string& name() const { return name_; }
  int fd() const { return socket_.get(); }

  // The next process that has connected; none, or another user's: not set.
  UniqueFd accept() {
    UniqueFd socket(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    ucred peer{};
    socklen_t size = sizeof peer;
    if (!socket || ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
        peer.uid != ::geteuid())
      return {};
    return socket;
  }

 private:
  UniqueFd socket_;
  std::string name_;
};

enum class Cause { none, rank_failed, rank_left, host_lost, aborted, interrupted, timed_out, output_closed };

// The number of the job that process `pid` is a rank of, as Open MPI uses it in the names of files; 0:
// unknown.
std::uint32_t openmpi_job_of(int pid) {
  std::ifstream variables(fmt::format("/proc/{}/environ", pid));
  for (std::string variable; std::getline(variables, variable, '\0');) {
    std::uint32_t job = 0;
    if (std::sscanf(variable.c_str(), "OMPI_MCA_ess_base_jobid=%" SCNu32, &job) == 1) return job;
  }
  return 0;
}

// Whether a name like "vader_segment.HOST.UID.JOB.RANK", the job in hexadecimal, belongs to `job` or to
// processes that it has spawned: theirs differ in the lower half of the number.
bool is_of_family(const std::string& file, std::uint32_t job) {
  for (std::size_t dot = file.find('.'); dot != std::string::npos; dot = file.find('.', dot + 1)) {
    char* end = nullptr;
    const auto number = std::strtoull(file.c_str() + dot + 1, &end, 16);
    if ((*end == '.' || *end == '\0') && number <= UINT32_MAX && number >> 16 == job >> 16) return true;
  }
  return false;
}

class Job {
 public:
  Job(const LaunchPlan& plan, const RunOptions& options)
      : plan_(plan), options_(options), feeder_(options.input == Input::all ? options.ranks : 1) {}

  int run() {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // whatever loses its parent stays below us, and can be ended
    block_signals();
    start_launcher();
    const auto start = Clock::now();
    if (options_.timeout_s > 0)
      limit_ = start +
               std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.timeout_s));
    while (!is_over()) step();
    return conclude();
  }

 private:
  void block_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
      struct sigaction action{};
      ::sigaction(signal, nullptr, &action);
      if (action.sa_handler != SIG_IGN)
        sigaddset(&signals, signal);  // nohup, or a shell's job in the background
    }
    ::sigprocmask(SIG_BLOCK, &signals, &outer_mask_);
    for (const int signal : {SIGPIPE, SIGTTIN, SIGTTOU})  // the latter: in the background of a terminal
      ::signal(signal, SIG_IGN);
    signals_ = UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) throw_errno("wait for signals");
  }

  std::vector<std::string> whole_command() const {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe");
    auto command = plan_.command;
    command.push_back(self);
    const bool preloads_both = !plan_.preload.empty() && !plan_.stage_library.empty();
    const auto rank =
        to_arguments({.socket = listener_.name(),
                      .preload = plan_.preload + (preloads_both ? ":" : "") + plan_.stage_library,
                      .terminal = ::isatty(STDOUT_FILENO) != 0,
                      .tag_output = options_.tag_output,
                      .is_local = options_.is_local(),
                      // Open MPI's launcher would end the job at once; when that is, we decide.
                      // So it may do that for spawned processes, of which only it knows.
                      .hides_status = plan_.mpi == MpiKind::openmpi,
                      .bind = options_.bind,
                      .input = options_.is_local() ? options_.input : Input::none});
    command.insert(command.end(), rank.begin(), rank.end());
    command.insert(command.end(), plan_.program.begin(), plan_.program.end());
    return command;
  }

  void start_launcher() {
    const auto command = whole_command();
    std::vector<char*> words;
    words.reserve(command.size() + 1);
    for (const auto& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    std::array<std::array<int, 2>, 2> pipes{};
    for (auto& pipe : pipes) {
      if (::pipe2(pipe.data(), O_CLOEXEC) != 0) throw_errno("make a pipe for the launcher's output");
    }
    const pid_t self = ::getpid();
    launcher_ = ::fork();
    if (launcher_ < 0) throw_errno("start mpiexec");
    if (launcher_ == 0) {
      // If we are killed, the rank processes end their programs and with them the job; told to end, mpiexec
      // would kill the rank processes before they have done so. On other hosts nobody else can end them.
      if (!options_.is_local()) ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (::getppid() != self) ::_exit(1);
      // The launcher would read ahead, be stopped in the background of a terminal, and MPICH's fails if more
      // than 64 KB wait to be read. On other hosts there is no other way to rank 0.
      const bool in_background = ::isatty(STDIN_FILENO) != 0 && ::tcgetpgrp(STDIN_FILENO) != ::getpgrp();
      if (options_.is_local() || options_.input == Input::none || in_background) take_no_input();
      ::dup2(pipes[0][1], STDOUT_FILENO);
      ::dup2(pipes[1][1], STDERR_FILENO);
      for (const int signal : {SIGPIPE, SIGTTIN, SIGTTOU}) ::signal(signal, SIG_DFL);
      ::sigprocmask(SIG_SETMASK, &outer_mask_, nullptr);
      for (const auto& [name, value] : plan_.environment) ::setenv(name.c_str(), value.c_str(), 1);
      ::execv(words.front(), words.data());
      ::_exit(127);
    }
    for (std::size_t i = 0; i < pipes.size(); ++i) {
      ::close(pipes[i][1]);
      launcher_output_[i] = UniqueFd(pipes[i][0]);
      ::fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
    }
  }

  bool is_over() const {
    if (!launcher_status_ || !connections_.empty()) return false;
    const bool silent = !launcher_output_[0] && !launcher_output_[1];
    return silent || Clock::now() > launcher_ended_ + milliseconds(200);  // something else may hold its pipes
  }

  // --- one round
  // --------------------------------------------------------------------------------------------------------

  void step() {
    std::vector<pollfd> polled{{signals_.get(), POLLIN, 0}, {listener_.fd(), POLLIN, 0}};
    for (auto& sink : sinks_) polled.push_back({sink.has_work() ? sink.fd() : -1, POLLOUT, 0});
    const bool full = sinks_[0].is_full() || sinks_[1].is_full();
    for (auto& output : launcher_output_) polled.push_back({full ? -1 : output.get(), POLLIN, 0});
    const std::size_t first_connection = polled.size();
    for (const auto& connection : connections_) {
      polled.push_back({connection.socket.get(), POLLIN, 0});
      for (const auto& stream : connection.streams)
        polled.push_back({full ? -1 : stream.from.get(), POLLIN, 0});
    }
    polled.push_back({feeder_.wants_input() ? STDIN_FILENO : -1, POLLIN, 0});
    const std::size_t input = polled.size() - 1;
    feeder_.for_each_full([&](int pipe) { polled.push_back({pipe, POLLOUT, 0}); });
    if (::poll(polled.data(), polled.size(), wait_ms()) < 0 && errno != EINTR)
      throw_errno("wait for the job");

    if (polled[0].revents != 0) take_signals();
    for (std::size_t i = 0; i < 2; ++i) {
      if (polled[2 + i].revents != 0) sinks_[i].write_some();
      if (polled[4 + i].revents != 0) take_launcher_output(i);
    }
    if (sinks_[0].is_broken()) end(Cause::output_closed);
    if (polled[input].revents != 0)
      feeder_.read_some();
    else
      feeder_.write_some();
    std::size_t number = first_connection;
    for (auto& connection : connections_) {
      if (polled[number++].revents != 0) take_reports(connection);
      for (const Channel channel : channels) {
        if (polled[number++].revents != 0) static_cast<void>(take_output(connection, channel));
      }
      if (!connection.socket) finish(connection);
    }
    connections_.remove_if([](const Connection& c) { return !c.socket; });
    if (polled[1].revents != 0) {
      if (auto socket = listener_.accept()) connections_.push_back({std::move(socket), -1, 0, false, {}});
    }
    show_partial_lines();
    show_held_lines();
    look_after_shells();
    if (limit_ && Clock::now() >= *limit_) end(Cause::timed_out);
    if (give_up_ && Clock::now() >= *give_up_) end(Cause::rank_failed);
    if (cause_ != Cause::none) go_on_ending();
  }

  int wait_ms() const {
    if (cause_ != Cause::none || launcher_status_) return 20;
    auto until = options_.is_local() ? Clock::time_point::max() : Clock::now() + milliseconds(250);
    if (limit_) until = std::min(until, *limit_);
    if (give_up_) until = std::min(until, *give_up_);
    if (feeder_.waits_for_terminal()) until = std::min(until, Clock::now() + milliseconds(250));
    for (const auto& connection : connections_) {
      for (const auto& stream : connection.streams) {
        if (stream.lines.has_prompt() && !options_.tag_output)
          until = std::min(until, stream.lines.last() + partial_line_after);
      }
    }
    if (until == Clock::time_point::max()) return -1;
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
  }

  void take_signals() {
    signalfd_siginfo signal{};
    while (::read(signals_.get(), &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
      if (signal.ssi_signo == SIGCHLD) continue;
      interrupt_ = static_cast<int>(signal.ssi_signo);
      end(Cause::interrupted);
    }
    int status = 0;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != launcher_) continue;
      launcher_status_ = status;
      launcher_ended_ = Clock::now();
      if (!connections_.empty()) end(Cause::rank_failed);  // ranks without their launcher
    }
  }

  void take_launcher_output(std::size_t i) {
    std::array<char, 16384> bytes;
    const ssize_t got = ::read(launcher_output_[i].get(), bytes.data(), bytes.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      launcher_output_[i].reset();
      return;
    }
    launcher_lines_[i].feed({bytes.data(), static_cast<std::size_t>(got)}, [&](std::string line) {
      if (const auto report = take_report(line, listener_.name())) {
        started_ = true;
        take(*report);
        if (line.empty()) return;
      }
      if (line.starts_with("manyhands: rank ") && line.ends_with("; the job ends")) explained_ = true;
      if (options_.verbose) {
        sinks_[i].add(line + "\n");
        static_cast<void>(noise_[i].feed(std::move(line)));
      } else if (const auto shown = noise_[i].feed(std::move(line)); !shown.empty()) {
        add_or_hold(fmt::format("{}\n", fmt::join(shown, "\n")), sinks_[i]);
      }
    });
    if (noise_[i].abort() && !abort_) {
      abort_ = noise_[i].abort();
      end(Cause::aborted);
    }
  }

  void take_reports(Connection& connection) {
    for (;;) {
      Report report;
      std::array<UniqueFd, 2> files;
      if (!receive(connection.socket, report, files)) return;
      connection.rank = report.rank;
      connection.pid = report.pid;
      if (report.kind != ReportKind::hello) {
        take(report);
        if (report.kind == ReportKind::ready) give_input(connection);
        if (is_end(report)) connection.has_ended = true;
        continue;
      }
      started_ = true;
      if (plan_.mpi == MpiKind::openmpi && openmpi_job_ == 0) openmpi_job_ = openmpi_job_of(report.pid);
      for (std::size_t i = 0; i < files.size(); ++i) connection.streams[i].from = std::move(files[i]);
      if (cause_ != Cause::none) order(connection, end_gently);
    }
  }

  bool take_output(Connection& connection, Channel channel) {
    Stream& stream = connection.streams[static_cast<std::size_t>(channel)];
    return read_some(stream.from, [&](std::string_view bytes) {
      const auto on_line = [&](const std::string& line) { show(connection, channel, line); };
      if (options_.tag_output)
        stream.lines.feed(bytes, on_line);
      else
        stream.lines.feed(bytes, on_line, [&](const std::string& part) { sink_of(channel).add(part); });
    });
  }

  // What a rank process sends before it starts its program.
  void give_input(const Connection& connection) {
    const bool is_read_here = options_.input == Input::all || ::isatty(STDIN_FILENO) != 0;
    const UniqueFd pipe = is_read_here ? feeder_.make_pipe() : UniqueFd();
    const int file = is_read_here ? pipe.get() : STDIN_FILENO;
    char order = take_input;
    iovec part{&order, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof file);
    std::memcpy(CMSG_DATA(header), &file, sizeof file);
    static_cast<void>(::sendmsg(connection.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  static bool is_end(const Report& report) {
    return report.kind == ReportKind::exited || report.kind == ReportKind::signalled ||
           report.kind == ReportKind::not_started;
  }

  // A report that is no hello.
  void take(const Report& report) {
    if (is_end(report)) return note_end(report);
    if (report.kind == ReportKind::entered) has_entered_ = true;
    if (report.kind == ReportKind::aborting && !abort_)
      abort_ = Abort{.rank = report.rank, .code = report.code};
    if (report.kind == ReportKind::segment) segments_.push_back(report);
    look_for_the_absent();
  }

  // MPI_Init waits for all ranks: one that has ended before it never comes.
  void look_for_the_absent() {
    if (has_entered_ && absent_) end(Cause::rank_left);
  }

  void note_end(const Report& report) {
    const bool failed = report.kind != ReportKind::exited || report.code != 0;
    const bool finalized = report.stage == Stage::finalized;
    if (!failed && !report.was_ended && !finalized && (!left_ || report.time_ns < left_->time_ns))
      left_ = report;
    if (!failed && !report.was_ended && report.stage == Stage::entered) end(Cause::rank_left);
    if (!failed && !report.was_ended && report.stage == Stage::outside) {
      if (!absent_) absent_ = report;
      look_for_the_absent();
    }
    if (report.kind == ReportKind::exited && report.code != 0 && report.was_ended) leaver_ = report;
    if (report.was_ended && cause_ == Cause::none) ended_by_launcher_ = true;
    if (!failed || report.was_ended) return;
    if (!failure_ || report.time_ns < failure_->time_ns) failure_ = report;
    if (report.kind != ReportKind::exited)
      end(Cause::rank_failed);
    else if (!give_up_)
      give_up_ = Clock::now() + grace_for_others;
  }

  // The rank process is gone: what its program wrote last.
  void finish(Connection& connection) {
    if (!connection.has_ended && cause_ == Cause::none) ended_by_launcher_ = true;
    for (const Channel channel : channels) {
      while (take_output(connection, channel)) {
      }
      const std::string rest = connection.streams[static_cast<std::size_t>(channel)].lines.take_rest();
      if (rest.empty()) continue;
      if (options_.tag_output)
        show(connection, channel, rest);
      else
        sink_of(channel).add(rest);
    }
  }

  Sink& sink_of(Channel channel) { return sinks_[static_cast<std::size_t>(channel)]; }

  void show(const Connection& connection, Channel channel, const std::string& line) {
    if (channel == Channel::err) {
      if (const auto found = abort_in(line)) {
        if (!abort_) abort_ = found;
        if (!found->by_error && !options_.verbose) return;
      }
      if (line.starts_with("manyhands: rank ") && line.ends_with("; the job ends")) explained_ = true;
    }
    // UCX writes to standard output
    add_or_hold(options_.tag_output ? fmt::format("[{}] {}\n", connection.rank, line) : line + "\n",
                sink_of(channel));
  }

  // That a connection failed is worth a text only if no report of the lost rank follows.
  void add_or_hold(std::string text, Sink& sink) {
    if (options_.is_local() || options_.verbose || !is_about_lost_rank(text))
      sink.add(std::move(text));
    else
      held_.push_back({Clock::now() + hold_for, &sink, std::move(text)});
  }
  void show_held_lines() {
    while (!held_.empty() && cause_ == Cause::none && Clock::now() >= held_.front().until) {
      held_.front().sink->add(held_.front().text);
      held_.pop_front();
    }
  }

  // MPICH's launcher does not look after the remote shells (ssh) that it has started: if one fails, it waits
  // for ever for what that should have started. `ssh` has said why.
  void look_after_shells() {
    if (options_.is_local() || plan_.mpi != MpiKind::mpich || launcher_status_) return;
    if (!has_failed_child(launcher_))
      shell_failed_ = Clock::time_point::max();
    else if (shell_failed_ == Clock::time_point::max())
      shell_failed_ = Clock::now();
    else if (Clock::now() > shell_failed_ + milliseconds(700))
      end(Cause::host_lost);
  }

  void show_partial_lines() {
    if (options_.tag_output) return;
    for (auto& connection : connections_) {
      for (const Channel channel : channels) {
        Lines& lines = connection.streams[static_cast<std::size_t>(channel)].lines;
        if (lines.has_prompt() && Clock::now() >= lines.last() + partial_line_after)
          sink_of(channel).add(lines.take_rest());
      }
    }
  }

  // --- the end by force
  // -------------------------------------------------------------------------------------------------

  static void order(const Connection& connection, char what) {
    static_cast<void>(::send(connection.socket.get(), &what, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  // Begins it, once.
  void end(Cause cause) {
    if (cause_ != Cause::none) return;
    cause_ = cause;
    end_began_ = Clock::now();
    for (const auto& connection : connections_) order(connection, end_gently);
  }

  void go_on_ending() {
    const auto passed = Clock::now() - end_began_;
    if (passed > kill_programs_after && end_step_ < 1) {
      end_step_ = 1;
      for (const auto& connection : connections_) order(connection, end_now);
    }
    // Ranks on other hosts can only be ended by mpiexec. When all are here, it ends by itself once they do.
    // (Open MPI's crashes if it is told to end while it ends a job.)
    if (!options_.is_local() && cause_ != Cause::aborted && !std::exchange(told_launcher_, true) &&
        !launcher_status_)
      ::kill(launcher_, SIGTERM);
    if (passed > end_launcher_after && end_step_ < 2) {
      end_step_ = 2;
      if (!launcher_status_ && !started_) ::kill(launcher_, SIGTERM);
    }
    if (passed > kill_all_after) kill_descendants(::getpid());
  }

  // --- what is said in the end, and the exit status
  // ---------------------------------------------------------------------

  int conclude() {
    if (cause_ != Cause::none) {
      kill_descendants(::getpid());
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {
      }
      tidy_up();
    }
    for (const auto& segment : segments_) remove_segment(segment);
    for (std::size_t i = 0; i < 2; ++i) {
      const std::string rest = launcher_lines_[i].take_rest();
      if (!rest.empty()) sinks_[i].add(rest);
      if (!options_.verbose) {
        if (const auto shown = noise_[i].rest(); !shown.empty())
          add_or_hold(fmt::format("{}\n", fmt::join(shown, "\n")), sinks_[i]);
      }
      if (!abort_) abort_ = noise_[i].abort();
      if (!spawned_end_) spawned_end_ = noise_[i].spawned_end();
    }
    if (!failure_ && !abort_ && !(leaver_ && has_aborted(*leaver_))) {
      for (const auto& held : held_) held.sink->add(held.text);
    }
    const auto [status, message] = verdict();
    if (!message.empty())
      sinks_[1].add((sinks_[1].is_in_line() ? "\n" : "") + ("manyhands run: " + message + "\n"));
    for (auto& sink : sinks_) sink.write_all();
    return status;
  }

  // What Open MPI's launcher leaves behind when it is killed before it has tidied up: its folder of sockets,
  // and its ranks' shared memory, in files "vader_segment.HOST.UID.JOB.RANK" and the like.
  void tidy_up() const {
    if (plan_.mpi != MpiKind::openmpi) return;
    char host[256]{};
    ::gethostname(host, sizeof host - 1);
    std::string name(host);
    name.resize(std::min(name.find('.'), name.size()));
    std::error_code error;
    std::vector<std::filesystem::path> segments;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", error)) {
      const std::string file = entry.path().filename();
      const bool is_segment = file.starts_with("vader_segment.") || file.starts_with("osc_");
      if (openmpi_job_ != 0 && is_segment && is_of_family(file, openmpi_job_))
        segments.push_back(entry.path());
    }
    for (const auto& segment : segments) std::filesystem::remove(segment, error);
    const auto folder =
        std::filesystem::temp_directory_path(error) / fmt::format("ompi.{}.{}", name, ::geteuid());
    if (!error) std::filesystem::remove_all(folder / fmt::format("pid.{}", launcher_), error);
  }

  std::pair<int, std::string> verdict() const {
    if (cause_ == Cause::interrupted)
      return {128 + interrupt_,
              fmt::format("ended by {}, with all {} ranks", signal_name(interrupt_), options_.ranks)};
    if (cause_ == Cause::output_closed) return {128 + SIGPIPE, ""};
    if (failure_ && failure_->kind == ReportKind::signalled) return killed(*failure_);
    if (abort_) {
      const int launcher =
          launcher_status_ && WIFEXITED(*launcher_status_) ? WEXITSTATUS(*launcher_status_) : 0;
      const int code = abort_->by_error && launcher != 0 ? launcher : abort_->code & 0xff;
      const int status = code == 0 ? 1 : code;
      if (abort_->by_error)
        return {status, fmt::format("an MPI call of rank {} failed; the job was ended", abort_->rank)};
      return {status, explained_ ? ""
                                 : fmt::format("rank {} called MPI_Abort with code {}; the job was ended",
                                               abort_->rank, abort_->code)};
    }
    if (failure_) {
      if (failure_->kind == ReportKind::not_started)
        return {2, fmt::format("rank {} cannot execute {}: {}", failure_->rank, plan_.program.front(),
                               strerrordesc_np(failure_->code))};
      return {
          failure_->code,
          explained_ ? "" : fmt::format("rank {} ended with exit status {}", failure_->rank, failure_->code)};
    }
    if (cause_ == Cause::rank_left) return left();
    if (cause_ == Cause::host_lost)
      return {1,
              fmt::format("a host could not be reached, or lost the connection (try: ssh HOST true, for each "
                          "of {}); the job was ended",
                          options_.hosts.empty() ? options_.hostfile : options_.hosts)};
    if (cause_ == Cause::timed_out)
      return {124, fmt::format("the job took longer than {:g} s; it was ended", options_.timeout_s)};
    return launcher_verdict();
  }

  std::pair<int, std::string> left() const {
    if (has_entered_ && absent_)
      return {1,
              fmt::format("rank {} ended with exit status 0 before it called MPI_Init, where the others wait "
                          "for it; the job was ended",
                          absent_->rank)};
    return {1, fmt::format("rank {} ended without MPI_Finalize, with exit status 0; the job was ended",
                           left_ ? left_->rank : 0)};
  }

  static std::pair<int, std::string> killed(const Report& failure) {
    const char* const hint = failure.code == SIGKILL ? " - by somebody, or because memory ran out" : "";
    return {128 + failure.code, fmt::format("rank {} (pid {}) was killed by {}{}; the job was ended",
                                            failure.rank, failure.pid, signal_name(failure.code), hint)};
  }

  // Whether the launcher's exit status is that of the rank that left: then it ended the job by MPI_Abort.
  bool has_aborted(const Report& leaver) const {
    const int status = launcher_status_.value_or(0);
    return WIFEXITED(status) && leaver.code == WEXITSTATUS(status);
  }

  std::pair<int, std::string> launcher_verdict() const {
    const int status = launcher_status_.value_or(0);
    if (status == 0 && !ended_by_launcher_) return {0, ""};
    if (spawned_end_ && spawned_end_->signal != 0)
      return {128 + spawned_end_->signal, fmt::format("a spawned process was killed by {}; the job was ended",
                                                      signal_name(spawned_end_->signal))};
    if (spawned_end_)
      return {spawned_end_->status,
              fmt::format("a spawned process ended with exit status {}; the job was ended",
                          spawned_end_->status)};
    if (left_) return left();
    if (leaver_ && has_aborted(*leaver_))
      return {leaver_->code, explained_
                                 ? ""
                                 : fmt::format("rank {} called MPI_Abort with code {}; the job was ended",
                                               leaver_->rank, leaver_->code)};
    if (started_ && cause_ == Cause::none && !WIFSIGNALED(status) && explained_)
      return {WEXITSTATUS(status), ""};
    const bool launcher_decided =
        cause_ == Cause::none || (cause_ == Cause::rank_failed && !options_.is_local());
    if (started_ && launcher_decided && !WIFSIGNALED(status)) {
      return {WEXITSTATUS(status), fmt::format("a rank aborted the job with code {}; {} did not say which",
                                               WEXITSTATUS(status), name_of(plan_.mpi))};
    }
    std::string said;
    for (const auto& filter : noise_) said += fmt::format("\n{}", fmt::join(filter.left_out(), "\n"));
    while (!said.empty() && said.back() == '\n') said.pop_back();
    const std::string how = WIFSIGNALED(status)
                                ? "was killed by " + signal_name(WTERMSIG(status))
                                : fmt::format("ended with exit status {}", WEXITSTATUS(status));
    const std::string when = started_ ? "" : " before the program was started";
    return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
            fmt::format("{} {}{}{}", plan_.launcher, how, when, said)};
  }

  const LaunchPlan& plan_;
  const RunOptions& options_;
  Listener listener_;
  UniqueFd signals_;
  sigset_t outer_mask_{};
  std::array<Sink, 2> sinks_{Sink(STDOUT_FILENO), Sink(STDERR_FILENO)};

  pid_t launcher_ = -1;
  std::uint32_t openmpi_job_ = 0;            // see openmpi_job_of()
  std::array<UniqueFd, 2> launcher_output_;  // its own texts, and what remote and spawned processes write
  std::array<Lines, 2> launcher_lines_;
  std::array<NoiseFilter, 2> noise_;
  std::optional<int> launcher_status_;  // of waitpid
  Clock::time_point launcher_ended_;

  std::list<Connection> connections_;  // rank processes that live
  bool started_ = false;               // one of them has said hello

  std::optional<Report> failure_;  // the first one
  std::optional<Report>
      leaver_;  // one that chose its exit status although it was being ended, as MPI_Abort does
  std::optional<Report>
      left_;  // the first rank that ended with exit status 0, and perhaps without MPI_Finalize
  std::optional<Report> absent_;  // the first that did and had not called MPI_Init
  bool has_entered_ = false;      // a rank has called it
  std::vector<Report> segments_;  // files of MPICH's shared memory that were made
  std::optional<SpawnedEnd> spawned_end_;
  Feeder feeder_;
  std::optional<Abort> abort_;
  bool ended_by_launcher_ = false;  // mpiexec has ended ranks on its own account
  bool explained_ = false;          // the program itself has said why it ends the job (mpi::Environment)
  int interrupt_ = 0;
  std::optional<Clock::time_point> limit_;    // of --timeout
  std::optional<Clock::time_point> give_up_;  // on the others, after a rank's exit status other than 0

  struct Held {
    Clock::time_point until;
    Sink* sink;
    std::string text;
  };
  std::deque<Held> held_;  // see add_or_hold()
  Clock::time_point shell_failed_ = Clock::time_point::max();

  Cause cause_ = Cause::none;  // of the end by force
  Clock::time_point end_began_;
  int end_step_ = 0;
  bool told_launcher_ = false;  // to end
};

}  // namespace

// Two processes: the job's, and this one, which waits for it and hands signals on. If this one is killed, the
// other, below which all processes of the job stay whatever they do, ends them.
int run_job(const LaunchPlan& plan, const RunOptions& options) {
  sigset_t signals;
  sigset_t outer;
  sigemptyset(&signals);
  for (const int signal : {SIGTTIN, SIGTTOU}) ::signal(signal, SIG_IGN);  // see Job::block_signals()
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD}) sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, &outer);
  const pid_t front = ::getpid();
  const pid_t job = ::fork();
  if (job < 0) throw_errno("start the job's process");
  if (job == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != front) ::_exit(1);
    ::sigprocmask(SIG_SETMASK, &outer, nullptr);
    int status = 1;
    try {
      status = Job(plan, options).run();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "manyhands run: %s\n", error.what());
      kill_descendants(::getpid());
    }
    ::_exit(status);
  }
  for (;;) {
    int status = 0;
    if (::waitpid(job, &status, WNOHANG) == job)
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    const int signal = ::sigwaitinfo(&signals, nullptr);
    if (signal > 0 && signal != SIGCHLD) ::kill(job, signal);
  }
}

}  // namespace manyhands::cli
