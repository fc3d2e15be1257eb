// peers_bench: the C++ peers' sides: a plain loop, OpenMP, oneTBB, std::async.

#include <omp.h>
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_group.h>
#include <tbb/version.h>

#include <cstdio>
#include <cstring>
#include <future>
#include <string>

#include "sides.hpp"

namespace bench {
namespace {

// ---- Squares of a million doubles, into a fresh vector as map returns one, or into an array that is there
// already.

void square_serial(const std::vector<double>& xs, std::vector<double>& ys) {
  for (std::size_t i = 0; i < xs.size(); ++i) ys[i] = xs[i] * xs[i];
}

void square_openmp(const std::vector<double>& xs, std::vector<double>& ys) {
  const std::size_t count = xs.size();
#pragma omp parallel for num_threads(workers)
  for (std::size_t i = 0; i < count; ++i) ys[i] = xs[i] * xs[i];
}

void square_onetbb(const std::vector<double>& xs, std::vector<double>& ys) {
  tbb::parallel_for(tbb::blocked_range<std::size_t>(0, xs.size()),
                    [&](const tbb::blocked_range<std::size_t>& range) {
                      for (std::size_t i = range.begin(); i != range.end(); ++i) ys[i] = xs[i] * xs[i];
                    });
}

void map_with(void (*square)(const std::vector<double>&, std::vector<double>&), const std::string& row,
              int repeats) {
  const std::vector<double> xs = make_doubles(map_items);
  report(row, repeated(repeats, [&] {
           std::vector<double> ys(xs.size());
           square(xs, ys);
           return ys;
         }));
  std::vector<double> there(xs.size());
  report(row + ", array given", repeated(repeats, [&] {
           square(xs, there);
           return there.data();
         }));
}

void map_serial(const Program& program) { map_with(square_serial, "serial C++", program.repeats); }
void map_openmp(const Program& program) { map_with(square_openmp, "OpenMP parallel for", program.repeats); }
void map_onetbb(const Program& program) {
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, workers);
  map_with(square_onetbb, "oneTBB parallel_for", program.repeats);
}

// ---- Tasks that do nothing.

void report_per_task(std::string_view row, Samples samples, int tasks) {
  for (double& seconds : samples) seconds /= tasks;
  report(row, samples);
}

void tasks_async(const Program& program) {
  constexpr int tasks = 2'000;  // each is a thread
  report_per_task("std::async",
                  repeated(program.repeats,
                           [] {
                             std::vector<std::future<void>> results;
                             results.reserve(tasks);
                             for (int i = 0; i < tasks; ++i)
                               results.push_back(std::async(std::launch::async, [] {}));
                             for (auto& result : results) result.get();
                             return results;
                           }),
                  tasks);
}

void tasks_onetbb(const Program& program) {
  constexpr int tasks = 100'000;
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, workers);
  report_per_task("oneTBB task_group (no results)",
                  repeated(program.repeats,
                           [] {
                             tbb::task_group group;
                             for (int i = 0; i < tasks; ++i) group.run([] {});
                             return group.wait();
                           }),
                  tasks);
}

// ---- 100 MB there and back, as one core copies it within a process: a floor, not a peer.

void bytes_memcpy(const Program& program) {
  const std::vector<double> array = make_doubles(array_items);
  report("two copies on one core", repeated(program.repeats, [&] {
           const std::vector<double> there = array;
           std::vector<double> back = there;
           return back;
         }));
}

void versions(const Program&) { std::printf("%s\n", TBB_runtime_version()); }

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return run_side(argc, argv,
                  {{"map_serial", map_serial, 20},
                   {"map_openmp", map_openmp, 20},
                   {"map_onetbb", map_onetbb, 20},
                   {"tasks_async", tasks_async, 3},
                   {"tasks_onetbb", tasks_onetbb, 3},
                   {"bytes_memcpy", bytes_memcpy, 5},
                   {"versions", versions, 1}});
}
