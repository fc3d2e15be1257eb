#pragma once
// FreshStart: this program started anew, to be a process of ours: a worker or process with Start::spawn, or
// the zygote of a library.
//
// Usually mh::init in the program's main diverts it. A library that somebody else's program has loaded has no
// part in its main: there the fresh program loads this library before all others (LD_PRELOAD), whose last
// constructor diverts it. Then neither the program's main nor its constructors run.

#include <initializer_list>
#include <string>
#include <vector>

namespace manyhands::process {

class FreshStart {
 public:
  // It will have `argument`, the descriptors `fds`, the program's shared memory, and the environment as it is
  // now.
  FreshStart(std::string argument, std::initializer_list<int> fds);

  // Async-signal-safe. Returns, with errno, only if it fails.
  void exec() const noexcept;

 private:
  std::vector<std::string> arguments_;
  std::vector<std::string> environment_;
  std::vector<char*> argv_;
  std::vector<char*> envp_;
  std::vector<int> fds_;
};

// This process's main is not ours: from now on fresh starts load the library that holds this function. It
// stays loaded until the process ends. Error if that cannot be done, with the reason.
void start_as_guest();
// Whether that was called, here or in the process that started this one.
bool is_guest() noexcept;

// Becomes what the argument of a fresh start names, and never returns; returns if it is none (init.cpp).
void become(const char* argument);

}  // namespace manyhands::process
