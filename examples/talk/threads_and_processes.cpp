// Threads and processes side by side: what it costs to start one, and whose memory it sees.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <manyhands/multicore.hpp>
#include <thread>
#include <vector>

namespace mh = manyhands;

int counter = 0;  // of each process, one for all of its threads

// The median time to start `start()`'s thread or process and to see its end, in microseconds.
template <class Start>
double median_us(Start start) {
  std::vector<double> times;
  for (int i = 0; i < 101; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    start();
    times.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + 50, times.end());
  return times[50];
}

int main(int argc, char** argv) {
  mh::init(argc, argv);
  const double thread_us = median_us([] { std::jthread thread([] {}); });
  const double process_us = median_us([] { mh::Process process{[] {}}; });

  {
    std::jthread thread([] { counter = 1; });
  }
  const int after_thread = counter;
  counter = 0;
  {
    mh::Process process{[] { counter = 1; }};
  }
  const int after_process = counter;
  mh::Value<int> shared(0);
  {
    mh::Process process{[](mh::Value<int> value) { value = 1; }, shared};
  }

  std::printf("                               thread    process\n");
  std::printf("start and join, us         %10.0f %10.0f\n", thread_us, process_us);
  std::printf("a variable that it set     %10d %10d\n", after_thread, after_process);
  std::printf("an mh::Value that it set            - %10d\n", shared.get());
  std::printf("a crash ends              the program  the process\n");

  mh::Process crash{[] { std::abort(); }};
  crash.join();
  std::printf("\nthe crashed process has exit code %d; the program goes on\n", *crash.exit_code());
}
