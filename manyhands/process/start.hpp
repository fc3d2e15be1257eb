#pragma once

namespace manyhands {

// Where processes come from.
enum class Start {
  zygote,  // forked from the zygote: fast, whatever the program has become (default)
  fork,    // forked from the caller at each call: any closure works, each call pays for the forks
  spawn,   // the program started anew: nothing inherited; needs mh::init
};

}  // namespace manyhands
