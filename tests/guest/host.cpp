// A program of somebody else's, which knows nothing of manyhands, has threads, and loads a library that uses
// it.
//
//   host LIBRARY    calls each test in the library from main and from a thread; exits with 0 if all hold

#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

// Only the program itself may come here: a copy would count as a second main.
struct Announcement {
  Announcement() { std::puts("the host's constructors"); }
} announcement;

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::puts("the host's main");
  std::fflush(stdout);
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i) {
    others.emplace_back([&] {
      while (!stop) std::free(std::malloc(4096));  // holds the allocator's lock much of the time
    });
  }
  int failed = 1;
  if (void* const library = ::dlopen(argv[1], RTLD_NOW | RTLD_LOCAL); library == nullptr) {
    std::fprintf(stderr, "%s\n", ::dlerror());
  } else {
    const auto run = reinterpret_cast<int (*)()>(::dlsym(library, "run_guest"));
    failed = run();
    std::thread elsewhere([&] { failed += run(); });
    elsewhere.join();
    ::dlclose(library);
  }
  stop = true;
  for (auto& other : others) other.join();
  return failed == 0 ? 0 : 1;
}
