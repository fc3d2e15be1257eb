// Many small tasks in flight: what one costs.

#include <manyhands/multicore.hpp>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

constexpr int task_count = 100'000;

template <class Executor>
void tasks_on(Executor& executor, std::string_view row, int repeats) {
  const auto submit_and_get = [&] {
    std::vector<mh::AsyncResult<void>> results;
    results.reserve(task_count);
    for (int i = 0; i < task_count; ++i) results.push_back(executor.apply_async([] {}));
    for (auto& result : results) result.get();
    return results;
  };
  Samples samples = repeated(repeats, submit_and_get);
  for (double& seconds : samples) seconds /= task_count;
  report(row, samples);
}

}  // namespace

void tasks_processes(const Program& program) {
  mh::init(program.argc, program.argv);
  mh::Pool pool{workers};
  tasks_on(pool, "ours, processes", program.repeats);
}

void tasks_threads(const Program& program) {
  mh::ThreadPool pool{workers};
  tasks_on(pool, "ours, threads", program.repeats);
}

}  // namespace bench
