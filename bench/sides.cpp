#include "sides.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <string>

namespace bench {

void report(std::string_view row, const Samples& samples) {
  std::printf(R"({"row": "%s", "samples": [)", std::string(row).c_str());
  for (std::size_t i = 0; i < samples.size(); ++i) std::printf("%s%.9g", i == 0 ? "" : ", ", samples[i]);
  std::printf("]}\n");
  std::fflush(stdout);
}

std::vector<double> make_doubles(std::size_t count) {
  std::vector<double> values(count);
  std::iota(values.begin(), values.end(), 0.0);
  return values;
}

void require(bool holds, std::string_view what) {
  if (holds) return;
  std::fprintf(stderr, "wrong: %s\n", std::string(what).c_str());
  std::_Exit(1);
}

int run_side(int argc, char** argv, const std::vector<Side>& sides) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  for (const Side& side : sides) {
    if (side.name != name) continue;
    try {
      side.run({.argc = argc, .argv = argv, .repeats = argc > 2 ? std::atoi(argv[2]) : side.repeats});
      return 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 1;
    }
  }
  std::fprintf(stderr, "usage: %s NAME [REPEATS]\nnames:", argv[0]);
  for (const Side& side : sides) std::fprintf(stderr, " %s", std::string(side.name).c_str());
  std::fprintf(stderr, "\n");
  return 2;
}

}  // namespace bench
