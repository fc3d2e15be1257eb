#include "manyhands/base/own_thread.hpp"

#include <doctest/doctest.h>

#include <atomic>

namespace manyhands {
namespace {

TEST_CASE("our own threads are not foreign, the program's are") {
  const int before = foreign_threads();  // a sanitizer may run one
  std::atomic<bool> end{false};
  const auto body = [&] {
    while (!end) std::this_thread::yield();
  };
  {
    const OwnThread own(body);
    CHECK(foreign_threads() == before);
    {
      std::jthread other(body);
      CHECK(foreign_threads() == before + 1);
      end = true;
    }
  }
  CHECK(foreign_threads() == before);
}

TEST_CASE("starting and joining many times leaves no count behind") {
  const int before = foreign_threads();
  for (int i = 0; i < 50; ++i) {
    OwnThread thread([] {});
    CHECK(thread.running());
    thread.join();
    CHECK_FALSE(thread.running());
  }
  CHECK(foreign_threads() == before);
}

}  // namespace
}  // namespace manyhands
