#pragma once
// What of the program's memory its zygote, and so each worker that is forked from it, has at the same place
// with the same content: memory mapped shared, and files mapped for reading, before the zygote was forked. A
// closure may capture pointers into it.

namespace manyhands::process {

// By the program, right before it forks the zygote. Reads /proc.
void note_mappings();

// Whether `address` lies in such memory, which has been neither unmapped nor made writable since. Reads
// /proc. Any thread.
bool is_inherited(const void* address);

}  // namespace manyhands::process
