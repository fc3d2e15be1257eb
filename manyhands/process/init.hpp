#pragma once
// mh::init: the first line of main in programs that use worker processes.

#include "manyhands/process/interrupt.hpp"

namespace manyhands {

struct InitOptions {
  OnInterrupt on_interrupt =
      OnInterrupt::end_program;  // what Ctrl-C does while the program waits for workers
};

// Prepares this program for worker processes: starts the zygote from which they are forked, while the program
// is small and has one thread. In a process that was started to be a worker (Start::spawn) it does not
// return.
//
// Optional for pools made before any other thread runs; needed for Start::spawn. A second call changes the
// options only. Throws Error if other threads run. Call it before anything that a worker should not repeat.
void init(int argc, char** argv, const InitOptions& options = {});

namespace process {
// Whether init() was called.
bool initialized() noexcept;
}  // namespace process

}  // namespace manyhands
