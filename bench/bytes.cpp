// A large array to a worker and back.

#include <manyhands/multicore.hpp>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

std::vector<double> same(std::vector<double> values) { return values; }

}  // namespace

void bytes(const Program& program) {
  mh::init(program.argc, program.argv);
  mh::Pool pool{workers};
  const std::vector<double> array = make_doubles(array_items);
  const auto there_and_back = [&] { return pool.apply(same, array); };
  require(there_and_back() == array, "the array that came back");
  report("ours", repeated(program.repeats, there_and_back));
}

}  // namespace bench
