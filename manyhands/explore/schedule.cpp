#include "manyhands/explore/schedule.hpp"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ostream>
#include <utility>

#include "manyhands/base/error.hpp"

namespace manyhands {

Schedule::Schedule(std::vector<Step> steps)
    : steps_(std::move(steps)),
      preemptions_(static_cast<std::size_t>(
          std::count_if(steps_.begin(), steps_.end(), [](const Step& step) { return step.preempts; }))) {}

std::string Schedule::to_string() const {
  std::string text;
  for (std::size_t i = 0; i < steps_.size();) {
    std::size_t turns = 1;
    while (i + turns < steps_.size() && steps_[i + turns].process == steps_[i].process) ++turns;
    if (!text.empty()) text += ' ';
    text += fmt::to_string(steps_[i].process);
    if (turns > 1) text += fmt::format("x{}", turns);
    i += turns;
  }
  return text;
}

std::string Schedule::describe(std::string_view indent) const {
  std::size_t name = 0;
  std::size_t operation = 0;
  std::size_t object = 0;
  for (const Step& step : steps_) {
    name = std::max(name, step.name.size());
    operation = std::max(operation, step.operation.size());
    object = std::max(object, step.object.size());
  }
  std::string text;
  for (const Step& step : steps_) {
    text += fmt::format("{}{} {:{}}  {:{}}  {:{}}  {}{}\n", indent, step.preempts ? '>' : ' ', step.name,
                        name, step.operation, operation, step.object, object, step.where,
                        step.timed_out ? "  (timed out)" : "");
  }
  return text;
}

std::vector<std::uint32_t> Schedule::parse(std::string_view text) {
  constexpr std::uint32_t most = 1'000'000;
  std::vector<std::uint32_t> turns;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto refuse = [&](const char* what) {
    throw Error(
        fmt::format("'{}' is not a schedule: {} at character {}; it is made of the numbers of processes, as "
                    "in \"0x2 1 2x2 1\" "
                    "(Schedule::to_string)",
                    text.substr(0, 100), what, at - text.data() + 1));
  };
  for (;;) {
    while (at != end && *at == ' ') ++at;
    if (at == end) return turns;
    std::uint32_t process = 0;
    std::uint32_t count = 1;
    auto parsed = std::from_chars(at, end, process);
    if (parsed.ec != std::errc{}) refuse("no number");
    at = parsed.ptr;
    if (at != end && *at == 'x') {
      parsed = std::from_chars(at + 1, end, count);
      if (parsed.ec != std::errc{} || count == 0) refuse("no number of turns");
      at = parsed.ptr;
    }
    if (at != end && *at != ' ') refuse("no space");
    if (count > most - std::min<std::size_t>(turns.size(), most)) refuse("more than a million turns");
    turns.insert(turns.end(), count, process);
  }
}

std::ostream& operator<<(std::ostream& out, const Schedule& schedule) { return out << schedule.describe(); }

}  // namespace manyhands
