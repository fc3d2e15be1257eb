#pragma once
// The sides of manyhands_bench, one per way to use the toolkit. Each calls mh::init itself, for some must do
// something before it or measure it.

#include "sides.hpp"

namespace bench {

void create(const Program& program);  // create.cpp
void create_first(const Program& program);
void map_processes(const Program& program);  // map.cpp
void map_threads(const Program& program);
void tasks_processes(const Program& program);  // tasks.cpp
void tasks_threads(const Program& program);
void apply(const Program& program);        // apply.cpp
void bytes(const Program& program);        // bytes.cpp
void death(const Program& program);        // death.cpp
void idle_worker(const Program& program);  // memory.cpp
void endless_stream(const Program& program);
void locks(const Program& program);  // locks.cpp
void array(const Program& program);  // sharing.cpp
void queue(const Program& program);
void explore(const Program& program);  // explore.cpp

}  // namespace bench
