#pragma once
// Schedule: one order in which an explored program did its steps, for people to read and for mh::replay to
// repeat.
//
// A value. As text it is the numbers of the processes in the order of their turns, 0 for the main one, with
// xN for N turns in a row: "0x2 1 2x2 1".

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace manyhands {

class Schedule {
 public:
  struct Step {
    std::uint32_t process = 0;  // 0: the main one; then in the order of their start
    std::string name;           // of the process: "main", "Process-1"
    std::string operation;      // "load", "store", "acquire" ...
    std::string object;         // "Value 1", "Lock 'fork 1'"; empty if it is about none
    std::string where;          // "race.cpp:12"; "?" if unknown
    bool preempts = false;      // the process before could have gone on
    bool timed_out = false;     // a wait with a time limit that was in vain
  };

  Schedule() = default;
  explicit Schedule(std::vector<Step> steps);

  const std::vector<Step>& steps() const noexcept { return steps_; }
  std::size_t preemptions() const noexcept { return preemptions_; }

  // The short form, for mh::replay.
  std::string to_string() const;
  // One line for each step; ">" marks a preemption.
  std::string describe(std::string_view indent = "") const;

  // The turns in a short form. Throws Error if `text` is none.
  static std::vector<std::uint32_t> parse(std::string_view text);

 private:
  std::vector<Step> steps_;
  std::size_t preemptions_ = 0;
};

// The long form.
std::ostream& operator<<(std::ostream& out, const Schedule& schedule);

}  // namespace manyhands
