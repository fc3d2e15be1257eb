#include "plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

namespace raytracer {
namespace {

constexpr double left = 70, right = 690, top = 62, bottom = 410;
constexpr std::array<std::string_view, 5> colours{"#1f5fa8", "#d1602b", "#2f8a4d", "#8b4fa3", "#8a6d1f"};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

// Both axes count from 0 to the same end, so that the ideal is the diagonal.
struct Axes {
  double end;

  double x(double workers) const { return left + (right - left) * workers / end; }
  double y(double speedup) const { return bottom - (bottom - top) * speedup / end; }
};

std::string grid(const Axes& axes, int last) {
  std::string svg;
  auto out = std::back_inserter(svg);
  const int step = std::max(1, (last + 7) / 8);
  for (int n = 0; n <= last; n += step) {
    fmt::format_to(out,
                   R"svg(<line x1="{0:.1f}" y1="{1:.1f}" x2="{2:.1f}" y2="{1:.1f}" class="grid"/>)svg"
                   "\n",
                   left, axes.y(n), right);
    fmt::format_to(out,
                   R"svg(<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)svg"
                   "\n",
                   left - 10, axes.y(n) + 5, n);
    fmt::format_to(out,
                   R"svg(<line x1="{0:.1f}" y1="{1}" x2="{0:.1f}" y2="{2}" class="tick"/>)svg"
                   "\n",
                   axes.x(n), bottom, bottom + 6);
    fmt::format_to(out,
                   R"svg(<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>)svg"
                   "\n",
                   axes.x(n), bottom + 23, n);
  }
  return svg;
}

std::string curve(const Axes& axes, double serial_fraction, std::string_view colour) {
  std::string points;
  for (int i = 0; i <= 100; ++i) {
    const double n = 1 + (axes.end - 1) * i / 100;
    const double speedup = 1 / (serial_fraction + (1 - serial_fraction) / n);
    fmt::format_to(std::back_inserter(points), "{:.1f},{:.1f} ", axes.x(n), axes.y(speedup));
  }
  points.pop_back();
  return fmt::format(R"svg(<polyline points="{}" fill="none" stroke="{}" stroke-width="1.8"/>)svg"
                     "\n",
                     points, colour);
}

std::string label_of(const Series& series) {
  if (!series.serial_fraction) return escaped(series.name);
  return fmt::format("{}: serial fraction {:.2f} %", escaped(series.name), *series.serial_fraction * 100);
}

}  // namespace

std::string speedup_svg(std::span<const Series> series, const std::string& title) {
  int last = 1;
  double highest = 1;
  for (const Series& s : series) {
    for (const Measured& m : s.points) {
      last = std::max(last, m.workers);
      highest = std::max(highest, m.speedup);
    }
  }
  const Axes axes{std::max(last, static_cast<int>(highest)) + 0.5};
  std::string svg = R"svg(<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 480" width="720" height="480">
<style>
text { font: 14px sans-serif; fill: #333 }
.title { font-size: 17px; font-weight: 600 }
.grid { stroke: #e3e3e3 }
.tick { stroke: #777 }
</style>
<rect width="720" height="480" fill="#fdfdfc"/>
)svg";
  auto out = std::back_inserter(svg);
  fmt::format_to(out,
                 R"svg(<text class="title" x="{}" y="34">{}</text>)svg"
                 "\n",
                 left, escaped(title));
  svg += grid(axes, static_cast<int>(axes.end));
  fmt::format_to(out,
                 R"svg(<path d="M{0} {1} V{2} H{3}" fill="none" stroke="#777"/>)svg"
                 "\n",
                 left, top, bottom, right);
  fmt::format_to(out,
                 R"svg(<text x="{:.1f}" y="{:.1f}" text-anchor="middle">workers</text>)svg"
                 "\n",
                 (left + right) / 2, bottom + 50);
  fmt::format_to(
      out,
      R"svg(<text transform="translate({:.1f} {:.1f}) rotate(-90)" text-anchor="middle">speedup over one worker</text>)svg"
      "\n",
      left - 42, (top + bottom) / 2);
  fmt::format_to(
      out,
      R"svg(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="#999" stroke-dasharray="6 5"/>)svg"
      "\n",
      axes.x(0), axes.y(0), axes.x(axes.end), axes.y(axes.end));
  double legend = top + 16;
  const auto legend_line = [&](std::string_view mark, std::string_view text) {
    fmt::format_to(out,
                   R"svg(<g transform="translate({:.1f} {:.1f})">{}<text x="34" y="5">{}</text></g>)svg"
                   "\n",
                   left + 20, legend, mark, text);
    legend += 23;
  };
  legend_line(R"svg(<line x2="24" stroke="#999" stroke-dasharray="6 5"/>)svg", "ideal");
  for (std::size_t i = 0; i < series.size(); ++i) {
    const auto colour = colours[i % colours.size()];
    if (series[i].serial_fraction) svg += curve(axes, *series[i].serial_fraction, colour);
    for (const Measured& m : series[i].points) {
      // Executors often lie on each other: rings of different size stay apart.
      fmt::format_to(
          out,
          R"svg(<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="#fdfdfc" fill-opacity="0.4" stroke="{}" stroke-width="2.2"/>)svg"
          "\n",
          axes.x(m.workers), axes.y(m.speedup), 4 + 3 * static_cast<int>(i % 3), colour);
    }
    legend_line(
        fmt::format(
            R"svg(<line x2="24" stroke="{0}" stroke-width="1.8"/><circle cx="12" r="4" fill="#fdfdfc" stroke="{0}" stroke-width="2.2"/>)svg",
            colour),
        label_of(series[i]));
  }
  return svg + "</svg>\n";
}

}  // namespace raytracer
