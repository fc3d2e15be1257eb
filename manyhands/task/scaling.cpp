#include "manyhands/task/scaling.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace manyhands {

double amdahl(double serial_fraction, double workers) {
  if (!(serial_fraction >= 0 && serial_fraction <= 1)) {
    throw std::invalid_argument(
        fmt::format("amdahl: the serial fraction must lie between 0 and 1, not {}", serial_fraction));
  }
  if (!(workers >= 1))
    throw std::invalid_argument(fmt::format("amdahl: at least one worker is needed, not {}", workers));
  return 1 / (serial_fraction + (1 - serial_fraction) / workers);
}

// With weights 1 / t the model t = a + b / n is linear: minimise the sum of ((a + b / n) / t - 1)^2, then s =
// a / (a + b).
AmdahlFit fit_amdahl(std::span<const Run> runs) {
  double one = 0;
  double inverse = 0;
  double inverse2 = 0;
  double rhs_a = 0;
  double rhs_b = 0;
  for (const Run& run : runs) {
    if (run.workers < 1 || !(run.seconds > 0)) {
      throw std::invalid_argument(
          fmt::format("fit_amdahl: a run with {} workers and {} s cannot be", run.workers, run.seconds));
    }
    const double x = 1.0 / run.workers;
    const double w = 1 / run.seconds;
    one += w * w;
    inverse += w * w * x;
    inverse2 += w * w * x * x;
    rhs_a += w;
    rhs_b += w * x;
  }
  const double determinant = one * inverse2 - inverse * inverse;
  if (!(std::abs(determinant) > 1e-12 * one * inverse2)) {
    throw std::invalid_argument("fit_amdahl: runs with at least two different numbers of workers are needed");
  }
  double a = (rhs_a * inverse2 - rhs_b * inverse) / determinant;
  double b = (rhs_b * one - rhs_a * inverse) / determinant;
  if (a < 0) {  // faster than linear: the best fit within the law has no serial part
    a = 0;
    b = rhs_b / inverse2;
  } else if (b < 0) {
    b = 0;
    a = rhs_a / one;
  }
  const double fraction = std::clamp(a / (a + b), 0.0, 1.0);
  return {.serial_fraction = fraction, .serial_seconds = a + b, .limit = amdahl(fraction)};
}

}  // namespace manyhands
