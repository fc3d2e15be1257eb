#pragma once
// mh::init: the first line of main in programs that use worker processes.

#include "manyhands/process/interrupt.hpp"

namespace manyhands {

struct InitOptions {
  // What Ctrl-C does while the program waits for workers.
  OnInterrupt on_interrupt = OnInterrupt::end_program;
};

// Prepares this program for worker processes: starts the zygote from which they are forked, while the program
// is small and has one thread. In a process that was started to be a worker (Start::spawn) it does not
// return.
//
// Optional for pools made before any other thread runs; needed for Start::spawn. A second call changes the
// options only. Throws Error if other threads run. Call it before anything that a worker should not repeat.
void init(int argc, char** argv, const InitOptions& options = {});

// init() for a library that uses worker processes inside of a program of somebody else's, whose main it
// cannot change: a plugin, a module of Python. Any time, any thread, whatever other threads run; before the
// first pool or process. A second call changes the options only.
//
// The zygote is then no copy of the program: the program's file is started anew with this library alone,
// whose constructors run, while those of the program and its main do not. So tasks must be functions of this
// library or of what it is linked with, and see its global variables as its constructors leave them, with
// every start method; Start::fork is refused where other threads run. manyhands must be linked statically
// into the library, which is not unloaded any more. Error if its file cannot be found or preloaded.
void init_in_host(const InitOptions& options = {});

namespace process {
// Whether init() was called.
bool initialized() noexcept;
}  // namespace process

}  // namespace manyhands
