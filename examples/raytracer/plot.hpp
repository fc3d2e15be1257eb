#pragma once
// A speedup plot as SVG: measured points, the ideal line, and the Amdahl curve of each executor.

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace raytracer {

struct Measured {
  int workers = 1;
  double speedup = 1;
};

struct Series {
  std::string name;
  std::vector<Measured> points;
  std::optional<double> serial_fraction;  // draws the curve 1 / (s + (1 - s) / n)
};

// A whole SVG document, 720 x 480, readable on light ground. The axes reach to the largest number of workers
// and a little beyond.
std::string speedup_svg(std::span<const Series> series, const std::string& title);

}  // namespace raytracer
