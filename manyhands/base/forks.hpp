#pragma once
// forks(): tells a process from its forks, without a system call: for objects that are of no use in a copy of
// their process.

namespace manyhands {

// How many forks lie between the program's first process and this one. Any thread.
int forks() noexcept;

}  // namespace manyhands
