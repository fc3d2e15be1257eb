#include "manyhands/explore/explore.hpp"

#include <fmt/core.h>
#include <fmt/format.h>

#include <ostream>

namespace manyhands::exploring {
namespace {

std::string plural(std::uint64_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string describe(Duration time) {
  const auto seconds = std::chrono::duration<double>(time).count();
  return seconds < 1 ? fmt::format("{:.3g} ms", seconds * 1e3) : fmt::format("{:.3g} s", seconds);
}

std::string describe_limit(const Found& summary, const ExploreOptions& options) {
  switch (summary.limit) {
    case ExploreLimit::schedules:
      return fmt::format("stopped by max_schedules = {}", options.max_schedules);
    case ExploreLimit::steps:
      return fmt::format("some were cut off by max_steps = {}", options.max_steps);
    case ExploreLimit::time:
      return fmt::format("stopped by time = {}", describe(options.time));
    case ExploreLimit::preemptions:
      return fmt::format("bounded by max_preemptions = {}", options.max_preemptions);
    default:
      return {};
  }
}

// What is shown of an exploration that found much: some 100 KB at most. All of it is in outcomes().
constexpr std::size_t most_outcomes = 20;
constexpr std::size_t most_text = 2000;    // bytes
constexpr std::size_t most_turns = 400;    // bytes
constexpr std::ptrdiff_t most_first = 40;  // steps of a schedule, the first
constexpr std::ptrdiff_t most_last = 20;   // and the last

void shorten(std::string& text, std::size_t most) {
  if (text.size() <= most) return;
  const std::size_t left_out = text.size() - most;
  text.resize(most);
  text += fmt::format(" ... ({} more bytes)", left_out);
}

void indent(std::string& text) {
  for (auto line = text.find('\n'); line != std::string::npos; line = text.find('\n', line + 1))
    text.insert(line + 1, "      ");
}

}  // namespace

void print(std::ostream& out, const Found& summary, std::span<const OutcomeBase* const> outcomes,
           const ExploreOptions& options) {
  if (summary.limit == ExploreLimit::none) {
    out << fmt::format("all schedules explored: {}, {} ({}, {})\n", plural(outcomes.size(), "outcome"),
                       plural(summary.schedules, "schedule"), plural(summary.runs, "run"),
                       describe(summary.elapsed));
  } else {
    out << fmt::format("not all schedules explored, {}: {}, {} ({}, {})\n", describe_limit(summary, options),
                       plural(outcomes.size(), "outcome"), plural(summary.schedules, "schedule"),
                       plural(summary.runs, "run"), describe(summary.elapsed));
    if (summary.all_up_to.has_value())
      out << fmt::format("all schedules with at most {} are among them\n",
                         plural(*summary.all_up_to, "preemption"));
  }
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (i == most_outcomes) {
      out << fmt::format("\n... and {} (see outcomes())\n", plural(outcomes.size() - i, "more outcome"));
      break;
    }
    const OutcomeBase& outcome = *outcomes[i];
    std::string text = outcome.text;
    for (const std::string& failure : outcome.failures) text += "\n" + failure;
    shorten(text, most_text);
    indent(text);
    std::string turns = outcome.schedule.to_string();
    shorten(turns, most_turns);
    const char* const kind = outcome.kind == OutcomeKind::value ? "" : name_of(outcome.kind);
    out << fmt::format("\n[{}] {}{}{}\n      {}; one with {}: {}\n", i, kind, *kind == '\0' ? "" : ": ", text,
                       plural(outcome.count, "schedule"),
                       plural(outcome.schedule.preemptions(), "preemption"), turns);
    const auto& steps = outcome.schedule.steps();
    if (std::ssize(steps) <= most_first + most_last) {
      out << outcome.schedule.describe("      ");
    } else {
      out << Schedule({steps.begin(), steps.begin() + most_first}).describe("      ")
          << fmt::format("        ... {} more steps ...\n", std::ssize(steps) - most_first - most_last)
          << Schedule({steps.end() - most_last, steps.end()}).describe("      ");
    }
  }
}

}  // namespace manyhands::exploring
