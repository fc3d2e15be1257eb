// A map of a function that costs nothing over a million doubles: all that is measured is getting them there
// and back.

#include <manyhands/multicore.hpp>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

template <class Executor>
void map_on(Executor& executor, std::string_view row, int repeats) {
  const std::vector<double> xs = make_doubles(map_items);
  const auto square_all = [&] { return executor.map([](double x) { return x * x; }, xs); };
  const std::vector<double> ys = square_all();
  require(ys.size() == xs.size(), "the number of results");
  for (std::size_t i = 0; i < ys.size(); ++i) require(ys[i] == xs[i] * xs[i], "a square");
  report(row, repeated(repeats, square_all));
}

}  // namespace

void map_processes(const Program& program) {
  mh::init(program.argc, program.argv);
  mh::Pool pool{workers};
  map_on(pool, "ours, processes", program.repeats);
}

void map_threads(const Program& program) {
  mh::ThreadPool pool{workers};
  map_on(pool, "ours, threads", program.repeats);
}

}  // namespace bench
