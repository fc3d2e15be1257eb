#pragma once
// What the C++ sides of the benchmarks share: how they measure and how they tell the runner.
//
// A side is one subcommand of manyhands_bench (ours) or peers_bench (the peers). It prints a line of JSON for
// each series of samples; run.py does the statistics. All times are in seconds, all sizes in bytes.

#include <chrono>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

inline constexpr int workers = 2;  // of every pool, ours and the peers'
inline constexpr std::size_t map_items = 1'000'000;
inline constexpr std::size_t array_items = 12'500'000;  // doubles: 100 MB

// The program's arguments, for mh::init, and how often a side repeats what it measures.
struct Program {
  int argc;
  char** argv;
  int repeats;
};

using Samples = std::vector<double>;
using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC, which all processes share

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Seconds of one f(). What f returns is destroyed after the clock has stopped.
template <class F>
double seconds_of(F&& f) {
  const auto start = Clock::now();
  const auto result = std::forward<F>(f)();
  const double seconds = seconds_since(start);
  static_cast<void>(result);
  return seconds;
}

// One f() to warm up, then the seconds of each of `repeats`.
template <class F>
Samples repeated(int repeats, F&& f) {
  Samples samples;
  static_cast<void>(seconds_of(f));
  for (int i = 0; i < repeats; ++i) samples.push_back(seconds_of(f));
  return samples;
}

// Tells the runner the samples of a row of its table.
void report(std::string_view row, const Samples& samples);

// The input of `map` and `bytes`.
std::vector<double> make_doubles(std::size_t count);

// Ends the program if a side has computed something wrong.
void require(bool holds, std::string_view what);

// Runs the subcommand that argv names: `PROGRAM NAME [REPEATS]`. For main.
struct Side {
  std::string_view name;
  void (*run)(const Program&);
  int repeats;  // without REPEATS
};
int run_side(int argc, char** argv, const std::vector<Side>& sides);

}  // namespace bench
