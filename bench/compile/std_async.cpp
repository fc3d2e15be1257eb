#include <future>
#include <vector>

int main() {
  std::vector<std::future<double>> squares;
  for (int i = 0; i < 100; ++i) squares.push_back(std::async([](double x) { return x * x; }, 2.0));
  const double four = std::async([](double x) { return x * x; }, 2.0).get();
  return squares[0].get() == four ? 0 : 1;
}
