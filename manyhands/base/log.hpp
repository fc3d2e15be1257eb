#pragma once
// What manyhands says on standard error beside its exceptions: rare, one line each.
//
// MANYHANDS_LOG=debug|info|warn|off chooses how much; the default is warn. Any thread.

#include <string_view>

namespace manyhands::log {

void debug(std::string_view text);
void info(std::string_view text);
void warn(std::string_view text);

}  // namespace manyhands::log
