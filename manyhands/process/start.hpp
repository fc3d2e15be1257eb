#pragma once

#include "manyhands/wire/callable.hpp"

namespace manyhands {

// Where processes come from.
enum class Start {
  zygote,  // forked from the zygote: fast, whatever the program has become (default)
  fork,    // forked from the caller at each call: any closure works, each call pays for the forks
  spawn,   // the program started anew: nothing inherited; needs mh::init
};

namespace process {

// What such a process has of its starter's memory.
constexpr wire::Reach reach_of(Start start) noexcept {
  return start == Start::fork     ? wire::Reach::forked_now
         : start == Start::zygote ? wire::Reach::forked_before
                                  : wire::Reach::same_program;
}

}  // namespace process

}  // namespace manyhands
