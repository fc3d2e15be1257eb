#pragma once
// Text that another process chose, for people to read: on a terminal, in a message.

#include <string>
#include <string_view>

namespace manyhands {

// `text` with everything as "\xNN" that is not to be seen but obeyed, by a terminal: control characters (C0,
// DEL, C1), marks that turn the direction of writing, and bytes that are no UTF-8. A backslash stays as it
// is.
std::string printable(std::string_view text);

}  // namespace manyhands
