#pragma once
// Small scenes for the tests, as text, and a folder to put them in.

#include <fmt/format.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace raytracer::test {

// A folder of its own, removed at the end.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "raytracer-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  // Writes a file and returns its path.
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream{path_ / name, std::ios::binary} << text;
    return (path_ / name).string();
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

// A unit sphere about the origin with smooth normals. It must stand first in its file.
inline std::string unit_sphere() {
  constexpr int rings = 24, segments = 48;
  std::string text;
  for (int i = 0; i <= rings; ++i) {
    for (int j = 0; j < segments; ++j) {
      const double t = M_PI * i / rings, p = 2 * M_PI * j / segments;
      const auto xyz = fmt::format("{:.6f} {:.6f} {:.6f}", std::sin(t) * std::cos(p), std::cos(t),
                                   std::sin(t) * std::sin(p));
      text += fmt::format("v {0}\nvn {0}\n", xyz);
    }
  }
  for (int i = 0; i < rings; ++i) {
    for (int j = 0; j < segments; ++j) {
      const int a = i * segments + j + 1, b = i * segments + (j + 1) % segments + 1;
      if (i > 0) text += fmt::format("f {0}//{0} {1}//{1} {2}//{2}\n", a, b, b + segments);
      if (i < rings - 1) text += fmt::format("f {0}//{0} {1}//{1} {2}//{2}\n", a, b + segments, a + segments);
    }
  }
  return text;
}

// A square of side 2 r about (0, y, 0) that faces up or, for a negative r, down.
inline std::string level_square(double r, double y) {
  return fmt::format("v {1} {2} {0}\nv {0} {2} {0}\nv {0} {2} {1}\nv {1} {2} {1}\nf {3}\n", std::abs(r),
                     -std::abs(r), y, r > 0 ? "-4 -3 -2 -1" : "-1 -2 -3 -4");
}

}  // namespace raytracer::test
