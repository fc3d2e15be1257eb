#include "manyhands/cli/noise.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace manyhands::cli {
namespace {

// Its texts outside of boxes: "[mpiexec@host] ...", "mpiexec.openmpi: killing job...".
bool is_said_by_launcher(const std::string& line) {
  for (const std::string_view part :
       {"ORTE_ERROR_LOG", "sent help message", "orte_base_help_aggregate", "[warn] Epoll"}) {
    if (line.find(part) != std::string::npos) return true;
  }
  if (line.starts_with("[mpiexec@") || line.starts_with("[proxy:")) return true;
  return (line.starts_with("mpiexec") || line.starts_with("mpirun")) && line.find("job") != std::string::npos;
}
bool is_openmpi_rule(const std::string& line) {
  return line.size() >= 60 && line.find_first_not_of('-') == std::string::npos;
}
bool is_mpich_rule(const std::string& line) {
  return line.size() >= 60 && line.find_first_not_of('=') == std::string::npos;
}

}  // namespace

std::optional<Abort> abort_in(std::string_view line) {
  const std::string text(line);
  Abort found;
  if (std::sscanf(text.c_str(), "Abort(%d) on node %*d (rank %d in comm", &found.code, &found.rank) == 2) {
    found.by_error = text.find("application called MPI_Abort(") == std::string::npos;
    return found;
  }
  const auto at = text.find("*** reported by process [");
  if (at == std::string::npos ||
      std::sscanf(text.c_str() + at, "*** reported by process [%*[0-9],%d]", &found.rank) != 1)
    return std::nullopt;
  found.by_error = true;
  return found;
}

bool is_about_lost_rank(std::string_view text) {
  const auto has = [&](std::string_view part) { return text.find(part) != std::string_view::npos; };
  return (has("UCX  ERROR") && (has("sock.c") || has("tcp_"))) || has("btl_tcp") || has("btl/tcp") ||
         has("failed to TCP connect to a peer");
}

std::vector<std::string> NoiseFilter::feed(std::string line) {
  switch (in_) {
    case In::text: {
      if (line.empty()) {
        ++blank_;
        return {};
      }
      if (is_openmpi_rule(line)) {
        in_ = In::openmpi_box;
        box_ = {std::move(line)};
        return {};
      }
      if (is_mpich_rule(line)) {
        in_ = In::mpich_box;
        blank_ -= std::min<std::size_t>(blank_, 1);  // it begins with one
        box_ = {std::move(line)};
        return {};
      }
      if (const auto found = abort_in(line); found && !abort_) abort_ = found;
      if (is_said_by_launcher(line)) {
        left_out_.push_back(std::move(line));
        return {};
      }
      std::vector<std::string> shown(std::exchange(blank_, 0));
      shown.push_back(std::move(line));
      return shown;
    }
    case In::openmpi_box:
      box_.push_back(std::move(line));
      return is_openmpi_rule(box_.back()) ? close_box() : std::vector<std::string>();
    case In::mpich_box: {
      const bool is_end = line.starts_with("Please see the FAQ page");
      const bool is_other = box_.size() == 1 && line.find("BAD TERMINATION") == std::string::npos;
      box_.push_back(std::move(line));
      return is_end || is_other ? close_box() : std::vector<std::string>();
    }
  }
  return {};
}

std::vector<std::string> NoiseFilter::close_box() {
  static constexpr std::array<std::string_view, 10> known{"MPI_ABORT was invoked on rank",
                                                          "Primary job  terminated normally",
                                                          "noticed that process rank",
                                                          "detected that one or more processes",
                                                          "has exited due to process rank",
                                                          "BAD TERMINATION OF ONE",
                                                          "ORTE has lost communication",
                                                          "peer process has unexpectedly disconnected",
                                                          "forcibly killed",
                                                          "Per user-direction, the job has been aborted"};
  in_ = In::text;
  std::string text = fmt::format("{}", fmt::join(box_, "\n"));
  std::vector<std::string> lines = std::exchange(box_, {});
  Abort found;
  if (const auto at = text.find("MPI_ABORT was invoked on rank "); at != std::string::npos) {
    const auto code = text.find("with errorcode ");
    if (code != std::string::npos &&
        std::sscanf(text.c_str() + at, "MPI_ABORT was invoked on rank %d", &found.rank) == 1 &&
        std::sscanf(text.c_str() + code, "with errorcode %d", &found.code) == 1)
      abort_ = found;
  }
  SpawnedEnd spawned;
  if (const auto at = text.find("exited on signal ");
      at != std::string::npos &&
      std::sscanf(text.c_str() + at, "exited on signal %d", &spawned.signal) == 1) {
    spawned_end_ = spawned;
  } else if (const auto code = text.find("Exit code:");
             code != std::string::npos && text.find("exited with non-zero status") != std::string::npos &&
             std::sscanf(text.c_str() + code, "Exit code: %d", &spawned.status) == 1) {
    spawned_end_ = spawned;
  }
  if (std::none_of(known.begin(), known.end(),
                   [&](std::string_view k) { return text.find(k) != std::string::npos; }))
    return lines;
  left_out_.insert(left_out_.end(), lines.begin(), lines.end());
  return {};
}

std::vector<std::string> NoiseFilter::rest() {
  auto lines = in_ == In::text ? std::vector<std::string>() : close_box();
  lines.insert(lines.begin(), std::exchange(blank_, 0), "");
  return lines;
}

}  // namespace manyhands::cli
