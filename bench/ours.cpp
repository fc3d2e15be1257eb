// manyhands_bench: our side of every benchmark.

#include "ours.hpp"

int main(int argc, char** argv) {
  using namespace bench;
  return run_side(argc, argv,
                  {{"create", create, 50},
                   {"create_first", create_first, 1},
                   {"map_processes", map_processes, 20},
                   {"map_threads", map_threads, 20},
                   {"tasks_processes", tasks_processes, 3},
                   {"tasks_threads", tasks_threads, 3},
                   {"apply", apply, 200},
                   {"bytes", bytes, 5},
                   {"death", death, 10},
                   {"idle_worker", idle_worker, 1},
                   {"endless_stream", endless_stream, 1},
                   {"locks", locks, 5},
                   {"array", array, 20},
                   {"queue", queue, 3},
                   {"explore", explore, 3}});
}
