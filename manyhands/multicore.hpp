#pragma once
// The users' header for one machine: pools of threads and of processes.
//
//   namespace mh = manyhands;
//   int main(int argc, char** argv) {
//     mh::init(argc, argv);
//     mh::Pool pool{4};
//     auto squares = pool.map([](double x) { return x * x; }, xs);
//   }

#include "manyhands/base/cores.hpp"
#include "manyhands/explore/explore.hpp"
#include "manyhands/process/init.hpp"
#include "manyhands/process/pipe.hpp"
#include "manyhands/process/pool.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/process/queue.hpp"
#include "manyhands/process/shared_codec.hpp"
#include "manyhands/shm/array.hpp"
#include "manyhands/shm/barrier.hpp"
#include "manyhands/shm/condition.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/lock_guards.hpp"
#include "manyhands/shm/named_array.hpp"
#include "manyhands/shm/semaphore.hpp"
#include "manyhands/shm/value.hpp"
#include "manyhands/task/executor.hpp"
#include "manyhands/task/progress.hpp"
#include "manyhands/task/scaling.hpp"
#include "manyhands/task/this_task.hpp"
#include "manyhands/threads/thread_pool.hpp"
