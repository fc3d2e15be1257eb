#include "manyhands/task/progress.hpp"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace manyhands {
namespace {

std::string clock_text(double seconds) {
  if (!std::isfinite(seconds) || seconds > 359'999) return "--:--";
  const auto whole = static_cast<long>(seconds);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{:02}:{:02}", whole / 60, whole % 60);
}

std::string rate_text(double rate) {
  if (!std::isfinite(rate)) return "--/s";
  if (rate >= 1e6) return fmt::format("{:.1f}M/s", rate / 1e6);
  if (rate >= 1e4) return fmt::format("{:.1f}k/s", rate / 1e3);
  if (rate > 0 && rate < 0.1) return fmt::format("{:.1f}s each", 1 / rate);
  return fmt::format("{:.1f}/s", rate);
}

double seconds_of(Duration duration) { return std::chrono::duration<double>(duration).count(); }

struct Figures {
  double rate;  // items per second
  double left;  // seconds
  double part;  // of the total, 0 to 1
};

Figures figures_of(const Progress& progress) {
  const double elapsed = seconds_of(progress.elapsed);
  const double done = static_cast<double>(progress.done);
  const double total = static_cast<double>(progress.total.value_or(0));
  const double rate = elapsed > 0 ? done / elapsed : NAN;
  return {.rate = rate,
          .left = rate > 0 ? std::max(0.0, total - done) / rate : INFINITY,
          .part = total > 0 ? std::min(1.0, done / total) : 1.0};
}

std::string failed_text(const Progress& progress) {
  return progress.failed > 0 ? fmt::format(", {} failed", progress.failed) : std::string();
}

int terminal_width(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(fd, text.data(), text.size());
    if (written <= 0) return;  // a bar that cannot be shown is no reason to fail
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

// One bar; shared_ptr because std::function copies what it holds.
class Bar {
 public:
  Bar(std::string_view title, ProgressBarOptions options)
      : title_(title), options_(options), terminal_(options.terminal.value_or(::isatty(options.fd) == 1)) {}

  void show(const Progress& progress) {
    if (finished_) return;
    finished_ = progress.total && progress.done >= *progress.total;
    if (terminal_) {
      write_all(options_.fd, "\r" + task::bar_text(title_, progress, terminal_width(options_.fd)) + "\x1b[K" +
                                 (finished_ ? "\n" : ""));
    } else if (finished_ || progress.elapsed >= next_line_) {
      if (finished_ || next_line_ != Duration{})
        write_all(options_.fd, task::line_text(title_, progress) + "\n");
      next_line_ = progress.elapsed + options_.line_every;
    }
  }

 private:
  std::string title_;
  ProgressBarOptions options_;
  bool terminal_;
  bool finished_ = false;
  Duration next_line_{};
};

}  // namespace

ProgressFunction progress_bar(std::string_view title, ProgressBarOptions options) {
  return [bar = std::make_shared<Bar>(title, options)](const Progress& progress) { bar->show(progress); };
}

namespace task {

std::string bar_text(std::string_view title, const Progress& progress, int width) {
  const Figures figures = figures_of(progress);
  const std::string head = title.empty() ? "" : fmt::format("{} ", title);
  const double elapsed = seconds_of(progress.elapsed);
  if (!progress.total) {
    return fmt::format("{}{} done [{}, {}{}]", head, progress.done, clock_text(elapsed),
                       rate_text(figures.rate), failed_text(progress));
  }
  const std::string before = fmt::format("{}{:3.0f}% |", head, std::floor(figures.part * 100));
  const std::string after =
      fmt::format("| {}/{} [{}<{}, {}{}]", progress.done, *progress.total, clock_text(elapsed),
                  clock_text(figures.left), rate_text(figures.rate), failed_text(progress));
  const int room = std::max(5, width - 1 - static_cast<int>(before.size() + after.size()));
  const auto filled = static_cast<std::size_t>(figures.part * room);
  return before + std::string(filled, '#') + std::string(static_cast<std::size_t>(room) - filled, ' ') +
         after;
}

std::string line_text(std::string_view title, const Progress& progress) {
  const Figures figures = figures_of(progress);
  const std::string head = title.empty() ? "" : fmt::format("{}: ", title);
  if (!progress.total)
    return fmt::format("{}{} done, {}{}", head, progress.done, rate_text(figures.rate),
                       failed_text(progress));
  if (progress.done >= *progress.total) {
    return fmt::format("{}{} of {} (100%) in {:.2f} s, {}{}", head, progress.done, *progress.total,
                       seconds_of(progress.elapsed), rate_text(figures.rate), failed_text(progress));
  }
  return fmt::format("{}{} of {} ({:.0f}%), {}, {} left{}", head, progress.done, *progress.total,
                     std::floor(figures.part * 100), rate_text(figures.rate), clock_text(figures.left),
                     failed_text(progress));
}

Duration ProgressTicker::until_due() const noexcept {
  if (!function_) return Deadline::never;
  return Duration(std::max<std::int64_t>(0, next_ns_ - now_ns()));
}

void ProgressTicker::tick(const Progress& progress) {
  if (!function_ || now_ns() < next_ns_) return;
  next_ns_ = now_ns() + interval.count();
  function_(progress);
}

void ProgressTicker::finish(const Progress& progress) const {
  if (function_) function_(progress);
}

}  // namespace task
}  // namespace manyhands
