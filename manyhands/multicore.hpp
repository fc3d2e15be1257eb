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
#include "manyhands/process/init.hpp"
#include "manyhands/process/pool.hpp"
#include "manyhands/task/executor.hpp"
#include "manyhands/task/progress.hpp"
#include "manyhands/task/scaling.hpp"
#include "manyhands/task/this_task.hpp"
#include "manyhands/threads/thread_pool.hpp"
