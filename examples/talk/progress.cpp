// A map with a progress bar: drawn over itself on a terminal, plain lines elsewhere (try it with 2>log).
#include <chrono>
#include <cstdio>
#include <manyhands/multicore.hpp>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

namespace mh = manyhands;
using namespace std::chrono_literals;

int f(int x) {
  thread_local std::mt19937 random(std::random_device{}());
  std::this_thread::sleep_for(
      std::chrono::duration<double>(std::uniform_real_distribution(0.1, 0.2)(random)));
  return x * x;
}

int main(int argc, char** argv) {
  mh::init(argc, argv);
  std::vector<int> nums(100);
  std::iota(nums.begin(), nums.end(), 0);

  mh::Pool pool{8};
  const auto squares = pool.map(f, nums, {.progress = mh::progress_bar("squares", {.line_every = 500ms})});

  std::printf("the sum of %zu squares is %d\n", squares.size(),
              std::accumulate(squares.begin(), squares.end(), 0));
}
