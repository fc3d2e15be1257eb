// Real programs beside their raw C (ports.hpp), 2 ranks.
//
// usage: ports MPI [BLOCKS [NAME...]]    MPI: a word in front of the rows' names; NAME: only these
//
// Rank 0 prints for each version of each program a line of JSON with the seconds of each of its runs.

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string_view>
#include <utility>

#include "ports.hpp"

int main(int argc, char** argv) {
  using namespace bench::ports;
  const mpi::Environment env(argc, argv);
  const std::span<char*> words(argv, static_cast<std::size_t>(argc));
  const Setting setting{argc > 1 ? std::string(words[1]) + " " : "", argc > 2 ? std::atoi(words[2]) : 9};
  const auto wanted = words.subspan(std::min<std::size_t>(words.size(), 3));
  const std::pair<std::string_view, void (*)(const Setting&)> all[] = {
      {"heat", heat},         {"cg", conjugate_gradient}, {"histogram", histogram}, {"sort", sample_sort},
      {"bfs", breadth_first}, {"mandelbrot", mandelbrot}, {"files", files},
  };
  for (const auto& [name, run] : all) {
    if (wanted.empty() || std::ranges::find(wanted, name) != wanted.end()) run(setting);
  }
}
