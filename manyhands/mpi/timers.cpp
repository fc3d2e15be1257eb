#include "manyhands/mpi/timers.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "manyhands/base/clock.hpp"

namespace manyhands::mpi {
namespace {

// What one rank tells of a timer.
struct Measured {
  std::string name;
  std::uint64_t calls;
  double seconds;
};

}  // namespace

Timers::Scope::Scope(Timers& timers, std::string_view name)
    : timers_(timers), outer_(timers.current_.size()), start_ns_(now_ns()) {
  if (outer_ != 0) timers_.current_ += '/';
  timers_.current_ += name;
}

Timers::Scope::~Scope() {
  Sum& sum = timers_.sums_[timers_.current_];
  ++sum.calls;
  sum.ns += now_ns() - start_ns_;
  timers_.current_.resize(outer_);
}

double Timers::seconds(const std::string& name) const {
  const auto found = sums_.find(name);
  return found != sums_.end() ? static_cast<double>(found->second.ns) / 1e9 : 0.0;
}

std::vector<TimerSummary> Timers::collect(const Comm& comm) const {
  std::vector<Measured> mine;
  for (const auto& [name, sum] : sums_) mine.push_back({name, sum.calls, static_cast<double>(sum.ns) / 1e9});
  const std::vector<std::vector<Measured>> all = comm.gather(mine);
  std::map<std::string, std::vector<Measured>> by_name;  // of each rank
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    for (const auto& timer : all[rank])
      by_name.try_emplace(timer.name, all.size(), Measured{}).first->second[rank] = timer;
  }
  const auto faster = [](const Measured& a, const Measured& b) { return a.seconds < b.seconds; };
  std::vector<TimerSummary> rows;
  for (const auto& [name, ranks] : by_name) {
    TimerSummary& row = rows.emplace_back();
    row.name = name;
    for (const auto& timer : ranks) {
      row.calls = std::max(row.calls, timer.calls);
      row.mean += timer.seconds / static_cast<double>(ranks.size());
    }
    const auto [fastest, slowest] = std::minmax_element(ranks.begin(), ranks.end(), faster);
    row.min = fastest->seconds;
    row.max = slowest->seconds;
    row.slowest = static_cast<int>(slowest - ranks.begin());
  }
  return rows;
}

void Timers::print(const Comm& comm) const {
  const auto rows = collect(comm);
  if (comm.rank() != 0) return;
  std::size_t width = 5;
  for (const auto& row : rows) width = std::max(width, row.name.size());
  std::string text = fmt::format("{:<{}}  {:>10}  {:>10}  {:>10}  {:>10}  {:>7}\n", "timer", width, "calls",
                                 "min s", "mean s", "max s", "on rank");
  for (const auto& row : rows) {
    text += fmt::format("{:<{}}  {:>10}  {:>10.4f}  {:>10.4f}  {:>10.4f}  {:>7}\n", row.name, width,
                        row.calls, row.min, row.mean, row.max, row.slowest);
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace manyhands::mpi
