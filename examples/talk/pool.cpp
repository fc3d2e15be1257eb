// The talk's pool: f works for 0.1 to 0.2 s, and is mapped over ten numbers by the program itself and by
// pools of several sizes. Workers that wait need no core: sixteen of them help on any machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <manyhands/multicore.hpp>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
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

  std::printf("best of 3             the talk      here  results\n");
  const double serial = timeit([&] { std::transform(nums.begin(), nums.end(), squares.begin(), f); });
  std::printf("         map(f, nums) %6.3f s  %6.3f s\n", 1.37, serial);

  const std::vector<std::pair<int, double>> talk{{1, 1.27}, {6, 0.281}, {10, 0.194}, {16, 0.186}};
  for (const auto& [workers, talk_seconds] : talk) {
    mh::Pool pool{workers};
    const double seconds = timeit([&] { squares = pool.map(f, nums); });
    std::printf("Pool(%2d).map(f, nums) %6.3f s  %6.3f s ", workers, talk_seconds, seconds);
    for (const int square : squares) std::printf(" %d", square);
    std::printf("\n");
  }
}
