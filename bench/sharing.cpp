// What crosses from process to process without a copy, and what goes through a queue.

#include <manyhands/multicore.hpp>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

constexpr int values = 1'000'000;
constexpr int trips = 20'000;

mh::Array<double> change_one(mh::Array<double> array) {
  array[0] += 1;
  return array;
}

void produce(mh::Queue<int> queue) {
  for (int i = 0; i < values; ++i) queue.put(i);
}

void echo(mh::Queue<int> in, mh::Queue<int> out) {
  for (const int value : in) out.put(value);
}

}  // namespace

void array(const Program& program) {
  mh::init(program.argc, program.argv);
  mh::Pool pool{workers};
  mh::Array<double> shared(array_items);
  for (double& x : shared) x = 1;
  report("ours", repeated(program.repeats, [&] { return pool.apply(change_one, shared); }));
  mh::Array<double> squares(map_items);
  const mh::Array<double> items = mh::Array<double>::of(make_doubles(map_items));
  report("map_into: ours", repeated(program.repeats, [&] {
           return pool.map_into([](double x) { return x * x; }, items, squares);
         }));
}

void queue(const Program& program) {
  mh::init(program.argc, program.argv);
  Samples seconds;
  for (int i = 0; i < program.repeats; ++i) {
    mh::Queue<int> queue;
    mh::Process producer{produce, queue};
    long sum = queue.get();  // it is there
    const auto begin = Clock::now();
    for (int n = 1; n < values; ++n) sum += queue.get();
    seconds.push_back(seconds_since(begin) / (values - 1));
    require(sum == long{values} * (values - 1) / 2, "the sum");
  }
  report("through: ours", seconds);

  mh::Queue<int> there;
  mh::Queue<int> back;
  mh::Process other{echo, there, back};
  Samples round_trips = repeated(program.repeats, [&] {
    for (int i = 0; i < trips; ++i) {
      there.put(i);
      require(back.get() == i, "the echo");
    }
    return 0;
  });
  for (double& sample : round_trips) sample /= trips;
  report("there and back: ours", round_trips);
  there.close();
}

}  // namespace bench
