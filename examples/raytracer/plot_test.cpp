#include "plot.hpp"

#include <doctest/doctest.h>

#include <algorithm>

namespace raytracer {
namespace {

// Whether every tag is closed in order and every quote ends; enough XML for what plot.cpp writes.
bool well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (std::size_t at = xml.find('<'); at != xml.npos; at = xml.find('<', at)) {
    const auto end = xml.find('>', at);
    if (end == xml.npos) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    at = end;
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0 || tag.find('<') != tag.npos) return false;
    if (tag.front() == '?') continue;
    if (tag.front() == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
  }
  return open.empty();
}

TEST_CASE("the plot is well-formed, names its axes and executors, and marks every measurement") {
  const std::vector<Series> series{{"serial", {{1, 1}}, {}}, {"threads", {{1, 1}, {2, 1.95}}, 0.02}};
  const auto svg = speedup_svg(series, "a <b> & \"c\"");
  CHECK(well_formed(svg));
  CHECK(svg.find("a &lt;b&gt; &amp; &quot;c&quot;") != svg.npos);
  CHECK(svg.find(">workers<") != svg.npos);
  CHECK(svg.find(">speedup over one worker<") != svg.npos);
  CHECK(svg.find("threads: serial fraction 2.00 %") != svg.npos);
  CHECK(svg.find("<polyline") != svg.npos);
  std::size_t rings = 0;
  for (auto at = svg.find("<circle cx=\"1"); at != svg.npos; at = svg.find("<circle cx=\"1", at + 1)) ++rings;
  CHECK(rings >= 1);
}

TEST_CASE("a plot without any measurement is still a plot") { CHECK(well_formed(speedup_svg({}, ""))); }

TEST_CASE("many workers keep the axis readable") {
  const auto svg = speedup_svg(std::vector<Series>{{"processes", {{1, 1}, {128, 90}}, 0.003}}, "t");
  std::size_t ticks = 0;
  for (auto at = svg.find("class=\"tick\""); at != svg.npos; at = svg.find("class=\"tick\"", at + 1)) ++ticks;
  CHECK(ticks <= 10);
}

}  // namespace
}  // namespace raytracer
