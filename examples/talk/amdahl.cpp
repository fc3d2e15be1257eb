// Amdahl's law: the talk's program of 20 hours, of which one cannot be parallelised, on paper and measured,
// an hour shortened to 60 ms. Its work is waiting, so that more workers than cores help.
#include <chrono>
#include <cstdio>
#include <manyhands/multicore.hpp>
#include <thread>
#include <vector>

namespace mh = manyhands;

constexpr std::chrono::milliseconds hour{60};

void serial_part() { std::this_thread::sleep_for(hour); }                // 1 hour
void quarter_of_an_hour(int) { std::this_thread::sleep_for(hour / 4); }  // 76 of them: 19 hours

int main(int argc, char** argv) {
  mh::init(argc, argv);
  std::printf("20 h, of which 1 h serial: speedup limited to %g\n\n", mh::amdahl(1.0 / 20));

  const std::vector<int> parallel_part(76);
  std::vector<mh::Run> runs;
  std::printf("workers  seconds  speedup  Amdahl's law\n");
  for (const int workers : {1, 2, 4, 8, 16}) {
    mh::Pool pool{workers};
    const auto start = std::chrono::steady_clock::now();
    serial_part();
    pool.map(quarter_of_an_hour, parallel_part);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    runs.push_back({workers, time.count()});
    std::printf("%7d  %7.3f  %7.2f  %12.2f\n", workers, time.count(), runs[0].seconds / time.count(),
                mh::amdahl(1.0 / 20, workers));
  }

  const mh::AmdahlFit fit = mh::fit_amdahl(runs);
  std::printf("\nserial fraction: %.1f %% fitted, 5 %% built in; speedup limited to %.1f\n",
              100 * fit.serial_fraction, fit.limit);
}
