// The talk's pool: f works for 0.1 to 0.2 s, and is mapped over ten numbers by the program itself and by
// pools of several sizes. Workers that wait need no core: sixteen of them help on any machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <manyhands/multicore.hpp>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

namespace mh = manyhands;

int f(int x) {
  thread_local std::mt19937 random(
      std::random_device{}());  // seeded at each worker's first call: no two alike
  std::this_thread::sleep_for(
      std::chrono::duration<double>(std::uniform_real_distribution(0.1, 0.2)(random)));
  return x * x;
}

// Seconds of the best of three runs, as Python's %timeit has it.
template <class Run>
double timeit(Run run) {
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

int main(int argc, char** argv) {
  mh::init(argc, argv);
  std::vector<int> nums(10);
  std::iota(nums.begin(), nums.end(), 0);
  std::vector<int> squares(nums.size());

  std::printf("%-18s %10s %10s\n", "best of 3", "the talk", "here");
  const double serial = timeit([&] { std::transform(nums.begin(), nums.end(), squares.begin(), f); });
  std::printf("%-18s %8.2f s %8.3f s\n", "map(f, nums)", 1.37, serial);

  struct Row {
    int workers;
    double talk;
  };
  for (const auto [workers, talk] : {Row{1, 1.27}, Row{6, 0.281}, Row{10, 0.194}, Row{16, 0.186}}) {
    mh::Pool pool{workers};
    const double seconds = timeit([&] { squares = pool.map(f, nums); });
    std::printf("pool%-2d.map(f, nums) %6.3f s %8.3f s  ", workers, talk, seconds);
    for (const int square : squares) std::printf(" %d", square);
    std::printf("\n");
  }
}
