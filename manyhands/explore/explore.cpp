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
    const OutcomeBase& outcome = *outcomes[i];
    std::string text = outcome.text;
    for (const std::string& failure : outcome.failures) text += "\n" + failure;
    indent(text);
    const char* const kind = outcome.kind == OutcomeKind::value ? "" : name_of(outcome.kind);
    out << fmt::format("\n[{}] {}{}{}\n      {}; one with {}: {}\n", i, kind, *kind == '\0' ? "" : ": ", text,
                       plural(outcome.count, "schedule"),
                       plural(outcome.schedule.preemptions(), "preemption"), outcome.schedule.to_string());
    constexpr std::size_t most = 200;  // lines
    if (outcome.schedule.steps().size() <= most) {
      out << outcome.schedule.describe("      ");
    } else {
      const auto& steps = outcome.schedule.steps();
      out << Schedule({steps.begin(), steps.begin() + most}).describe("      ")
          << fmt::format("        ... and {} more steps\n", steps.size() - most);
    }
  }
}

}  // namespace manyhands::exploring
