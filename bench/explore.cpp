// mh::explore: all schedules of the talk's race, and of two processes that increment five times each.

#include <manyhands/multicore.hpp>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

double race() {
  mh::Value<double> arg(0.0);
  mh::Process mult{[](mh::Value<double> x) { x *= 10; }, arg};
  mh::Process add{[](mh::Value<double> x) { x += 10; }, arg};
  mult.join();
  add.join();
  return arg.get();
}

void five_times(mh::Value<int> counter) {
  for (int i = 0; i < 5; ++i) counter += 1;
}
int increments() {
  mh::Value<int> counter(0);
  mh::Process p1{five_times, counter};
  mh::Process p2{five_times, counter};
  p1.join();
  p2.join();
  return counter.get();
}

}  // namespace

void explore(const Program& program) {
  mh::init(program.argc, program.argv);
  require(mh::explore(race).values().size() == 3, "the outcomes of the race");
  const auto all = mh::explore(increments);
  require(all.exhaustive() && all.values().size() == 9, "the outcomes of ten increments");
  report("the race of the talk", repeated(program.repeats, [] { return mh::explore(race); }));
  report("two times five increments", repeated(program.repeats, [] { return mh::explore(increments); }));
}

}  // namespace bench
