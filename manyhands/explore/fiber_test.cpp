#include "manyhands/explore/fiber.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace manyhands::exploring {
namespace {

// Two fibers and the thread, who pass the turn round.
struct Talk {
  Fiber root;
  Fiber first{64 * 1024};
  Fiber second{64 * 1024};
  std::string said;
};

TEST_CASE("fibers go on where they were left") {
  Talk talk;
  talk.first.start(
      [](void* context) {
        auto& t = *static_cast<Talk*>(context);
        for (int i = 0; i < 3; ++i) {
          t.said += "a" + std::to_string(i) + " ";
          t.first.switch_to(t.second);
        }
        return &t.second;
      },
      &talk);
  talk.second.start(
      [](void* context) {
        auto& t = *static_cast<Talk*>(context);
        for (int i = 0; i < 3; ++i) {
          t.said += "b" + std::to_string(i) + " ";
          t.second.switch_to(t.first);
        }
        return &t.root;
      },
      &talk);
  CHECK_FALSE(talk.first.ended());
  talk.root.switch_to(talk.first);
  CHECK(talk.said == "a0 b0 a1 b1 a2 b2 ");
  CHECK(talk.first.ended());
  CHECK(talk.second.ended());
}

TEST_CASE("a fiber that ended can be started again, many times") {
  Talk talk;
  int runs = 0;
  struct Context {
    Talk& talk;
    int& runs;
  } context{talk, runs};
  for (int i = 0; i < 100'000; ++i) {
    talk.first.start(
        [](void* c) {
          ++static_cast<Context*>(c)->runs;
          return &static_cast<Context*>(c)->talk.root;
        },
        &context);
    talk.root.switch_to(talk.first);
  }
  CHECK(runs == 100'000);
}

TEST_CASE("a fiber may be left inside of a catch block") {
  Talk talk;
  const auto body = [](void* context) -> Fiber* {
    auto& t = *static_cast<Talk*>(context);
    const bool is_first = t.said.empty();
    t.said += '.';
    Fiber& self = is_first ? t.first : t.second;
    try {
      throw std::runtime_error(is_first ? "first" : "second");
    } catch (const std::exception&) {
      self.switch_to(is_first ? t.second : t.first);
      try {
        std::rethrow_exception(std::current_exception());  // must be one's own
      } catch (const std::exception& e) {
        t.said += e.what();
        if (std::uncaught_exceptions() != 0) t.said += "?";
      }
    }
    return is_first ? &t.second : &t.root;
  };
  talk.first.start(body, &talk);
  talk.second.start(body, &talk);
  try {
    throw std::runtime_error("thread");
  } catch (const std::exception&) {
    talk.root.switch_to(talk.first);
    try {
      throw;
    } catch (const std::exception& e) {
      talk.said += e.what();
    }
  }
  CHECK(talk.said == "..firstsecondthread");
}

TEST_CASE("a fiber may be left while an exception passes by") {
  struct Leaves {
    Talk& talk;
    ~Leaves() {
      talk.said += std::to_string(std::uncaught_exceptions());
      talk.first.switch_to(talk.root);
      talk.said += std::to_string(std::uncaught_exceptions());
    }
  };
  Talk talk;
  talk.first.start(
      [](void* context) -> Fiber* {
        auto& t = *static_cast<Talk*>(context);
        try {
          const Leaves leaves{t};
          throw 1;
        } catch (int) {
          t.said += "caught";
        }
        return &t.root;
      },
      &talk);
  talk.root.switch_to(talk.first);
  talk.said += std::to_string(std::uncaught_exceptions());
  talk.root.switch_to(talk.first);
  CHECK(talk.said == "101caught");
}

[[gnu::noinline]] int deep(int depth) {
  volatile char frame[1024];
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? frame[0] : deep(depth - 1) + frame[0];
}

TEST_CASE("a stack that is too small faults and does not run into something else") {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGSEGV, SIG_DFL);
    Talk talk;
    talk.first.start(
        [](void* context) -> Fiber* {
          deep(10'000);
          return &static_cast<Talk*>(context)->root;
        },
        &talk);
    talk.root.switch_to(talk.first);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  const bool ended_normally = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  CHECK_FALSE(ended_normally);
}

}  // namespace
}  // namespace manyhands::exploring
