// An array that processes share: a process writes into the program's own memory; nothing is copied.
#include <algorithm>
#include <cstdio>
#include <manyhands/multicore.hpp>
#include <numeric>

namespace mh = manyhands;

void f(mh::Array<double> a) { a[0] = std::accumulate(a.begin(), a.end(), 0.0); }

int main(int argc, char** argv) {
  mh::init(argc, argv);
  mh::Array<double> a(1'000'000);
  std::iota(a.begin(), a.end(), 0.0);
  std::printf("%.0f %.0f %.0f ... %.0f\n", a[0], a[1], a[2], a[999'999]);

  mh::Process p1{f, a};
  p1.join();
  std::printf("%.0f %.0f %.0f ... %.0f\n", a[0], a[1], a[2], a[999'999]);

  double expected = 1;
  const bool rest = std::all_of(a.begin() + 1, a.end(), [&](double x) { return x == expected++; });
  std::printf("the rest is untouched: %s\n", rest ? "yes" : "no");

  // Slices are handles, too: eight tasks, each on its part, in place.
  mh::Pool pool;
  pool.map([](mh::Array<double> part) { std::fill(part.begin(), part.end(), 1.0); }, a.split(8));
  std::printf("after eight tasks in place, the sum is %.0f\n", std::accumulate(a.begin(), a.end(), 0.0));
}
