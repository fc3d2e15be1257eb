#pragma once
// Amdahl's law: how much faster a program can get, and what fraction of a measured one is serial.
// Source: G. M. Amdahl, "Validity of the single processor approach ..." (AFIPS 1967).

#include <limits>
#include <span>

namespace manyhands {

// The speedup that `workers` workers give a program of which the fraction `serial_fraction` (0 to 1) cannot
// be parallelised; by default with any number of workers: amdahl(1.0 / 20) == 20. Throws
// std::invalid_argument for a fraction outside [0, 1] or fewer than one worker.
double amdahl(double serial_fraction, double workers = std::numeric_limits<double>::infinity());

// One measured run.
struct Run {
  int workers;
  double seconds;
};

struct AmdahlFit {
  double serial_fraction;  // 0 to 1
  double serial_seconds;   // fitted time on one worker
  double limit;            // speedup with any number of workers; infinity for serial_fraction 0
  double seconds(int workers) const { return serial_seconds / amdahl(serial_fraction, workers); }
};

// Fits t(n) = t1 * (s + (1 - s) / n) to the runs by least squares of the relative error, s kept within [0,
// 1]. Throws std::invalid_argument unless there are runs with at least two different numbers of workers, all
// times positive.
AmdahlFit fit_amdahl(std::span<const Run> runs);

}  // namespace manyhands
