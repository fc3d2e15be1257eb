#include <manyhands/multicore.hpp>
#include <vector>

int main(int argc, char** argv) {
  manyhands::init(argc, argv);
  manyhands::Pool pool{2};
  const std::vector<double> squares = pool.map([](double x) { return x * x; }, std::vector<double>(100, 2.0));
  const double four = pool.apply([](double x) { return x * x; }, 2.0);
  return squares[0] == four ? 0 : 1;
}
