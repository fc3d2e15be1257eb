#pragma once
// The standard output streams before a fork and at a process's end: what they have buffered is written once.

namespace manyhands {

// Writes out what stdio's streams and std::cout, cerr, clog and their wide forms hold, which have buffers of
// their own after std::ios::sync_with_stdio(false). Before a fork, so that a copy of the buffers does not
// write it again, and before _exit(). Does not throw.
void flush_streams() noexcept;
// As above, for standard output and std::clog alone; cheap if there is nothing.
void flush_standard_output() noexcept;

}  // namespace manyhands
