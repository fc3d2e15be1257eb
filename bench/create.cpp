// Creating and destroying a pool.

#include <manyhands/multicore.hpp>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

int nothing(int x) { return x; }

int create_and_destroy() {
  mh::Pool pool{workers};
  return pool.size();
}

// As the peers that must run a task before their workers exist.
int create_use_and_destroy() {
  mh::Pool pool{workers};
  return pool.apply(nothing, 1);
}

}  // namespace

void create(const Program& program) {
  mh::init(program.argc, program.argv);
  report("ours", repeated(program.repeats, create_and_destroy));
  report("ours, with a task", repeated(program.repeats, create_use_and_destroy));
}

// What the first pool of a program costs: the zygote is started, too.
void create_first(const Program& program) {
  report("ours, first in program", {seconds_of([&] {
           mh::init(program.argc, program.argv);
           return create_and_destroy();
         })});
}

}  // namespace bench
