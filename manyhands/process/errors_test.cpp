#include "manyhands/process/errors.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <string>

namespace manyhands {
namespace {

TEST_CASE("a death is told with signal, task, attempt and memory") {
  const WorkerDied killed({.pid = 77,
                           .worker = 1,
                           .task = 3,
                           .in_map = true,
                           .attempt = 2,
                           .signal = SIGSEGV,
                           .peak_memory = 12 << 20});
  CHECK(std::string(killed.what()) ==
        "worker 1 (pid 77) was killed by SIGSEGV (Segmentation fault) while it ran item 3 (attempt 2); its "
        "memory had grown to 12 MiB");
  const WorkerDied exited({.pid = 78, .worker = 0, .task = 5, .exit_code = 3});
  CHECK(
      std::string(exited.what()) ==
      "worker 0 (pid 78) ended itself with exit status 3 while it ran task 5; its memory had grown to 0 MiB");
  const WorkerDied starved({.pid = 79,
                            .worker = 0,
                            .signal = SIGKILL,
                            .out_of_memory = true,
                            .peak_memory = std::uint64_t{3} << 30});
  CHECK(std::string(starved.what()).find("ran out of memory") != std::string::npos);
}

TEST_CASE("the stack names this program's functions and says where others lie") {
  const auto here = wire::function_at(reinterpret_cast<const void*>(&signal_text));
  CHECK(WorkerDied({.stack = {{here.module, here.offset + 8}}}).stack().find("signal_text") !=
        std::string::npos);
  CHECK(WorkerDied({.stack = {{wire::BuildId{}, 0x10}}}).stack().find("0x10 in build") != std::string::npos);
  CHECK(WorkerDied(Death{}).stack().empty());
}

TEST_CASE("signals have names") {
  CHECK(signal_text(SIGKILL) == "SIGKILL (Killed)");
  CHECK(signal_text(1000) == "signal 1000");
}

}  // namespace
}  // namespace manyhands
