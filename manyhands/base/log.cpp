#include "manyhands/base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace manyhands::log {
namespace {

// One logger for the process, made with the first line; a program's own spdlog set-up is not touched.
spdlog::logger& logger() {
  static const auto instance = [] {
    auto made =
        std::make_shared<spdlog::logger>("manyhands", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    const char* wanted = std::getenv("MANYHANDS_LOG");
    made->set_level(wanted == nullptr ? spdlog::level::warn : spdlog::level::from_str(wanted));
    made->set_pattern("manyhands: %v");
    return made;
  }();
  return *instance;
}

}  // namespace

void debug(std::string_view text) { logger().debug("{}", text); }
void info(std::string_view text) { logger().info("{}", text); }
void warn(std::string_view text) { logger().warn("{}", text); }

}  // namespace manyhands::log
