#include <tbb/parallel_for.h>
#include <tbb/task_group.h>
#include <vector>

int main() {
  std::vector<double> squares(100, 2.0);
  double four = 0;
  tbb::parallel_for(std::size_t{0}, squares.size(), [&](std::size_t i) { squares[i] *= squares[i]; });
  tbb::task_group().run_and_wait([&] { four = 2.0 * 2.0; });
  return squares[0] == four ? 0 : 1;
}
